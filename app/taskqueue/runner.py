"""One attempt of one task: find the function, run it where it belongs, say how it ended."""

import asyncio
import json
import logging
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Any

from django.db import connections
from django.tasks import Task, TaskContext, TaskResult, TaskResultStatus
from django.tasks.base import TaskError
from django.tasks.signals import task_finished, task_started
from django.utils import timezone
from django.utils.json import normalize_json

from app.taskqueue.backend import ClusterBackend
from app.taskqueue.envelope import Envelope, TooLarge, Unserialisable, dumps, loads, retry_delay
from app.taskqueue.failpoints import failpoint
from app.taskqueue.hooks import hooks
from app.taskqueue.results import UnknownTask, as_enqueued, moment, update, waiting

TRACEBACK = 8_000  # characters kept, the last ones

OnThread = Callable[["asyncio.Future[Outcome]"], None]

log = logging.getLogger("taskqueue")


class TaskTimeout(Exception):
    """An attempt took longer than the task's `timeout`."""


@dataclass(slots=True, kw_only=True)
class Job:
    """A lease: a task, and this worker's right to run it."""

    tag: str
    id: str
    fence: int
    attempt: int
    lease: float  # seconds
    waited: float  # seconds between ready and claimed
    enqueued_at: int  # milliseconds, as is started_at
    started_at: int
    workers: list[str]
    envelope: Envelope

    @classmethod
    def of(cls, tag: str, row: Sequence[Any]) -> "Job":
        """From one row of scripts/claim.lua."""
        task_id, *numbers, workers = row[0].decode().split(" ")
        fence, attempt, lease, waited, enqueued_at, started_at = map(int, numbers)
        return cls(
            tag=tag,
            id=task_id,
            fence=fence,
            attempt=attempt,
            lease=lease / 1000,
            waited=waited / 1000,
            enqueued_at=enqueued_at,
            started_at=started_at,
            workers=workers.split(","),
            envelope=loads(row[1]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an attempt ended: `result` is the return value as JSON, or None after an error."""

    result: str | None = None
    error: str = ""  # JSON: [exception class, traceback]
    final: bool = False  # an error that no further attempt can mend, or the last attempt
    delay: float = 0.0  # seconds before the next attempt


class Attempt:
    """The run of a job, in Django's terms. Lives in the thread or asyncio task of the function."""

    def __init__(self, backend: ClusterBackend, job: Job, task: "Task[..., Any]") -> None:
        self.job = job
        self.task = task
        self._backend = backend
        self._result = _running(backend.alias, job, task)
        self._ended = False

    def run(self) -> Outcome:
        """In a thread of the pool: a sync function, its signals and its database connections."""
        self._send_started()
        try:
            with hooks.running(self.job.envelope, self.job.attempt, self.job.waited):
                failpoint("worker.mid_task")
                text = self._text(self.task.func(*self._arguments(), **self._result.kwargs))
            return self._succeeded(text)
        except BaseException as error:  # noqa: BLE001 - whatever a task raises is its outcome
            return self._failed(error)
        finally:
            for connection in connections.all(initialized_only=True):
                connection.close()  # back to the pool

    async def run_async(self) -> Outcome:
        """On the event loop. A cancellation that is not the task's own goes through."""
        self._send_started()
        limit = asyncio.timeout(self.job.envelope.get("timeout"))
        try:
            async with limit:
                with hooks.running(self.job.envelope, self.job.attempt, self.job.waited):
                    failpoint("worker.mid_task")
                    value = await self.task.func(*self._arguments(), **self._result.kwargs)
                    text = self._text(value)
            return self._succeeded(text)
        except BaseException as error:  # as above
            current = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and current and current.cancelling():
                raise
            return self._failed(self._overdue() if limit.expired() else error)

    def time_out(self) -> Outcome:
        """End the attempt while its thread is still busy."""
        outcome = self._failed(self._overdue())
        self._ended = True
        return outcome

    def _overdue(self) -> TaskTimeout:
        return TaskTimeout(f"took longer than {self.job.envelope.get('timeout')} s")

    def _arguments(self) -> list[Any]:
        if not self.task.takes_context:
            return self._result.args
        return [TaskContext(task_result=self._result), *self._result.args]

    def _text(self, value: object) -> str:
        what = f"return value of {self.job.envelope['path']}"
        try:
            plain = normalize_json(value)
        except (TypeError, ValueError) as error:
            raise Unserialisable(f"{what}: {error}") from error
        text = dumps(plain, what=what, limit=self._backend.settings.max_payload)
        update(self._result, _return_value=plain)
        return text

    def _send_started(self) -> None:
        task_started.send_robust(sender=type(self._backend), task_result=self._result)

    def _succeeded(self, text: str) -> Outcome:
        self._finish(TaskResultStatus.SUCCESSFUL)
        return Outcome(result=text)

    def _failed(self, error: BaseException) -> Outcome:
        entry = _entry(error)
        final = isinstance(error, (Unserialisable, TooLarge))  # the next attempt would say the same
        if final or self.job.attempt >= self.job.envelope["max_attempts"]:
            self._result.errors.append(TaskError(**entry))
            self._finish(TaskResultStatus.FAILED)
            return Outcome(error=json.dumps(list(entry.values())), final=True)
        delay = _delay(self.job)
        log.warning(
            "task.attempt_failed id=%s path=%s attempt=%d retry_in=%.1fs",
            *(self.job.id, self.job.envelope["path"], self.job.attempt, delay),
            exc_info=error,
        )
        return Outcome(error=json.dumps(list(entry.values())), delay=delay)

    def _finish(self, status: TaskResultStatus) -> None:
        if self._ended:  # a thread that came back after its attempt had timed out
            return
        self._ended = True
        update(self._result, status=status, finished_at=timezone.now())
        task_finished.send_robust(sender=type(self._backend), task_result=self._result)


class Runner:
    """Runs jobs: async functions on the loop, sync ones in at most `threads` threads."""

    def __init__(self, backend: ClusterBackend, threads: int) -> None:
        self._backend = backend
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="task")

    async def run(
        self, job: Job, on_thread: Callable[["asyncio.Future[Outcome]"], None]
    ) -> Outcome:
        """Run one attempt to its end or its timeout. Only a cancellation is raised.

        `on_thread` is told of the thread that a sync function runs in; it cannot be stopped and may
        outlive the attempt.
        """
        try:
            task = as_enqueued(job.envelope)
        except UnknownTask as error:
            log.error("task.unknown id=%s path=%s", job.id, job.envelope["path"])  # noqa: TRY400
            return Outcome(error=json.dumps(list(_entry(error).values())), final=True)
        attempt = Attempt(self._backend, job, task)
        if iscoroutinefunction(task.func):
            return await attempt.run_async()
        loop = asyncio.get_running_loop()
        thread = loop.run_in_executor(self._threads, copy_context().run, attempt.run)
        on_thread(thread)
        return await self._in_thread(attempt, thread)

    async def _in_thread(self, attempt: Attempt, thread: "asyncio.Future[Outcome]") -> Outcome:
        timeout = attempt.job.envelope.get("timeout")
        if timeout is None:
            return await asyncio.shield(thread)
        await asyncio.wait({thread}, timeout=timeout)
        if thread.done():
            return thread.result()
        # The attempt ends here: its lease goes, so nothing that the thread still returns counts.
        return attempt.time_out()

    def close(self) -> None:
        """Let idle threads end; do not wait for busy ones."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _running(alias: str, job: Job, task: "Task[..., Any]") -> "TaskResult[..., Any]":
    result = waiting(job.envelope, alias, task)
    update(
        result,
        status=TaskResultStatus.RUNNING,
        enqueued_at=moment(job.enqueued_at),
        started_at=moment(job.started_at),
        last_attempted_at=timezone.now(),
        worker_ids=job.workers,
    )
    return result


def _entry(error: BaseException) -> dict[str, str]:
    kind = type(error)
    return {
        "exception_class_path": f"{kind.__module__}.{kind.__qualname__}",
        "traceback": hooks.traceback(error)[-TRACEBACK:],
    }


def _delay(job: Job) -> float:
    """Seconds to the next attempt; up to a fifth more or less, so that failures do not march."""
    delay = retry_delay(job.envelope.get("backoff", 2.0), job.attempt)
    return delay * random.uniform(0.8, 1.2)  # noqa: S311 - no secret
