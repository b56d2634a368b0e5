"""Buying over HTTP, on a server process."""

from collections.abc import Iterator
from typing import Any

import httpx
import orjson
import pytest

from app.common.ids import encode, uuid7
from app.inventory.models import Reservation, StockLevel, Variant
from app.orders.models import Order
from app.taskqueue.models import OutboxTask
from tests.inventory.factories import (
    Counters,
    counters,
    make_product,
    make_stock,
    make_variant,
)

CHECKOUT = "/api/v1/checkout"
UNKNOWN = "var_00000000000000000000000000"


@pytest.fixture
def http(server: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server) as client:
        yield client


@pytest.fixture
def variant(server: str) -> Variant:
    """Ten pieces of a kaftan."""
    product = make_product(name="Indigo Kaftan")
    return make_stock(make_variant(product=product, sku="K-M")).variant


def body(*lines: Any, **changes: Any) -> dict[str, Any]:
    return {"email": "ada@example.com", "currency": "NGN", "lines": list(lines)} | changes


def line(variant: str, quantity: Any = 1) -> dict[str, Any]:
    return {"variant": variant, "quantity": quantity}


def assert_problem(response: httpx.Response, status: int, code: str) -> list[dict[str, Any]]:
    """The problem's `errors`; nothing of an order was written."""
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert (response.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert not Order.objects.exists()
    assert not Reservation.objects.exists()
    assert not OutboxTask.objects.exists()
    assert not StockLevel.objects.filter(reserved__gt=0).exists()
    errors: list[dict[str, Any]] = problem.get("errors", [])
    return errors


def test_an_order_is_placed_and_read_back(http: httpx.Client, variant: Variant) -> None:
    response = http.post(CHECKOUT, json=body(line(variant.pid, 2)))
    assert response.status_code == 201
    placed = response.json()
    token = placed.pop("guest_token")
    assert response.headers["location"] == f"/api/v1/orders/{placed['id']}"
    assert response.headers["cache-control"] == "no-store"
    unit, total = ({"amount_minor": n, "currency": "NGN"} for n in (1_500_000, 3_000_000))
    assert placed == {
        "id": Order.objects.get().pid,
        "status": "placed",
        "currency": "NGN",
        "subtotal": total,
        "total": total,
        "lines": [
            {
                "variant": variant.pid,
                "sku": "K-M",
                "name": "Indigo Kaftan",
                "quantity": 2,
                "unit": unit,
                "total": total,
            }
        ],
        "placed_at": placed["placed_at"],
    }
    again = http.get(response.headers["location"], headers={"Order-Token": token})
    assert (again.status_code, again.json()) == (200, placed)
    assert again.headers["cache-control"] == "no-store"
    assert counters(StockLevel.objects.get()) == Counters(on_hand=10, reserved=2)
    assert http.get(f"/api/v2/stock/{variant.pid}").json()["available"] == 8


def test_lines_of_one_variant_are_summed(http: httpx.Client, variant: Variant) -> None:
    response = http.post(CHECKOUT, json=body(line(variant.pid, 4), line(variant.pid, 6)))
    assert [item["quantity"] for item in response.json()["lines"]] == [10]
    assert counters(StockLevel.objects.get()).reserved == 10


def test_a_hundred_lines_are_the_most(http: httpx.Client, variant: Variant) -> None:
    variants = [make_stock(make_variant(product=variant.product)).variant for _ in range(100)]
    lines = [line(each.pid) for each in variants]
    errors = assert_problem(
        http.post(CHECKOUT, json=body(*lines, line(variant.pid))), 422, "invalid"
    )
    assert [(e["pointer"], e["code"]) for e in errors] == [("/lines", "too_long")]
    response = http.post(CHECKOUT, json=body(*lines))
    assert response.status_code == 201
    assert [item["variant"] for item in response.json()["lines"]] == [e.pid for e in variants]


def test_short_stock_is_a_409_for_each_short_line(http: httpx.Client, variant: Variant) -> None:
    plenty = make_stock().variant
    lines = [line(plenty.pid), line(variant.pid, 9), line(variant.pid, 2)]
    response = http.post(CHECKOUT, json=body(*lines))
    assert assert_problem(response, 409, "out_of_stock") == [
        {
            "pointer": f"/lines/{index}/quantity",
            "code": "out_of_stock",
            "detail": "10 available.",
            "asked": 11,
            "available": 10,
        }
        for index in (1, 2)
    ]


def test_a_variant_that_is_not_for_sale_is_a_422(http: httpx.Client, variant: Variant) -> None:
    lines = [line(variant.pid), line(UNKNOWN), line(encode("var", uuid7()))]
    errors = assert_problem(http.post(CHECKOUT, json=body(*lines)), 422, "invalid")
    assert [(e["pointer"], e["code"]) for e in errors] == [
        ("/lines/1/variant", "unknown_variant"),
        ("/lines/2/variant", "unknown_variant"),
    ]
    unpriced = http.post(CHECKOUT, json=body(line(variant.pid), currency="USD"))
    errors = assert_problem(unpriced, 422, "invalid")
    assert [(e["pointer"], e["code"]) for e in errors] == [("/lines/0/variant", "no_price")]


BAD_BODIES: dict[str, tuple[dict[str, Any], str, str]] = {
    "no e-mail": ({"currency": "NGN", "lines": [line(UNKNOWN)]}, "/email", "missing"),
    "no lines": ({"email": "a@b.co", "currency": "NGN"}, "/lines", "missing"),
    "empty lines": (body(), "/lines", "too_short"),
    "lines of another type": (body(lines={"a": 1}), "/lines", "list_type"),
    "a line of another type": (body("x"), "/lines/0", "model_attributes_type"),
    "unknown field": (body(line(UNKNOWN), discount=100), "/discount", "extra_forbidden"),
    "unknown field in a line": (
        body(line(UNKNOWN) | {"unit_minor": 1}),
        "/lines/0/unit_minor",
        "extra_forbidden",
    ),
    "quantity 0": (body(line(UNKNOWN, 0)), "/lines/0/quantity", "greater_than_equal"),
    "negative quantity": (body(line(UNKNOWN, -1)), "/lines/0/quantity", "greater_than_equal"),
    "large quantity": (body(line(UNKNOWN, 1001)), "/lines/0/quantity", "less_than_equal"),
    "gigantic quantity": (body(line(UNKNOWN, 2**63)), "/lines/0/quantity", "less_than_equal"),
    "quantity as text": (body(line(UNKNOWN, "1")), "/lines/0/quantity", "int_type"),
    "quantity as fraction": (body(line(UNKNOWN, 1.5)), "/lines/0/quantity", "int_type"),
    "quantity as truth": (body(line(UNKNOWN, quantity=True)), "/lines/0/quantity", "int_type"),
    "quantity as null": (body(line(UNKNOWN, None)), "/lines/0/quantity", "int_type"),
    "foreign id": (body(line(UNKNOWN.replace("var", "ord"))), "/lines/0/variant", "value_error"),
    "short id": (body(line("var_1")), "/lines/0/variant", "value_error"),
    "id in capitals": (body(line(UNKNOWN.upper())), "/lines/0/variant", "value_error"),
    "id as number": (body(line(7)), "/lines/0/variant", "string_type"),  # type: ignore[arg-type]
    "unknown currency": (body(line(UNKNOWN), currency="XXX"), "/currency", "value_error"),
    "currency in small letters": (body(line(UNKNOWN), currency="ngn"), "/currency", "value_error"),
    "e-mail without domain": (body(line(UNKNOWN), email="ada"), "/email", "value_error"),
    "e-mail with a second header": (
        body(line(UNKNOWN), email="ada@example.com\r\nBcc: all@example.com"),
        "/email",
        "value_error",
    ),
    "two e-mails": (body(line(UNKNOWN), email="a@b.co,c@d.co"), "/email", "value_error"),
    "endless e-mail": (
        body(line(UNKNOWN), email=f"{'a' * 250}@example.com"),
        "/email",
        "string_too_long",
    ),
    "e-mail as list": (body(line(UNKNOWN), email=["a@b.co"]), "/email", "string_type"),
}


@pytest.mark.parametrize(("bad", "pointer", "code"), BAD_BODIES.values(), ids=BAD_BODIES.keys())
def test_a_bad_body_is_a_422(
    http: httpx.Client, variant: Variant, bad: dict[str, Any], pointer: str, code: str
) -> None:
    raw = orjson.dumps(bad, option=orjson.OPT_NON_STR_KEYS)
    response = http.post(CHECKOUT, content=raw, headers={"Content-Type": "application/json"})
    errors = assert_problem(response, 422, "invalid")
    assert (pointer, code) in [(e["pointer"], e["code"]) for e in errors]


@pytest.mark.parametrize(
    "bad", [body(line("var_\0")), body(line(UNKNOWN), email="a\0@b.co"), {"\0": 1}]
)
def test_nul_is_refused_wherever_it_stands(
    http: httpx.Client, variant: Variant, bad: dict[str, Any]
) -> None:
    errors = assert_problem(http.post(CHECKOUT, json=bad), 422, "invalid")
    assert "NUL" in errors[0]["detail"]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"{'email': 1}",
        b"\xff\xfe",
        b'{"email": "\\ud800"}',
        b'{"email": NaN}',
        b"[" * 100_000,
        b'{"lines": ' + b"[" * 2000 + b"]" * 2000 + b"}",
    ],
    ids=range(11),
)
def test_wrong_json_is_a_problem(http: httpx.Client, variant: Variant, raw: bytes) -> None:
    response = http.post(CHECKOUT, content=raw, headers={"Content-Type": "application/json"})
    assert response.status_code in {400, 422}
    assert_problem(response, response.status_code, response.json()["code"])


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
)
def test_another_content_type_is_a_415(
    http: httpx.Client, variant: Variant, content_type: str
) -> None:
    raw = orjson.dumps(body(line(variant.pid)))
    response = http.post(CHECKOUT, content=raw, headers={"Content-Type": content_type})
    assert_problem(response, 415, "unsupported_media_type")


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "HEAD"])
def test_a_wrong_method_is_a_405(http: httpx.Client, method: str) -> None:
    response = http.request(method, CHECKOUT)
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"
    order = http.request("POST" if method == "GET" else method, f"/api/v1/orders/{UNKNOWN}")
    assert order.status_code == (405 if method != "HEAD" else 404)


