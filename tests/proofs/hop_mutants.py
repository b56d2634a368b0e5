"""Planted hops: what a well-meant change would do to the hot path. `make hops` must see each."""

from __future__ import annotations

import asyncio
import threading
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
    """What replaces a view of the loaded application."""
    if mutant in {DRF_RESPONSE, TO_THREAD, NEW_THREAD}:
        _hot_view().get = {
            DRF_RESPONSE: _drf_response,
            TO_THREAD: _to_thread,
            NEW_THREAD: _new_thread,
        }[mutant]


def _hot_view() -> Any:
    from django.urls import resolve

    view: Any = resolve(HOT_PATH).func
    return getattr(view, "view_class", None) or view.cls


async def _drf_response(view: Any, request: Any, **_: Any) -> Any:
    """As ADRF finishes it: the handler renders it in a thread."""
    from rest_framework.renderers import JSONRenderer
    from rest_framework.response import Response

    response: Any = Response({"items": [], "next": None})
    response.accepted_renderer = JSONRenderer()
    response.accepted_media_type = "application/json"
    response.renderer_context = {"view": view, "request": request}
    return response


async def _to_thread(view: Any, request: Any, **_: Any) -> Any:
    from django.http import JsonResponse

    return await asyncio.to_thread(JsonResponse, {"items": [], "next": None})


async def _new_thread(view: Any, request: Any, **_: Any) -> Any:
    from django.http import JsonResponse

    thread = threading.Thread(target=list)
    thread.start()
    thread.join()
    return JsonResponse({"items": [], "next": None})
