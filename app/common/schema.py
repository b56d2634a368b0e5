"""Strict input: unknown fields, coerced types and NUL characters are refused with a pointer."""

from typing import Any

import orjson
import pydantic
from ninja import Schema
from pydantic import ConfigDict, model_validator

from app.common.errors import BadRequest, FieldError, Invalid

MAX_DEPTH = 32


class StrictSchema(Schema):
    """Base of all request bodies, for Ninja and for `parse`."""

    model_config = ConfigDict(extra="forbid", strict=True, str_max_length=10_000)

    @model_validator(mode="before")
    @classmethod
    def _no_nul(cls, data: Any) -> Any:
        if _has_nul(data):
            raise ValueError("text must not contain NUL characters")
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
    try:
        return schema.model_validate(data)
    except pydantic.ValidationError as error:
        raise Invalid("Correct the listed fields.", errors=_field_errors(error)) from error


def _field_errors(error: pydantic.ValidationError) -> list[FieldError]:
    return [
        FieldError("/" + "/".join(map(str, item["loc"])), item["type"], item["msg"])
        for item in error.errors(include_url=False, include_input=False, include_context=False)
    ]


def _has_nul(data: Any, depth: int = 0) -> bool:
    if isinstance(data, str):
        return "\0" in data
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(data, dict):
        return any(_has_nul(k, depth) or _has_nul(v, depth + 1) for k, v in data.items())
    if isinstance(data, list):
        return any(_has_nul(item, depth + 1) for item in data)
    return False
