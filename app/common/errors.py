"""One shape for every error: RFC 9457 problem details, whichever framework found the mistake."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

import orjson
from django.http import HttpRequest, HttpResponse

from app.telemetry.context import request_id

TYPE_BASE = "https://fashionistar.example/problems/"
CONTENT_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class FieldError:
    """One mistake in the input: a JSON pointer (`/lines/0/quantity`) or `?parameter`."""

    pointer: str
    code: str
    detail: str


class DomainError(Exception):
    """A refusal that the caller can understand; subclasses name the fact (`OutOfStock`).

    `detail` says what happened and what to do. Keyword arguments become members of the problem
    document; `code` and `errors` are part of it.
    """

    status: int = HTTPStatus.CONFLICT
    code: str = "conflict"
    title: str = "Conflict"
    headers: Mapping[str, str] = MappingProxyType({})
    """Of the answer."""

    def __init__(
        self,
        detail: str = "",
        *,
        code: str | None = None,
        errors: Sequence[FieldError | Mapping[str, Any]] = (),
        **extra: Any,
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail
        self.code = code or self.code
        self.errors = [asdict(e) if isinstance(e, FieldError) else dict(e) for e in errors]
        self.extra = extra


class BadRequest(DomainError):
    """400: the request itself is malformed."""

    status = HTTPStatus.BAD_REQUEST
    code = "bad_request"
    title = "Bad request"


class NotFound(DomainError):
    """404: it does not exist, or not for this caller."""

    status = HTTPStatus.NOT_FOUND
    code = "not_found"
    title = "Not found"


class Invalid(DomainError):
    """422: well-formed, but a value is not acceptable."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    code = "invalid"
    title = "Invalid input"


class UnsupportedMediaType(DomainError):
    """415: the body is in another format than the endpoint reads."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    code = "unsupported_media_type"
    title = "Unsupported media type"


class Overloaded(DomainError):
    """503: a bounded resource is used up for the moment; try again."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "overloaded"
    title = "Try again in a moment"
    headers = MappingProxyType({"Retry-After": "1"})


class RateLimited(DomainError):
    """429: the caller asks too often; the headers say when to come back."""

    status = HTTPStatus.TOO_MANY_REQUESTS
    code = "rate_limited"
    title = "Too many requests"


def document(
    *, status: int, code: str, title: str = "", detail: str = "", **members: Any
) -> dict[str, Any]:
    """The problem document (RFC 9457) for an error; empty members are left out."""
    body = {
        "type": TYPE_BASE + code.replace("_", "-"),
        "title": title or HTTPStatus(status).phrase,
        "status": int(status),
        "code": code,
        "detail": detail,
        "request_id": request_id(),
        **members,
    }
    return {key: value for key, value in body.items() if value not in ("", [], None)}


def problem(
    *,
    status: int,
    code: str,
    title: str = "",
    detail: str = "",
    headers: Mapping[str, str] | None = None,
    **members: Any,
) -> HttpResponse:
    """A finished `application/problem+json` response."""
    body = document(status=status, code=code, title=title, detail=detail, **members)
    return HttpResponse(
        orjson.dumps(body, default=str),
        content_type=CONTENT_TYPE,
        status=status,
        # A cached 404 would hide the thing from whoever may see it.
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def from_domain(error: DomainError, *, instance: str = "") -> HttpResponse:
    """The response for a DomainError."""
    return problem(
        status=error.status,
        code=error.code,
        title=error.title,
        detail=error.detail,
        instance=instance,
        errors=error.errors,
        headers=error.headers,
        **error.extra,
    )


def not_allowed(request: HttpRequest, allowed: str) -> HttpResponse:
    """405; `allowed` lists the methods that exist here (`GET, HEAD`)."""
    return problem(
        status=HTTPStatus.METHOD_NOT_ALLOWED,
        code="method_not_allowed",
        detail=f"Use {allowed}.",
        instance=request.path,
        headers={"Allow": allowed},
    )