@pytest.mark.parametrize("token", [None, "", "x", "a" * 5000, "é"])
@pytest.mark.parametrize(
    "order_id", ["placed", "ord_00000000000000000000000000", UNKNOWN, "1", "%00", "a%2Fb"]
)
def test_a_wrong_token_and_an_unknown_order_look_the_same(
    http: httpx.Client, variant: Variant, token: str | None, order_id: str
) -> None:
    placed = http.post(CHECKOUT, json=body(line(variant.pid))).json()["id"]
    headers = {} if token is None else {"Order-Token": token.encode()}
    path = f"/api/v1/orders/{placed if order_id == 'placed' else order_id}"
    response = http.get(path, headers=headers)  # type: ignore[arg-type]
    assert (response.status_code, response.json()["code"]) == (404, "not_found")


def test_the_answers_for_wrong_token_and_unknown_order_differ_in_nothing(
    http: httpx.Client, variant: Variant
) -> None:
    placed = http.post(CHECKOUT, json=body(line(variant.pid))).json()["id"]
    answers = []
    for order_id in (placed, encode("ord", uuid7())):
        problem = http.get(f"/api/v1/orders/{order_id}", headers={"Order-Token": "x"}).json()
        answers.append({**problem, "request_id": "", "instance": ""})
    assert answers[0] == answers[1]
