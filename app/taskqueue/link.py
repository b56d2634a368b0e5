"""One background thread per process through which everybody but workers and relay speaks to the
cluster.

A publisher hands over its task after the commit and goes on: it never waits for the cluster, so a
cluster that is slow or gone cannot slow a request down, and what cannot be pushed at once is
dropped, for the relay has the row. Callers who need an answer (results, `durable=False`) get a
`concurrent.futures.Future`, which threads wait for and coroutines wrap.
"""

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from app.taskqueue.cluster import Cluster, Reply
from app.taskqueue.connection import QueueAddress
from app.taskqueue.hooks import hooks
from app.taskqueue.lua import Command
from app.taskqueue.topology import QueueUnavailable

TIMEOUT = 1.0  # seconds for connecting and for each answer; nobody's request waits for it
BATCH = 200
BACKLOG = 10_000  # commands waiting; more are dropped (pushes) or refused (answers wanted)

Done = Callable[[Reply], None]

log = logging.getLogger("taskqueue")


@dataclass(slots=True)
class _Item:
    command: Command
    done: Done


_STOP = _Item((), lambda _: None)


class Link:
    """The thread and its queue. Starts with the first command."""

    def __init__(self, address: QueueAddress) -> None:
        self._address = address
        self._items: deque[_Item] = deque()
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def push(self, command: Command, done: Done) -> None:
        """Run `command` soon, or drop it when the cluster is away. Never blocks, never raises.

        `done` is called with the reply on the link's thread; it must be quick.
        """
        if len(self._items) < BACKLOG:
            self._put(_Item(command, done))
        else:
            done(Reply(error=QueueUnavailable("too many commands wait for the queue cluster")))

    def ask(self, command: Command) -> Future[Any]:
        """Run `command` and promise its answer (QueueUnavailable when the cluster is away)."""
        future: Future[Any] = Future()

        def done(reply: Reply) -> None:
            if not future.set_running_or_notify_cancel():
                return
            if reply.error is None:
                future.set_result(reply.value)
            else:
                future.set_exception(reply.error)

        self._put(_Item(command, done))
        return future

    def start(self) -> None:
        """Start the thread, at process start rather than with the first command."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="taskqueue", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """End the thread after what waits; a later command starts a new one."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._items.append(_STOP)
            self._wake.set()
            thread.join(TIMEOUT)

    def _put(self, item: _Item) -> None:
        self._items.append(item)
        if self._thread is None:
            self.start()
        self._wake.set()

    def _run(self) -> None:
        cluster = Cluster(self._address, timeout=TIMEOUT)
        with hooks.quiet():
            while True:
                self._wake.wait()
                self._wake.clear()
                while self._items:
                    batch = [self._items.popleft() for _ in range(min(BATCH, len(self._items)))]
                    _exchange(cluster, [item for item in batch if item is not _STOP])
                    if any(item is _STOP for item in batch):
                        cluster.close()
                        return


def _exchange(cluster: Cluster, batch: Sequence[_Item]) -> None:
    """Run a batch and tell everybody; the thread outlives whatever goes wrong."""
    try:
        replies = cluster.run([item.command for item in batch])
    except Exception as error:  # noqa: BLE001 - whoever waits must hear of it
        cluster.close()
        replies = [Reply(error=error) for _ in batch]
    for item, reply in zip(batch, replies, strict=True):
        try:
            item.done(reply)
        except Exception:
            log.exception("taskqueue.link.callback_failed")


_links: dict[QueueAddress, Link] = {}
_links_lock = threading.Lock()


def link_to(address: QueueAddress) -> Link:
    """The link of this process to that cluster."""
    link = _links.get(address)
    if link is None:
        with _links_lock:
            link = _links.setdefault(address, Link(address))
    return link


def _after_fork() -> None:
    # The thread and its sockets stayed with the parent; the rows of what it held are in the outbox.
    _links.clear()


os.register_at_fork(after_in_child=_after_fork)
