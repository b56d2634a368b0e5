"""One request, one server span, one log line, one sample, whatever the client does."""

import asyncio
from typing import Any

import orjson
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from app.telemetry.asgi import ERROR_TYPE, ROUTE, Telemetry
from app.telemetry.context import request_id
from tests.support.exchange import Answer, Call, exchange, run

LIMIT = 100
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


async def shop(scope: Any, receive: Any, send: Any) -> None:
    """A small application: reads the body, answers by path."""
    scope[ROUTE] = "shop/<str:name>"
    message = await receive()
    while message.get("more_body"):
        message = await receive()
    if message["type"] == "http.disconnect":
        return
    status = 500 if scope["path"] == "/shop/broken" else 200
    if status == 500:
        scope[ERROR_TYPE] = "ZeroDivisionError"
    await send({"type": "http.response.start", "status": status, "headers": []})
    for part in (b"a", b"b", b"c"):
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body"})


def wrapped(app: Any = shop, *, hot: bool = False) -> Telemetry:
    return Telemetry(
        app,
        is_hot=lambda *_: hot,
        body_limit=LIMIT,
        too_large=lambda limit: orjson.dumps({"limit": limit, "request_id": request_id()}),
        quiet=frozenset({"/livez"}),
        is_synthetic=lambda header: header == "good",
    )


def requests_counted(route: str, status_class: str, method: str = "GET") -> float:
    labels = {
        "http_route": route,
        "http_request_method": method,
        "http_status_class": status_class,
    }
    return REGISTRY.get_sample_value("http_server_request_duration_seconds_count", labels) or 0.0


def test_a_request_makes_one_span_one_line_one_sample(spans: InMemorySpanExporter) -> None:
    before = requests_counted("/shop/{name}", "2xx")
    with capture_logs() as logs:
        answer = run(wrapped(), Call(path="/shop/7"))

    (span,) = spans.get_finished_spans()
    assert span.name == "GET /shop/{name}"
    assert span.kind is SpanKind.SERVER
    assert dict(span.attributes or {}) == {
        "http.request.method": "GET",
        "app.hot": False,
        "http.response.status_code": 200,
        "url.path": "/shop/7",
        "url.scheme": "http",
        "network.protocol.version": "1.1",
        "app.request.id": answer.headers["x-request-id"],
        "http.route": "/shop/{name}",
        "exemplar": True,
    }
    assert answer.body == b"abc"
    trace_id = f"{span.context.trace_id:032x}"
    flags = span.context.trace_flags
    assert flags.sampled
    assert answer.headers["traceresponse"] == (
        f"00-{trace_id}-{span.context.span_id:016x}-{flags:02x}"
    )
    (line,) = logs
    assert line["event"] == "http.request"
    assert line["http.route"] == "/shop/{name}"
    assert line["http.response.status_code"] == 200
    assert requests_counted("/shop/{name}", "2xx") == before + 1


def test_the_callers_trace_is_joined_but_its_sampling_flag_is_not_trusted(
    spans: InMemorySpanExporter,
) -> None:
    run(wrapped(), Call(path="/shop/1", headers={"traceparent": f"00-{TRACE}-00f067aa0ba902b7-00"}))
    run(
        wrapped(hot=True),
        Call(path="/shop/1", headers={"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}),
    )

    (span,) = spans.get_finished_spans()  # kept though unsampled by the caller; hot one dropped
    assert f"{span.context.trace_id:032x}" == TRACE


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        "garbage",
        "00-" + "0" * 32 + "-00f067aa0ba902b7-01",
        "ff-" + TRACE + "-x-01",
        "00-" * 400,
    ],
)
def test_a_malformed_traceparent_starts_a_new_trace(
    spans: InMemorySpanExporter, traceparent: str
) -> None:
    answer = run(wrapped(), Call(path="/shop/1", headers={"traceparent": traceparent}))

    (span,) = spans.get_finished_spans()
    assert answer.status == 200
    assert span.parent is None


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, 'a"b', "a\nb", "é"])
def test_a_malformed_request_id_is_replaced(spans: InMemorySpanExporter, given: str) -> None:
    answer = run(wrapped(), Call(path="/shop/1", headers={"x-request-id": given}))

    assert len(answer.headers["x-request-id"]) == 32
    assert answer.headers["x-request-id"] != given


def test_a_good_request_id_is_kept(spans: InMemorySpanExporter) -> None:
    answer = run(wrapped(), Call(path="/shop/1", headers={"x-request-id": "order-1.2:3_4"}))

    assert answer.headers["x-request-id"] == "order-1.2:3_4"


