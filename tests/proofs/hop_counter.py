"""Counts thread hops: every way in which a request can leave the event loop, patched at its root.

A hop is a call handed to an executor (`sync_to_async`, `asyncio.to_thread`, `run_in_executor`, a
direct `submit`) or a thread started. What a request causes is told from background work by a
context variable, so the count is exact and needs no quiet machine.
"""

from __future__ import annotations

import asyncio
import threading
from asyncio.base_events import BaseEventLoop
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from typing import Any

import uvloop
from asgiref.sync import SyncToAsync

CURRENT: ContextVar[Hops | None] = ContextVar("hops", default=None)


@dataclass(slots=True)
class Hops:
    """What one request did, by kind."""

    sync_to_async: int = 0
    to_thread: int = 0
    run_in_executor: int = 0
    submit: int = 0
    threads: int = 0

    @property
    def total(self) -> int:
        """Each kind funnels into the next one: the largest of them, plus new threads."""
        funnel = (self.sync_to_async + self.to_thread, self.run_in_executor, self.submit)
        return max(funnel) + self.threads


PATCHED: dict[tuple[Any, str], str] = {
    (SyncToAsync, "__call__"): "sync_to_async",
    (asyncio, "to_thread"): "to_thread",
    (BaseEventLoop, "run_in_executor"): "run_in_executor",
    (uvloop.Loop, "run_in_executor"): "run_in_executor",
    (ThreadPoolExecutor, "submit"): "submit",
    (threading.Thread, "start"): "threads",
}
"""What is patched, and the kind it counts."""


def install() -> None:
    """Patch the process for the rest of its life (a proof process ends after counting)."""
    for (owner, name), kind in PATCHED.items():
        _count(owner, name, kind)


def _count(owner: Any, name: str, kind: str) -> None:
    original = getattr(owner, name)

    @wraps(original)
    def counted(*args: Any, **kwargs: Any) -> Any:
        hops = CURRENT.get()
        if hops is not None:
            setattr(hops, kind, getattr(hops, kind) + 1)
        return original(*args, **kwargs)

    setattr(owner, name, counted)
