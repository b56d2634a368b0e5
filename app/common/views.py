"""The two view bases of /api/v1. How many threads a request costs is decided here and tested.

`HotView` answers on the event loop (0 hops); `ServiceView` does everything in one thread call
(1 hop). A DRF `Response` would cost more: both return finished responses.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import orjson
from adrf.views import APIView
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from app.common import ratelimit
from app.common.concurrency import in_thread
from app.common.errors import DomainError, UnsupportedMediaType, from_domain, not_allowed

JSON = "application/json"


def json_response(
    data: Any, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> HttpResponse:
    """A finished JSON response."""
    return HttpResponse(orjson.dumps(data), content_type=JSON, status=status, headers=headers)


def cacheable(
    request: HttpRequest, data: Any, *, headers: Mapping[str, str] | None = None
) -> HttpResponse:
    """A JSON response with a strong ETag of its bytes, or 304 when the client has them already.

    `no-cache` means "ask first": a shared cache may keep the answer and revalidate it. A weak form
    of the tag (`W/"…"`, made by a compressing proxy) matches, too.
    """
    body = orjson.dumps(data)
    etag = f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
    known = request.META.get("HTTP_IF_NONE_MATCH")
    if known is not None and _matches(known, etag):
        response = HttpResponse(status=304, headers=headers)
    else:
        response = HttpResponse(body, content_type=JSON, headers=headers)
    response.headers["ETag"] = etag
    response.headers["Cache-Control"] = "public, no-cache"
    return response


def _matches(known: str, etag: str) -> bool:
    return known.strip() == "*" or etag in (
        tag.strip().removeprefix("W/") for tag in known.split(",")
    )


class _View(APIView):
    rate_limit: ClassVar[str] = ""
    """Name of the bucket in settings.RATE_LIMITS that each request takes from; "" = none."""
    view_is_async = True  # a plain attribute: `dispatch` below is async, the handlers need not be

    http_method_names = [  # noqa: RUF012  # DRF declares it so
        "get",
        "post",
        "put",
        "patch",
        "delete",
        "head",
    ]

    def _handler(self, request: HttpRequest) -> Callable[..., Any] | None:
        method = (request.method or "").lower()
        if method == "head":
            method = "get"
        return getattr(self, method, None) if method in self.http_method_names else None

    def _not_allowed(self, request: HttpRequest) -> HttpResponse:
        allowed = [m.upper() for m in self.http_method_names if hasattr(self, m)]
        return not_allowed(request, ", ".join(allowed))


class HotView(_View):
    """A public read without any thread: handlers are coroutines that await the async pool."""

    async def dispatch(  # type: ignore[override]
        self, request: HttpRequest, *args: Any, **kwargs: Any
    ) -> HttpResponseBase:
        """Answer on the event loop."""
        handler = self._handler(request)
        if handler is None:
            return self._not_allowed(request)
        headers: Mapping[str, str] = {}
        try:
            if self.rate_limit:
                headers = await ratelimit.aguard(request, self.rate_limit)
            response: HttpResponseBase = await handler(request, **kwargs)
        except DomainError as error:
            response = from_domain(error, instance=request.path)
        return _with(response, headers)


class ServiceView(_View):
    """Guard, service and rendering in one thread call; handlers are plain functions.

    Connections are given back in that call. Bodies must be `application/json`.
    """

    async def dispatch(  # type: ignore[override]
        self, request: HttpRequest, *args: Any, **kwargs: Any
    ) -> HttpResponseBase:
        """One hop: `_respond` in the request's thread."""
        return await in_thread(self._respond, request, kwargs)

    def _respond(self, request: HttpRequest, kwargs: Mapping[str, Any]) -> HttpResponseBase:
        handler = self._handler(request)
        if handler is None:
            return self._not_allowed(request)
        headers: Mapping[str, str] = {}
        try:
            if self.rate_limit:
                headers = ratelimit.guard(request, self.rate_limit)
            if request.method in {"POST", "PUT", "PATCH"} and request.content_type != JSON:
                raise UnsupportedMediaType(f"Send the body as {JSON}.")
            response: HttpResponseBase = handler(request, **kwargs)
        except DomainError as error:
            response = from_domain(error, instance=request.path)
        return _with(response, headers)


def _with(response: HttpResponseBase, headers: Mapping[str, str]) -> HttpResponseBase:
    for name, value in headers.items():
        response.headers[name] = value
    return response
