"""Keyset pagination: an opaque cursor that names the last row seen, and a bounded limit."""

import base64
import binascii
from collections.abc import Callable
from typing import Any

import orjson

from app.common.errors import BadRequest, FieldError

MAX_CURSOR_LENGTH = 512


def encode_cursor(*values: str | int) -> str:
    """An opaque cursor for the sort key of the last row of a page."""
    return base64.urlsafe_b64encode(orjson.dumps(values)).rstrip(b"=").decode()


def decode_cursor(text: str, *parsers: Callable[[Any], Any]) -> tuple[Any, ...]:
    """The values of a cursor, each passed through its parser (`int`, `uuid.UUID`, …).

    Raises BadRequest `bad_cursor` for anything that `encode_cursor` did not make.
    """
    try:
        if len(text) > MAX_CURSOR_LENGTH:
            raise ValueError("too long")
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        values = orjson.loads(raw)
        if not isinstance(values, list):
            raise TypeError("not a list")
        return tuple(parse(value) for parse, value in zip(parsers, values, strict=True))
    except (binascii.Error, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise bad_parameter(
            "cursor", "bad_cursor", "Use the `next` value of a previous page unchanged."
        ) from error


def parse_limit(text: str | None, default: int = 20, maximum: int = 100) -> int:
    """The page size asked for, between 1 and `maximum`. Raises BadRequest `bad_limit`."""
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) <= 6 and 1 <= int(text) <= maximum):
        raise bad_parameter("limit", "bad_limit", f"Use a whole number from 1 to {maximum}.")
    return int(text)


def bad_parameter(name: str, code: str, detail: str) -> BadRequest:
    """A 400 problem about one query parameter."""
    return BadRequest(detail, code=code, errors=[FieldError(f"?{name}", code, detail)])