def test_a_hang_up_before_the_answer_is_499_and_no_error(spans: InMemorySpanExporter) -> None:
    async def waits(scope: Any, receive: Any, send: Any) -> None:
        scope[ROUTE] = "slow"
        await receive()
        await receive()  # the client leaves; Django's handler returns without an answer

    async def go() -> Answer:
        gone = asyncio.Event()
        gone.set()
        return await exchange(wrapped(waits), Call(path="/slow", hang_up_when=gone))

    with capture_logs() as logs:
        answer = asyncio.run(go())

    (span,) = spans.get_finished_spans()
    assert answer.status == 0
    assert span.attributes is not None
    assert span.attributes["http.response.status_code"] == 499
    assert span.status.status_code is StatusCode.UNSET
    assert logs[0]["http.response.status_code"] == 499
    assert requests_counted("/slow", "4xx") >= 1


def test_a_server_error_marks_the_span_with_the_exception_class(
    spans: InMemorySpanExporter,
) -> None:
    run(wrapped(), Call(path="/shop/broken"))

    (span,) = spans.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes is not None
    assert span.attributes["error.type"] == "ZeroDivisionError"


def test_an_announced_body_over_the_limit_is_refused_unread(spans: InMemorySpanExporter) -> None:
    async def never(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("the application must not be called")

    answer = run(
        wrapped(never), Call("POST", "/shop/1", {"content-length": str(50_000_000)}, chunks=())
    )

    assert answer.status == 413
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["connection"] == "close"
    assert answer.json() == {"limit": LIMIT, "request_id": answer.headers["x-request-id"]}
    assert len(spans.get_finished_spans()) == 1


def test_a_chunked_body_over_the_limit_is_cut(spans: InMemorySpanExporter) -> None:
    answer = run(wrapped(), Call("POST", "/shop/1", chunks=[b"x" * 60, b"x" * 60, b"x"]))

    assert answer.status == 413
    (span,) = spans.get_finished_spans()
    assert span.attributes is not None
    assert span.attributes["http.response.status_code"] == 413


def test_a_body_at_the_limit_passes(spans: InMemorySpanExporter) -> None:
    assert run(wrapped(), Call("POST", "/shop/1", chunks=[b"x" * LIMIT])).status == 200


def test_unknown_methods_and_routes_keep_labels_bounded(spans: InMemorySpanExporter) -> None:
    async def nowhere(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body"})

    run(wrapped(nowhere), Call(method="BREW", path="/a/very/private/path"))

    (span,) = spans.get_finished_spans()
    assert span.name == "_OTHER"
    assert requests_counted("", "4xx", "_OTHER") == 1


def test_probes_are_silent(spans: InMemorySpanExporter) -> None:
    with capture_logs() as logs:
        run(wrapped(), Call(path="/livez"))

    assert logs == []
    assert spans.get_finished_spans() == ()


def test_probes_have_the_body_limit_too(spans: InMemorySpanExporter) -> None:
    answer = run(wrapped(), Call("POST", "/livez", chunks=[b"x" * 60] * 3))

    assert answer.status == 413
    assert answer.headers["x-request-id"]


def test_a_chosen_trace_id_does_not_force_sampling(spans: InMemorySpanExporter) -> None:
    header = f"00-{TRACE[:16]}0000000000000001-00f067aa0ba902b7-01"
    run(wrapped(hot=True), Call(path="/shop/1", headers={"traceparent": header}))

    assert spans.get_finished_spans() == ()


def test_a_request_does_not_join_what_ran_before_it_in_its_context(
    spans: InMemorySpanExporter,
) -> None:
    async def pipelined() -> None:
        with trace.get_tracer("tests").start_as_current_span("the request before"):
            await exchange(wrapped(), Call(path="/shop/1"))

    asyncio.run(pipelined())

    assert [span.parent for span in spans.get_finished_spans()] == [None, None]


def test_websockets_are_refused_cleanly(spans: InMemorySpanExporter) -> None:
    answer = run(wrapped(), Call(kind="websocket"))

    assert answer.headers == {"type": "websocket.close", "code": "1008"}


def test_one_exemplar_per_bucket_and_second(spans: InMemorySpanExporter) -> None:
    app = wrapped()
    for _ in range(20):
        run(app, Call(path="/shop/many"))

    marked = [s for s in spans.get_finished_spans() if (s.attributes or {}).get("exemplar")]
    assert len(spans.get_finished_spans()) == 20
    assert len(marked) < 20


@pytest.mark.parametrize(("header", "marked"), [("good", True), ("bad", False), ("", False)])
def test_requests_of_load_generators_are_marked(
    spans: InMemorySpanExporter, *, header: str, marked: bool
) -> None:
    with capture_logs() as logs:
        run(wrapped(), Call(path="/shop/7", headers={"X-Synthetic": header}))

    (span,) = spans.get_finished_spans()
    assert ("app.synthetic" in (span.attributes or {})) is marked
    assert ("synthetic" in logs[-1]) is marked
