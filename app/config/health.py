"""Probes. Liveness does no I/O; readiness asks the database, at most once a second."""

import time

from django.http import HttpRequest, HttpResponse

from app.common.errors import problem
from app.common.hotquery import ping

CACHE_SECONDS = 1.0
_ready_at = 0.0


async def livez(request: HttpRequest) -> HttpResponse:
    """200 while the event loop turns."""
    return HttpResponse("ok\n", content_type="text/plain")


async def readyz(request: HttpRequest) -> HttpResponse:
    """200 when the database answers, else 503. Valkey and providers do not count: one broken
    dependency must not take every pod out of service."""
    global _ready_at  # noqa: PLW0603
    if time.monotonic() - _ready_at > CACHE_SECONDS:
        reason = await ping()
        if reason:
            return problem(status=503, code="not_ready", detail=f"The database: {reason}")
        _ready_at = time.monotonic()
    return HttpResponse("ok\n", content_type="text/plain")
