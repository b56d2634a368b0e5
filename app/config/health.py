"""Probes. Liveness does no I/O; readiness asks the database, at most once a second."""

import asyncio
import time

import psycopg
import structlog
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from opentelemetry.instrumentation.utils import suppress_instrumentation

from app.common.errors import problem

CACHE_SECONDS = 1.0
WAIT_SECONDS = 2.0

log = structlog.get_logger()


class DatabaseProbe:
    """Asks the database over a connection of its own: a pool that is busy is not a dead database.

    An answer, good or bad, is good for a second, and concurrent callers share one question.
    """

    def __init__(self) -> None:
        self._connection: psycopg.AsyncConnection[tuple[int]] | None = None
        self._lock = asyncio.Lock()
        self._asked_at = float("-inf")
        self._fault = ""

    async def fault(self) -> str:
        """'' when the database answers, else why not (for the log, not for strangers)."""
        async with self._lock:
            if time.monotonic() - self._asked_at > CACHE_SECONDS:
                self._fault = await self._ask()
                self._asked_at = time.monotonic()
            return self._fault

    async def _ask(self) -> str:
        try:
            with suppress_instrumentation():
                await asyncio.wait_for(self._select(), WAIT_SECONDS)
        except (psycopg.Error, TimeoutError, OSError) as error:
            await self.close()
            return str(error).strip() or f"no answer within {WAIT_SECONDS:.0f} s"
        return ""

    async def _select(self) -> None:
        if self._connection is not None:
            try:
                await self._connection.execute("SELECT 1")
                return
            except psycopg.Error:  # the server may have been restarted since
                await self.close()
        self._connection = await psycopg.AsyncConnection.connect(settings.HOT_DSN, autocommit=True)
        await self._connection.execute("SELECT 1")

    async def close(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


probe = DatabaseProbe()


@require_safe
async def livez(request: HttpRequest) -> HttpResponse:
    """200 while the event loop turns."""
    return HttpResponse("ok\n", content_type="text/plain")


@require_safe
async def readyz(request: HttpRequest) -> HttpResponse:
    """200 when the database answers, else 503. Valkey and providers do not count: one broken
    dependency must not take every pod out of service."""
    fault = await probe.fault()
    if fault:
        log.warning("probe.not_ready", reason=fault)
        return problem(status=503, code="not_ready", detail="The database does not answer.")
    return HttpResponse("ok\n", content_type="text/plain")
