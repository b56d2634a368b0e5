"""Planted hops: what a well-meant change would do to the hot path. `make hops` must see each."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable
from typing import Any

STOCK_MIDDLEWARE = "stock_middleware"
DRF_RESPONSE = "drf_response"
TO_THREAD = "to_thread"
NEW_THREAD = "new_thread"
MUTANTS = (STOCK_MIDDLEWARE, DRF_RESPONSE, TO_THREAD, NEW_THREAD)
HOT_PATH = "/api/v1/products"


def before_import(mutant: str) -> None:
    """What must be in place before the handler loads its middleware."""
    if mutant == STOCK_MIDDLEWARE:
        import django
        from django.conf import settings

        django.setup()
        settings.MIDDLEWARE = [
            *settings.MIDDLEWARE,
            "django.middleware.http.ConditionalGetMiddleware",
        ]


def after_import(mutant: str) -> None:
    """What replaces the handler of a hot view of the loaded application."""
    planted = {DRF_RESPONSE: _drf_response, TO_THREAD: _to_thread, NEW_THREAD: _new_thread}
    if mutant in planted:
        view = _hot_view()
        view.get = planted[mutant](view.get)


type Handler = Callable[..., Awaitable[Any]]


def _hot_view() -> Any:
    from django.urls import resolve

    view: Any = resolve(HOT_PATH).func
    return getattr(view, "view_class", None) or view.cls


def _drf_response(original: Handler) -> Handler:
    """As ADRF finishes it; Django's handler renders it in a thread."""
    from rest_framework.renderers import JSONRenderer
    from rest_framework.response import Response

    async def get(view: Any, request: Any, **kwargs: Any) -> Any:
        finished = await original(view, request, **kwargs)
        response: Any = Response(json.loads(finished.content))
        response.accepted_renderer = JSONRenderer()
        response.accepted_media_type = "application/json"
        response.renderer_context = {"view": view, "request": request}
        return response

    return get


def _to_thread(original: Handler) -> Handler:
    async def get(view: Any, request: Any, **kwargs: Any) -> Any:
        return await asyncio.to_thread(_same, await original(view, request, **kwargs))

    return get


def _new_thread(original: Handler) -> Handler:
    async def get(view: Any, request: Any, **kwargs: Any) -> Any:
        thread = threading.Thread(target=list)
        thread.start()
        thread.join()
        return await original(view, request, **kwargs)

    return get


def _same(value: Any) -> Any:
    return value
