"""Strict input: unknown fields, coerced types and NUL characters are refused with a pointer."""

from collections.abc import Iterable
from typing import Any

import orjson
import pydantic
from ninja import Schema
from pydantic import ConfigDict, model_validator
from pydantic_core import PydanticCustomError

from app.common.errors import BadRequest, FieldError, Invalid

MAX_DEPTH = 32
NUL = "Text must not contain NUL characters."


class StrictSchema(Schema):
    """Base of all request bodies, for Ninja and for `parse`."""

    model_config = ConfigDict(extra="forbid", strict=True, str_max_length=10_000)

    @model_validator(mode="before")
    @classmethod
    def _no_nul(cls, data: Any) -> Any:
        if _nul_at(data) is not None:
            raise PydanticCustomError("nul", NUL)
        return data


def parse[S: pydantic.BaseModel](schema: type[S], body: bytes) -> S:
    """The validated body.

    Raises BadRequest `malformed_json` when it is not JSON, Invalid (422) with one entry per mistake
    otherwise.
    """
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"The body is not valid JSON: {error}.", code="malformed_json") from error
    if not isinstance(data, dict):
        raise BadRequest("The body must be a JSON object.", code="malformed_json")
    pointer = _nul_at(data)
    if pointer is not None:
        raise Invalid("Correct the listed fields.", errors=[FieldError(pointer, "nul", NUL)])
    try:
        return schema.model_validate(data)
    except pydantic.ValidationError as error:
        raise Invalid("Correct the listed fields.", errors=_field_errors(error)) from error


def _field_errors(error: pydantic.ValidationError) -> list[FieldError]:
    return [
        FieldError(_pointer(item["loc"]), item["type"], item["msg"])
        for item in error.errors(include_url=False, include_input=False, include_context=False)
    ]


def _pointer(path: Iterable[str | int]) -> str:
    """The JSON pointer (RFC 6901) of a place in the body; '' is the whole body."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def _nul_at(data: Any, pointer: str = "", depth: int = 0) -> str | None:
    """The JSON pointer of the first text with a NUL character, which PostgreSQL cannot store."""
    if depth > MAX_DEPTH:
        raise BadRequest(f"Nested deeper than {MAX_DEPTH} levels.", code="malformed_json")
    if isinstance(data, str):
        return pointer if "\0" in data else None
    inner: Iterable[tuple[Any, Any]] = ()
    if isinstance(data, dict):
        if any("\0" in str(name) for name in data):
            return pointer
        inner = data.items()
    elif isinstance(data, list):
        inner = enumerate(data)
    found = (_nul_at(value, f"{pointer}/{name}", depth + 1) for name, value in inner)
    return next((at for at in found if at is not None), None)
