"""Every exception becomes a problem document here, whichever framework raised it.

DRF calls `drf_exception_handler`, Ninja `respond` (through `ProblemAPI`), and the ASGI handler
`respond` for what is left: unknown routes, bad hosts and unhandled exceptions.
"""

from collections.abc import Mapping
from typing import Any

import psycopg
import structlog
from django.core.exceptions import (
    BadRequest,
    PermissionDenied,
    RequestDataTooBig,
    SuspiciousOperation,
)
from django.db import OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.http.multipartparser import MultiPartParserError
from ninja import NinjaAPI
from ninja.errors import HttpError, ValidationError
from rest_framework.exceptions import APIException
from rest_framework.exceptions import ValidationError as DRFValidationError

from app.common.errors import DomainError, from_domain, problem
from app.telemetry.asgi import ERROR_TYPE

log = structlog.get_logger()

CODES = {
    400: "bad_request",
    401: "not_authenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    413: "body_too_large",
    415: "unsupported_media_type",
    422: "invalid",
    429: "rate_limited",
}


def respond(request: HttpRequest, error: Exception) -> HttpResponse:
    """The problem response for `error`; what nobody foresaw is logged with its traceback, once."""
    match error:
        case DomainError():
            response = from_domain(error, instance=request.path)
        case APIException():
            response = _from_drf(request, error)
        case ValidationError():
            response = _problem(request, 422, errors=[_ninja_error(e) for e in error.errors])
        case HttpError():
            response = _problem(request, error.status_code, detail=error.message)
        case OperationalError() | psycopg.OperationalError() | psycopg.InterfaceError():
            # also psycopg_pool's PoolTimeout and TooManyRequests
            response = _unavailable(request, error)
        case _:
            response = _from_django(request, error)
    return response


def drf_exception_handler(error: Exception, context: Mapping[str, Any]) -> HttpResponse | None:
    """DRF's EXCEPTION_HANDLER: None lets an unforeseen exception rise to the ASGI handler."""
    if isinstance(error, (DomainError, APIException, Http404, PermissionDenied)):
        return respond(context["request"], error)
    return None


class ProblemAPI(NinjaAPI):
    """A NinjaAPI whose errors are problem documents."""

    def on_exception(self, request: HttpRequest, exc: Exception) -> HttpResponse:  # type: ignore[override]
        """The response for any exception of an operation."""
        return respond(request, exc)


def malformed_request(status: int) -> HttpResponse:
    """For a request that cannot even be read: Django has no request object then."""
    return problem(status=status, code=CODES.get(status, "bad_request"))


def _unavailable(request: HttpRequest, error: Exception) -> HttpResponse:
    """The database cannot be reached, or every pooled connection is taken."""
    log.warning("database.unavailable", reason=str(error).strip())
    detail = "The database cannot be reached now. Repeat the request in a moment."
    return _problem(request, 503, code="overloaded", detail=detail, headers={"Retry-After": "1"})


def _from_django(request: HttpRequest, error: Exception) -> HttpResponse:
    match error:
        case Http404():
            response = _problem(request, 404, detail="There is nothing at this address.")
        case PermissionDenied():
            response = _problem(request, 403)
        case RequestDataTooBig():
            response = _problem(request, 413, code="body_too_large")
        case SuspiciousOperation() | BadRequest() | MultiPartParserError():
            response = _problem(request, 400, detail="Check the Host header, address and body.")
        case _:
            response = _unforeseen(request, error)
    return response


def _unforeseen(request: HttpRequest, error: Exception) -> HttpResponse:
    scope = getattr(request, "scope", {})
    scope[ERROR_TYPE] = type(error).__name__
    log.error("http.unhandled_exception", exc_info=error)
    return _problem(
        request, 500, code="internal_error", detail="Our mistake. Quote the request_id to support."
    )


def _from_drf(request: HttpRequest, error: APIException) -> HttpResponse:
    headers = {}
    if getattr(error, "wait", None):
        headers["Retry-After"] = str(int(error.wait))  # type: ignore[attr-defined]
    if getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = error.auth_header  # type: ignore[attr-defined]
    if isinstance(error, DRFValidationError):
        errors = list(_drf_errors(error.get_full_details(), ""))
        return _problem(request, 422, errors=errors, headers=headers)
    return _problem(request, error.status_code, detail=str(error.detail), headers=headers)


def _drf_errors(details: Any, pointer: str) -> Any:
    """DRF's nested error details as a flat list with JSON pointers."""
    if isinstance(details, dict) and set(details) != {"message", "code"}:
        for name, inner in details.items():
            at = pointer if name == "non_field_errors" else f"{pointer}/{name}"
            yield from _drf_errors(inner, at)
    elif isinstance(details, list):
        for index, inner in enumerate(details):
            is_leaf = isinstance(inner, dict) and set(inner) == {"message", "code"}
            yield from _drf_errors(inner, pointer if is_leaf else f"{pointer}/{index}")
    else:
        yield {"pointer": pointer, "code": details["code"], "detail": str(details["message"])}


def _ninja_error(item: Mapping[str, Any]) -> dict[str, str]:
    source, *path = [str(part) for part in item["loc"]]
    pointer = "?" + ".".join(path) if source == "query" else "/" + "/".join(path[1:] or path)
    return {"pointer": pointer, "code": item["type"], "detail": item["msg"]}


def _problem(request: HttpRequest, status: int, **members: Any) -> HttpResponse:
    members.setdefault("code", CODES.get(status, "error"))
    return problem(status=status, instance=request.path, **members)
