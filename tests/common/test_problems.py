"""One shape for every mistake, whichever framework meets it; no mistake costs an answer."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings
from structlog.testing import capture_logs

from app.common.handler import LazyHandler
from app.telemetry.context import bind_request_id
from tests.support.exchange import Answer, Call, exchange, run

FRAMEWORKS = ["drf", "hot", "service", "ninja", "plain"]


@pytest.fixture
def handler() -> Iterator[LazyHandler]:
    bind_request_id("")
    with override_settings(ROOT_URLCONF="tests.support.urls"):
        yield LazyHandler(threads=2)


def get(handler: LazyHandler, path: str, **headers: str) -> Answer:
    return run(handler, Call(path=path, headers=headers))


def problem_of(answer: Answer) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    body: dict[str, Any] = answer.json()
    assert body["status"] == answer.status
    assert body["type"] == f"https://fashionistar.example/problems/{body['code'].replace('_', '-')}"
    assert body["title"]
    return body


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_domain_error_looks_the_same_everywhere(handler: LazyHandler, framework: str) -> None:
    answer = get(handler, f"/{framework}/domain")

    assert problem_of(answer) == {
        "type": "https://fashionistar.example/problems/sold-out",
        "title": "Sold out",
        "status": 409,
        "code": "sold_out",
        "detail": "None left.",
        "instance": f"/{framework}/domain",
        "errors": [{"pointer": "/lines/0", "code": "short", "detail": "0 left"}],
        "left": 0,
    }


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("invalid", 422, "invalid"),
        ("missing", 404, "not_found"),
        ("forbidden", 403, "forbidden"),
        ("suspicious", 400, "bad_request"),
        ("pool", 503, "overloaded"),
    ],
)
def test_known_mistakes(
    handler: LazyHandler, framework: str, kind: str, status: int, code: str
) -> None:
    answer = get(handler, f"/{framework}/{kind}")

    assert (answer.status, problem_of(answer)["code"]) == (status, code)
    assert answer.headers.get("retry-after") == ("1" if status == 503 else None)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_bug_is_a_500_without_details_and_one_log_line(
    handler: LazyHandler, framework: str
) -> None:
    with capture_logs() as logs:
        answer = get(handler, f"/{framework}/bug")

    assert (answer.status, problem_of(answer)["code"]) == (500, "internal_error")
    assert b"division" not in answer.body
    (line,) = logs
    assert line["event"] == "http.unhandled_exception"
    assert isinstance(line["exc_info"], ZeroDivisionError)


def test_drf_details_become_pointers(handler: LazyHandler) -> None:
    answer = get(handler, "/drf/validation")

    assert answer.status == 422
    assert problem_of(answer)["errors"] == [
        {"pointer": "/lines/0/quantity", "code": "invalid", "detail": "must be positive"}
    ]
    assert get(handler, "/drf/anonymous").status == 403
    assert get(handler, "/drf/throttled").headers["retry-after"] == "7"


def test_ninja_details_become_pointers(handler: LazyHandler) -> None:
    query = run(handler, Call(path="/ninja/x"))
    body = run(handler, Call("POST", "/ninja/x", chunks=[b'{"quantity":"1","x":2}']))
    broken = run(handler, Call("POST", "/ninja/x", chunks=[b"{"]))

    assert query.status == 200
    assert body.status == 422
    assert {(e["pointer"], e["code"]) for e in problem_of(body)["errors"]} == {
        ("/quantity", "int_type"),
        ("/x", "extra_forbidden"),
    }
    assert (broken.status, problem_of(broken)["code"]) == (400, "bad_request")
    assert problem_of(get(handler, "/ninja/refused"))["detail"] == "Not yours."


@pytest.mark.parametrize("path", ["/nowhere", "/drf/", "//", "/hot/x/y", "/%00"])
def test_unknown_addresses_are_404(handler: LazyHandler, path: str) -> None:
    assert problem_of(get(handler, path))["code"] == "not_found"


@pytest.mark.parametrize("framework", ["hot", "service", "drf", "ninja"])
def test_wrong_methods_are_405_and_name_the_right_ones(
    handler: LazyHandler, framework: str
) -> None:
    answer = run(handler, Call("DELETE", f"/{framework}/x"))

    assert (answer.status, problem_of(answer)["code"]) == (405, "method_not_allowed")
    assert "GET" in answer.headers["allow"]


def test_a_service_reads_json_only(handler: LazyHandler) -> None:
    form = run(handler, Call("POST", "/service/x", {"content-type": "text/plain"}, [b"a=b"]))
    json = run(
        handler,
        Call("POST", "/service/x", {"content-type": "application/json; charset=utf-8"}, [b"{}"]),
    )

    assert (form.status, problem_of(form)["code"]) == (415, "unsupported_media_type")
    assert json.status == 201


def test_a_foreign_host_is_refused_but_probes_are_not(handler: LazyHandler) -> None:
    assert problem_of(get(handler, "/hot/x", host="evil.example"))["code"] == "bad_request"
    assert get(handler, "/livez", host="10.0.0.7").status == 200


def test_every_answer_carries_the_security_headers(handler: LazyHandler) -> None:
    for path in ("/hot/x", "/ninja/x", "/nowhere", "/service/bug"):
        headers = get(handler, path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


def test_a_stream_is_sent_whole(handler: LazyHandler) -> None:
    assert get(handler, "/stream").body == b"ab"


def test_a_client_that_hangs_up_ends_the_view(handler: LazyHandler) -> None:
    async def go() -> Answer:
        gone = asyncio.Event()
        asyncio.get_running_loop().call_later(0.05, gone.set)
        return await exchange(handler, Call(path="/slow", hang_up_when=gone))

    assert asyncio.run(go()).messages == 0
