"""Identifiers, money, cursors and strict input."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.common import ids
from app.common.errors import BadRequest, Invalid
from app.common.money import Money
from app.common.pagination import decode_cursor, encode_cursor, parse_limit
from app.common.schema import StrictSchema, parse


class Line(StrictSchema):
    variant: str
    quantity: int


class Cart(StrictSchema):
    email: str
    lines: list[Line]


@given(st.uuids())
def test_identifiers_round_trip_and_sort_like_their_uuid(value: uuid.UUID) -> None:
    text = ids.encode("ord", value)

    assert ids.decode("ord", text) == value
    assert len(text) == 30
    assert (text < ids.encode("ord", uuid.UUID(int=2**127))) == (value.int < 2**127)


def test_the_published_example_of_the_specification() -> None:
    value = uuid.UUID("01890a5d-ac96-774b-bcce-b302099a8057")

    assert ids.encode("prefix", value) == "prefix_01h455vb4pex5vsknk084sn02q"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ord",
        "ord_",
        "prd_01h455vb4pex5vsknk084sn02q",
        "ord_81h455vb4pex5vsknk084sn02q",
        "ord_01H455VB4PEX5VSKNK084SN02Q",
        "ord_01h455vb4pex5vsknk084sn02",
        "ord_" + "u" * 26,
    ],
)
def test_one_identifier_has_one_spelling(text: str) -> None:
    with pytest.raises(ValueError, match="not an identifier"):
        ids.decode("ord", text)


def test_uuid7_is_of_version_7_and_rises() -> None:
    made = [ids.uuid7() for _ in range(100)]

    assert {value.version for value in made} == {7}
    assert made == sorted(made)


def test_money_refuses_to_mix() -> None:
    assert Money(150, "NGN") + Money(50, "NGN") * 2 == Money(250, "NGN")
    assert str(Money(-1_234_567, "KES")) == "KES -12,345.67"
    with pytest.raises(ValueError, match="cannot add USD to NGN"):
        Money(1, "NGN") + Money(1, "USD")
    with pytest.raises(ValueError, match="unknown currency"):
        Money(1, "XXX")


@given(st.lists(st.one_of(st.integers(0, 2**63 - 1), st.text(max_size=40)), min_size=1, max_size=3))
def test_cursors_round_trip(values: list[int | str]) -> None:
    assert decode_cursor(encode_cursor(*values), *[type(v) for v in values]) == tuple(values)


@pytest.mark.parametrize(
    "text", ["", "x", "é", "WzFd" * 400, "e30", "WzFd\n", encode_cursor("abc"), encode_cursor(1, 2)]
)
def test_a_foreign_cursor_is_a_400(text: str) -> None:
    with pytest.raises(BadRequest) as raised:
        decode_cursor(text, int)
    assert raised.value.code == "bad_cursor"
    assert raised.value.errors[0]["pointer"] == "?cursor"


@pytest.mark.parametrize("text", ["0", "-1", "101", "1.5", "", " 5", "٣", "9" * 400])
def test_a_bad_limit_is_a_400(text: str) -> None:
    with pytest.raises(BadRequest) as raised:
        parse_limit(text)
    assert raised.value.code == "bad_limit"


def test_limits() -> None:
    assert [parse_limit(None), parse_limit("1"), parse_limit("100")] == [20, 1, 100]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff", b'{"a":NaN}'])
def test_what_is_not_a_json_object_is_a_400(body: bytes) -> None:
    with pytest.raises(BadRequest) as raised:
        parse(Cart, body)
    assert raised.value.code == "malformed_json"


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        (b'{"lines":[]}', "/email", "missing"),
        (b'{"email":1,"lines":[]}', "/email", "string_type"),
        (b'{"email":"a","lines":[],"admin":true}', "/admin", "extra_forbidden"),
        (
            b'{"email":"a","lines":[{"variant":"v","quantity":"2"}]}',
            "/lines/0/quantity",
            "int_type",
        ),
        (
            b'{"email":"a","lines":[{"variant":"v","quantity":1,"x":2}]}',
            "/lines/0/x",
            "extra_forbidden",
        ),
        (b'{"email":"a\\u0000","lines":[]}', "/email", "nul"),
        (b'{"email":"a","lines":[{"variant":"\\u0000","quantity":1}]}', "/lines/0/variant", "nul"),
    ],
)
def test_each_mistake_has_a_pointer_and_a_code(body: bytes, pointer: str, code: str) -> None:
    with pytest.raises(Invalid) as raised:
        parse(Cart, body)
    assert [(e["pointer"], e["code"]) for e in raised.value.errors] == [(pointer, code)]


def test_deep_nesting_is_refused_not_a_crash() -> None:
    with pytest.raises((Invalid, BadRequest)):
        parse(Cart, b'{"email":"a","lines":' + b"[" * 500 + b"]" * 500 + b"}")
