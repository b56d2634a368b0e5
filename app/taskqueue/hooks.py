"""Where the project plugs telemetry into the queue. Everything does nothing until it is replaced.

    from app.taskqueue.hooks import hooks
    hooks.observe = my_counter

Events given to `observe` (value 1.0 unless said):
counters, with queue and path: enqueued, pushed_directly, push_failed, relayed, relay_failed,
started, succeeded, failed (an attempt raised), retried, dead, reaped (leases taken back),
lease_lost, released, tick_enqueued and tick_skipped (by the relay, for periodic tasks);
gauges, with queue, set by the relay from the cluster: queue_ready, queue_delayed, queue_running,
queue_dead, oldest_ready_seconds, backlog_seconds; set by the relay from PostgreSQL, without queue:
outbox_unconfirmed, outbox_oldest_seconds (rows that are due and not confirmed).
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from traceback import format_exception
from typing import Any, Literal, Protocol

from psycopg_pool import AsyncConnectionPool

from app.taskqueue.envelope import Envelope

Process = Literal["worker", "relay"]


class Observe(Protocol):
    """Counts an event, or sets a gauge, of one queue and task path (either may be empty)."""

    def __call__(self, event: str, queue: str, path: str, value: float = 1.0) -> None: ...


@contextmanager
def _no_headers(_path: str, _queue: str, _task_id: str) -> Iterator[dict[str, str]]:
    yield {}


def _not_around(
    _envelope: Envelope, _attempt: int, _wait_seconds: float
) -> AbstractContextManager[None]:
    return nullcontext()


def _not_observed(event: str, queue: str, path: str, value: float = 1.0) -> None:
    """Nobody listens."""


def _ignored(*_args: str) -> None:
    """Nobody listens."""


def _no_pool() -> None:
    return None


def _traceback(error: BaseException) -> str:
    return "".join(format_exception(error))


@dataclass(slots=True)
class Hooks:
    """The plug points of this package."""

    # sending(path, queue, task id): around the outbox write; the yielded dict is the envelope's "h"
    sending: Callable[[str, str, str], AbstractContextManager[dict[str, str]]] = _no_headers
    # running(envelope, attempt, wait_seconds): around each run, in the thread or asyncio task that
    # runs the function; an exception of the function passes through it
    running: Callable[[Envelope, int, float], AbstractContextManager[None]] = _not_around
    observe: Observe = _not_observed
    # tick(process, queue): the loop of that process turned (a worker ticks per queue)
    tick: Callable[[Process, str], None] = _ignored
    # start(process): once, when run_worker or run_relay starts (metrics port, trace exporter)
    start: Callable[[Process], None] = _ignored
    # stop(process): once, before it exits in order (flush exporters)
    stop: Callable[[Process], None] = _ignored
    # quiet(): around the polling loops, so that instrumented clients make no spans of their own
    quiet: Callable[[], AbstractContextManager[object]] = nullcontext
    # traceback(error): its text as kept with a failed task; a project may leave out what is private
    traceback: Callable[[BaseException], str] = _traceback
    # async_pool(): the open psycopg pool of this event loop, or None; with it `aenqueue` and
    # `aget_result` are native, without it they take Django's way through a thread
    async_pool: Callable[[], AsyncConnectionPool[Any] | None] = _no_pool


hooks = Hooks()
