"""The single bridge from async to sync, and the bounded threads behind it.

Django's transactions are synchronous, so business rules are plain functions. A request borrows at
most one thread, only when it first needs one, and gives its database connections back after each
call: a request that waits on the network holds neither.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connections

from app.common.errors import Overloaded


async def in_thread[**P, T](service: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a sync service in this request's thread, then give its connections back to the pool."""

    def call() -> T:
        try:
            return service(*args, **kwargs)
        finally:
            close_connections()

    return await sync_to_async(call)()


def close_connections() -> None:
    """Give this thread's connections back, except those inside a transaction (tests)."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()


def _holds_connection() -> bool:
    return any(
        connection.connection is not None and not connection.in_atomic_block
        for connection in connections.all(initialized_only=True)
    )


class ThreadBank:
    """At most `size` threads for all requests of the process, handed out one per request.

    All methods run on the event loop. A request that needs a thread while none is free waits in
    line; when `max_waiting` requests wait already it is refused with Overloaded (503).
    """

    def __init__(self, size: int, max_waiting: int = 512) -> None:
        self.size = size
        self.max_waiting = max_waiting
        self.waiting: deque[RequestThread] = deque()
        self._started = 0
        self._free: list[ThreadPoolExecutor] = []

    @property
    def busy(self) -> int:
        """Threads that belong to a request now."""
        return self._started - len(self._free)

    def take(self) -> ThreadPoolExecutor | None:
        """A free thread, or None when all are busy."""
        if self._free:
            return self._free.pop()
        if self._started < self.size:
            self._started += 1
            return ThreadPoolExecutor(1, thread_name_prefix=f"request-{self._started}")
        return None

    def give_back(self, thread: ThreadPoolExecutor) -> None:
        """Hand the thread to the next in line, or keep it for later."""
        while self.waiting:
            if self.waiting.popleft().start(thread):
                return
        self._free.append(thread)


class RequestThread(Executor):
    """The executor of one request: takes a thread of the bank at the first call, keeps it until
    `release`, and costs nothing when the request never leaves the event loop."""

    def __init__(self, bank: ThreadBank, loop: asyncio.AbstractEventLoop) -> None:
        self.used = False
        self.holds_connection = False
        self._bank = bank
        self._loop = loop
        self._thread: ThreadPoolExecutor | None = None
        self._queue: list[tuple[Future[Any], Callable[[], Any]]] = []
        self._running: Future[Any] | None = None
        self._released = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run `fn` in the request's thread. Raises Overloaded when too many requests wait."""
        call = partial(fn, *args, **kwargs)
        self.used = True
        if self._thread is None and not self._queue:
            self._thread = self._bank.take()
        if self._thread is not None:
            return self._hand_over(call)
        if len(self._bank.waiting) >= self._bank.max_waiting:
            raise Overloaded("All request threads are busy.")
        future: Future[Any] = Future()
        self._queue.append((future, call))
        if len(self._queue) == 1:
            self._bank.waiting.append(self)
        return future

    def start(self, thread: ThreadPoolExecutor) -> bool:
        """A thread became free for the calls in line; False when nobody waits for them any more."""
        calls = [(f, c) for f, c in self._queue if f.set_running_or_notify_cancel()]
        self._queue = []
        if self._released or not calls:
            return False
        self._thread = thread
        for future, call in calls:
            self._hand_over(call).add_done_callback(partial(_copy_result, future))
        return True

    def release(self) -> None:
        """The request is over. A call that still runs (client gone) keeps the thread till then."""
        self._released = True
        thread, self._thread = self._thread, None
        if thread is None:
            if self._queue:
                self._queue = []
                self._bank.waiting.remove(self)
            return
        if self._running is None or self._running.done():
            self._bank.give_back(thread)
        else:
            self._running.add_done_callback(
                lambda _: self._loop.call_soon_threadsafe(self._bank.give_back, thread)
            )

    def _hand_over(self, call: Callable[[], Any]) -> Future[Any]:
        assert self._thread is not None
        self._running = self._thread.submit(self._run, call)
        return self._running

    def _run(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        finally:
            self.holds_connection = _holds_connection()


def _copy_result(target: Future[Any], source: Future[Any]) -> None:
    error = source.exception()
    if error is not None:
        target.set_exception(error)
    else:
        target.set_result(source.result())
