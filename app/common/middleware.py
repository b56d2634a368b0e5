"""Stock CPU-only middleware without the two thread hops that Django's async adapter costs each."""

from collections.abc import Awaitable, Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.middleware.csp import ContentSecurityPolicyMiddleware
from django.middleware.security import SecurityMiddleware
from django.utils.deprecation import MiddlewareMixin


class _Inline(MiddlewareMixin):
    """Calls `process_request` and `process_response` on the event loop. Only for middleware that
    never waits: one that reads a session or a cache would block every request."""

    get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]]

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.process_request(request) if hasattr(self, "process_request") else None
        response = response or await self.get_response(request)
        if hasattr(self, "process_response"):
            response = self.process_response(request, response)
        return response


class InlineSecurityMiddleware(_Inline, SecurityMiddleware):
    """HSTS, nosniff, referrer and opener policy."""


class InlineContentSecurityPolicyMiddleware(_Inline, ContentSecurityPolicyMiddleware):
    """The Content-Security-Policy of SECURE_CSP."""
