"""Who uses which client of the cache cluster: coroutines that of their loop, threads that of one
background loop per process."""

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from app.common import cluster
from app.common.cluster import PATIENCE, Client, Failure
from app.taskqueue.connection import QueueAddress
from app.taskqueue.lua import Command

SLACK = 0.01
"""Seconds that a thread waits beyond the loop's own limit: that loop may be short of CPU."""

_clients: dict[tuple[asyncio.AbstractEventLoop, QueueAddress], Client] = {}


def client(address: QueueAddress) -> Client:
    """The running loop's client of that cluster."""
    key = (asyncio.get_running_loop(), address)
    found = _clients.get(key)
    if found is None:
        for old in [known for known in list(_clients) if known[0].is_closed()]:
            _clients.pop(old, None)
        found = _clients[key] = Client(address)
    return found


async def arun(address: QueueAddress, commands: Sequence[Command]) -> list[Any]:
    """`Client.run` for coroutines: without a thread."""
    return await client(address).run(commands)


def run(address: QueueAddress, commands: Sequence[Command]) -> list[Any]:
    """`Client.run` for threads."""
    missing: list[Any] = [Failure("timeout", "the cache loop did not answer")] * len(commands)
    within = cluster.WITHIN + SLACK
    return in_background(lambda: client(address).run(commands), within, missing)


def in_background[T](work: Callable[[], Coroutine[Any, Any, T]], within: float, otherwise: T) -> T:
    """Run a coroutine on the background loop; `otherwise` after `within` seconds."""

    async def begin() -> T:
        return await work()

    future = asyncio.run_coroutine_threadsafe(begin(), _background.start())
    try:
        return future.result(within)
    except TimeoutError:
        future.cancel()
        return otherwise


async def open_clients(address: QueueAddress) -> None:
    """Start the background loop and connect, so that the first request pays for neither."""
    asyncio.run_coroutine_threadsafe(_warm(address), _background.start())
    await asyncio.wait({asyncio.ensure_future(_warm(address))}, timeout=PATIENCE)


async def close_clients() -> None:
    """Close the clients of the running loop and of the background loop."""
    await _close_here()
    if _background.loop is not None:
        done = asyncio.run_coroutine_threadsafe(_close_here(), _background.loop)
        await asyncio.wait({asyncio.wrap_future(done)}, timeout=PATIENCE)


async def _warm(address: QueueAddress) -> None:
    await client(address).warm()


async def _close_here() -> None:
    loop = asyncio.get_running_loop()
    for key in [known for known in list(_clients) if known[0] is loop]:
        await _clients.pop(key).close()


class _Background:
    """The loop and its thread, started at first use."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.lock = threading.Lock()

    def start(self) -> asyncio.AbstractEventLoop:
        """The running loop."""
        if self.loop is None:
            with self.lock:
                if self.loop is None:
                    loop = asyncio.new_event_loop()
                    threading.Thread(target=loop.run_forever, name="cache", daemon=True).start()
                    self.loop = loop
        return self.loop


_background = _Background()


def _after_fork() -> None:
    # The thread and its sockets stayed with the parent.
    _background.loop, _background.lock = None, threading.Lock()
    _clients.clear()


os.register_at_fork(after_in_child=_after_fork)
