"""What the tests of the queue share. Imports no task: conftest.py is loaded before the settings."""

from __future__ import annotations

import asyncio
import copy
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from django.conf import settings
from django.db import connection, connections
from django.tasks import TaskResult, task_backends
from django.test import override_settings

from app.taskqueue.backend import ClusterBackend
from app.taskqueue.cluster import Cluster
from app.taskqueue.ids import tag
from app.taskqueue.lua import Argument, Command, Script
from app.taskqueue.relay import Relay
from app.taskqueue.stats import QueueStats, read_counts
from app.taskqueue.topology import QueueUnavailable
from app.taskqueue.worker import Worker
from devstack.process import Process
from tests.support.session import Lane
from tests.support.waiting import wait_until

EFFECTS = """
    CREATE TABLE IF NOT EXISTS taskqueue_effects (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, value text, pid int,
        at double precision)"""


@dataclass(slots=True)
class Queue:
    """What a test sees of the queue."""

    lane: Lane
    prefix: str
    cluster: Cluster
    url: str
    processes: list[Process] = field(default_factory=list)

    @property
    def backend(self) -> ClusterBackend:
        """The backend of the present settings."""
        backend = task_backends["default"]
        assert isinstance(backend, ClusterBackend)
        return backend

    @property
    def tag(self) -> str:
        """The shard of queue "default"."""
        return tag(self.prefix, "default", 0)

    def run(self, script: Script, *arguments: Argument) -> Any:
        """Run a script on the shard of queue "default"."""
        return self.command(script.call(self.tag, *arguments))

    def command(self, command: Command) -> Any:
        """Run any command on the node of its key."""
        return self.cluster.run([command])[0].result()

    def stats(self, queue: str = "default") -> QueueStats:
        """The numbers of one queue."""
        return read_counts(self.backend, self.cluster)[queue]

    def relay(self) -> Relay:
        """A relay to step by hand."""
        return Relay(self.backend)

    @contextmanager
    def worker(self, *queues: str, concurrency: int = 4, grace: float = 5.0) -> Iterator[None]:
        """A worker in a thread of this process."""
        loop_of: list[tuple[asyncio.AbstractEventLoop, Worker]] = []
        errors: list[BaseException] = []

        async def work() -> None:
            worker = Worker(self.backend, list(queues) or ["default"], concurrency, grace=grace)
            loop_of.append((asyncio.get_running_loop(), worker))
            await worker.run()

        def run() -> None:
            try:
                asyncio.run(work())
            except BaseException as error:  # noqa: BLE001 - raised below, in the test
                errors.append(error)
            finally:
                connections.close_all()

        thread = threading.Thread(target=run)
        thread.start()
        try:
            wait_until(lambda: loop_of or errors, what="the worker's start")
            yield
        finally:
            for loop, worker in loop_of:
                loop.call_soon_threadsafe(worker.stop)
            thread.join(20)
        assert not thread.is_alive()
        if errors:
            raise errors[0]

    def spawn(self, *command: str, **environment: str) -> Process:
        """A real process of the app on this test's prefix and database."""
        environment = {"QUEUE_PREFIX": self.prefix, "QUEUE_URL": self.url} | environment
        process = self.lane.stack.spawn(command, env=self.lane.env(**environment))
        self.processes.append(process)
        return process

    def stop(self) -> None:
        """End the processes and forget the keys."""
        for process in self.processes:
            process.stop()
        with suppress(QueueUnavailable):
            self.forget()
        self.cluster.close()

    def forget(self) -> None:
        """Remove all keys, as a flush would."""
        for node in self.cluster.topology().primaries:
            (keys,) = self.cluster.ask(node, ("KEYS", f"*{self.prefix}*"))
            self.cluster.ask(node, *(("DEL", key) for key in keys))


@contextmanager
def queue_on(lane: Lane, url: str, **options: Any) -> Iterator[Queue]:
    prefix = f"{lane.prefix}{uuid4().hex[:8]}"
    tasks: dict[str, Any] = copy.deepcopy(settings.TASKS)
    tasks["default"]["OPTIONS"] |= {"url": url, "prefix": prefix} | options
    with override_settings(TASKS=tasks):
        backend = task_backends["default"]
        assert isinstance(backend, ClusterBackend)
        queue = Queue(lane, prefix, Cluster(backend.settings.address, timeout=3.0), url)
        with connection.cursor() as cursor:
            cursor.execute("TRUNCATE taskqueue_effects")
        try:
            yield queue
        finally:
            queue.stop()
            backend.link.close()


def effects(name: str) -> int:
    """How often a task left this row."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM taskqueue_effects WHERE name = %s", [name])
        count: int = cursor.fetchone()[0]
    return count


def order_of_effects() -> list[str]:
    """The values of all effects, first first."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT value FROM taskqueue_effects ORDER BY id")
        return [value for (value,) in cursor.fetchall()]


def outbox_rows(where: str = "true") -> int:
    """Rows in the outbox."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM taskqueue_outbox WHERE {where}")
        count: int = cursor.fetchone()[0]
    return count


def finished(result: TaskResult[Any, Any], timeout: float = 20.0) -> TaskResult[Any, Any]:
    """Wait until a task has ended."""

    def ended() -> bool:
        with suppress(QueueUnavailable):
            result.refresh()
        return result.is_finished

    wait_until(ended, timeout=timeout, what=f"the end of {result.task.name}")
    return result
