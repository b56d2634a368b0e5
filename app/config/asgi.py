"""The web application: lifespan -> telemetry wrapper -> lazy handler -> Django."""

import gc
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import django
import orjson
from django.conf import settings
from django.db import connection
from django.tasks import task_backends

django.setup(set_prefix=False)

from app.common import cluster_access, hotquery, synthetic  # noqa: E402  # after setup: models
from app.common.cache import cache_address  # noqa: E402
from app.common.errors import document  # noqa: E402
from app.common.handler import PROBES, LazyHandler  # noqa: E402
from app.config import health  # noqa: E402
from app.config.urls import HOT_PREFIXES  # noqa: E402
from app.taskqueue.backend import ClusterBackend  # noqa: E402
from app.telemetry import metrics  # noqa: E402
from app.telemetry.asgi import App, Receive, Scope, Send, Telemetry  # noqa: E402

Message = MutableMapping[str, Any]


class Lifespan:
    """Opens what the process shares before the first request and closes it after the last."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI lifespan protocol; every other scope goes to the application."""
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        await receive()
        await self._step(self._open, send, "lifespan.startup")
        await receive()
        await self._step(self._close, send, "lifespan.shutdown")

    @staticmethod
    async def _step(step: Callable[[], Awaitable[None]], send: Send, name: str) -> None:
        await step()
        await send({"type": f"{name}.complete"})

    @staticmethod
    async def _open() -> None:
        await hotquery.open_pool(
            settings.HOT_DSN,
            size=settings.HOT_POOL_SIZE,
            max_lifetime=settings.DB_MAX_LIFETIME,
            max_wait=settings.DB_POOL_TIMEOUT,
        )
        queue = task_backends["default"]
        if isinstance(queue, ClusterBackend):
            queue.link.start()  # its thread, before a request would start it
        await cluster_access.open_clients(cache_address())
        # Long-lived objects leave the collector's sight: p99 falls by half (performance.md 6).
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)

    @staticmethod
    async def _close() -> None:
        await health.probe.close()
        await cluster_access.close_clients()
        await hotquery.close_pool()
        connection.close_pool()  # type: ignore[attr-defined]


def is_hot(method: str, path: str) -> bool:
    """Public hot reads, whose traces are sampled by ratio."""
    return method in {"GET", "HEAD"} and path.startswith(HOT_PREFIXES)


def too_large(limit: int) -> bytes:
    """The problem document of a 413."""
    return orjson.dumps(
        document(status=413, code="body_too_large", detail=f"Send at most {limit} bytes.")
    )


handler = LazyHandler(settings.REQUEST_THREADS)
metrics.threads_busy.set_function(lambda: handler.bank.busy)
metrics.threads_waiting.set_function(lambda: len(handler.bank.waiting))
application = Lifespan(
    Telemetry(
        handler,
        is_hot=is_hot,
        body_limit=settings.MAX_BODY_BYTES,
        too_large=too_large,
        quiet=PROBES,
        is_synthetic=synthetic.checker(settings.SYNTHETIC_KEY),
    )
)
