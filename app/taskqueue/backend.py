"""The backend of Django's task API: an outbox row in the caller's transaction, then a push."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from django.db import connections, transaction
from django.tasks import TaskResult, TaskResultStatus
from django.tasks.backends.base import BaseTaskBackend
from django.tasks.exceptions import InvalidTask, TaskResultDoesNotExist
from django.tasks.signals import task_enqueued
from django.utils import timezone

from app.taskqueue import outbox
from app.taskqueue.cluster import Reply
from app.taskqueue.durable import DurableTask
from app.taskqueue.envelope import (
    DELIVERIES,
    VERSION,
    Envelope,
    Unserialisable,
    dumps,
    loads,
    milliseconds,
)
from app.taskqueue.failpoints import failpoint
from app.taskqueue.hooks import hooks
from app.taskqueue.ids import new_id, shard_of, tag
from app.taskqueue.link import Link, link_to
from app.taskqueue.lua import SHOW
from app.taskqueue.options import BackendOptions, check_queues
from app.taskqueue.outbox import Parcel
from app.taskqueue.results import shown, stored, waiting
from app.taskqueue.topology import QueueUnavailable

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.tasks import Task

    from app.taskqueue.lua import Command

ANSWER_SECONDS = 5.0  # how long a thread waits for the cluster when it wants an answer


_for_a_coroutine: ContextVar[bool] = ContextVar("taskqueue_for_a_coroutine", default=False)


@contextmanager
def _in_djangos_thread() -> Iterator[None]:
    token = _for_a_coroutine.set(True)
    try:
        yield
    finally:
        _for_a_coroutine.reset(token)


@dataclass(slots=True)
class _Sending[**P, R]:
    """One enqueue under way: what is stored, and the result the caller gets."""

    parcel: Parcel
    result: TaskResult[P, R]


class ClusterBackend(BaseTaskBackend):
    """Tasks on a Valkey or Redis Cluster, fed by an outbox in PostgreSQL.

    Django makes one instance per thread and context: all state lives in the link of the process.
    """

    task_class: ClassVar = DurableTask  # type: ignore[misc]
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)
        check_queues(self.queues)
        self.settings = BackendOptions.of(self.options)

    def validate_task(self, task: Task[..., Any]) -> None:
        """Django's rules and ours. InvalidTask names what is wrong."""
        super().validate_task(task)
        if not isinstance(task, DurableTask):
            raise InvalidTask("Task must be an instance of this backend's task_class.")
        problem = _problem(task)
        if problem:
            raise InvalidTask(problem)

    def enqueue[**P, R](
        self, task: Task[P, R], args: Sequence[Any], kwargs: dict[str, Any]
    ) -> TaskResult[P, R]:
        """Write the outbox row in the current transaction; push it once that is committed.

        Unserialisable and TooLarge name a bad argument. With `durable=False` nothing is written:
        outside a transaction QueueUnavailable says that the cluster is away.
        """
        with self._sending(task, args, kwargs) as sending, self._database() as connection:
            if _is_durable(task):
                with connection.cursor() as cursor:
                    cursor.execute(outbox.INSERT, sending.parcel.row)
            elif not connection.in_atomic_block:
                _wait(self._ask(self._command(sending.parcel)))
                hooks.observe("enqueued", sending.parcel.queue, sending.parcel.path)
                return self._told(sending)
            committed = partial(self._committed, sending.parcel)
            transaction.on_commit(committed, using=connection.alias, robust=True)
            return self._told(sending)

    async def aenqueue[**P, R](
        self, task: Task[P, R], args: Sequence[Any], kwargs: dict[str, Any]
    ) -> TaskResult[P, R]:
        """Like `enqueue` outside a transaction (a coroutine is never inside one), without a thread
        where `hooks.async_pool` gives a pool.
        """
        pool = hooks.async_pool()
        if _is_durable(task) and pool is None:
            with _in_djangos_thread():
                return await super().aenqueue(task, list(args), kwargs)
        with self._sending(task, args, kwargs) as sending:
            if pool is not None and _is_durable(task):
                async with pool.connection() as connection:
                    await connection.execute(outbox.INSERT, sending.parcel.row)
                self._committed(sending.parcel)
            else:
                await asyncio.wrap_future(self._ask(self._command(sending.parcel)))
                hooks.observe("enqueued", sending.parcel.queue, sending.parcel.path)
            return self._told(sending)

    def get_result(self, result_id: str) -> TaskResult[..., Any]:
        """What is known about a task, from the cluster or, until it is there, from the outbox.

        Raises TaskResultDoesNotExist, also after `result_ttl`; QueueUnavailable; UnknownTask.
        """
        lookups = self._lookups(result_id)
        fields = _known(self._answers(lookups))
        if fields is None:
            with self._database() as connection, connection.cursor() as cursor:
                cursor.execute(outbox.FIND, [result_id])
                row = cursor.fetchone()
            if row:
                return waiting(loads(row[0]), self.alias)
            # It may have moved from the outbox to the cluster since we looked there.
            fields = _known(self._answers(lookups))
        if fields and "into" in fields:
            return self.get_result(fields["into"])
        return self._result(fields, result_id)

    async def aget_result(self, result_id: str) -> TaskResult[..., Any]:
        """Like `get_result`, without a thread where `hooks.async_pool` gives a pool."""
        pool = hooks.async_pool()
        if pool is None:
            with _in_djangos_thread():
                return await super().aget_result(result_id)
        lookups = self._lookups(result_id)
        fields = _known(await self._answers_async(lookups))
        if fields is None:
            async with pool.connection() as connection:
                row = await (await connection.execute(outbox.FIND, [result_id])).fetchone()
            if row:
                return waiting(loads(row[0]), self.alias)
            fields = _known(await self._answers_async(lookups))
        if fields and "into" in fields:
            return await self.aget_result(fields["into"])
        return self._result(fields, result_id)

    @property
    def link(self) -> Link:
        """This process's link to the cluster; `link.start()` opens its thread ahead of use."""
        return link_to(self.settings.address)

    @contextmanager
    def _database(self) -> Iterator[BaseDatabaseWrapper]:
        connection = connections[self.settings.database]
        try:
            yield connection
        finally:
            # Nobody gives back what a coroutine borrowed in Django's thread.
            if _for_a_coroutine.get() and not connection.in_atomic_block:
                connection.close()

    @contextmanager
    def _sending[**P, R](
        self, task: Task[P, R], args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Iterator[_Sending[P, R]]:
        self.validate_task(task)
        assert isinstance(task, DurableTask)
        task_id = new_id(self.settings.shards, task.unique_key)
        result: TaskResult[P, R] = self._fresh(task, task_id, args, kwargs)
        with hooks.sending(task.module_path, task.queue_name, task_id) as headers:
            envelope = _envelope(task, result, headers)
            text = dumps(envelope, what=task.module_path, limit=self.settings.max_payload)
            yield _Sending(_parcel(task, envelope, text), result)

    def _fresh[**P, R](
        self, task: Task[P, R], task_id: str, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> TaskResult[P, R]:
        try:
            return TaskResult(
                task=task,
                id=task_id,
                status=TaskResultStatus.READY,
                enqueued_at=timezone.now(),
                started_at=None,
                finished_at=None,
                last_attempted_at=None,
                args=list(args),
                kwargs=kwargs,
                backend=self.alias,
                errors=[],
                worker_ids=[],
            )
        except (TypeError, ValueError) as error:
            raise Unserialisable(
                f"{task.module_path}: {error}; pass ids, numbers and text"
            ) from error

    def _told[**P, R](self, sending: _Sending[P, R]) -> TaskResult[P, R]:
        task_enqueued.send(type(self), task_result=sending.result)
        return sending.result

    def _committed(self, parcel: Parcel) -> None:
        """The fact is durable: push at once what is due soon. Never waits, never raises."""
        failpoint("outbox.committed_before_push")
        hooks.observe("enqueued", parcel.queue, parcel.path)
        soon = milliseconds(timezone.now()) + outbox.HORIZON_SECONDS * 1000
        if parcel.run_after is None or parcel.run_after < soon:
            self.link.push(self._command(parcel), partial(_pushed, parcel.queue, parcel.path))

    def _command(self, parcel: Parcel) -> Command:
        return parcel.command(self.settings.address.prefix, self.settings.result_ttl)

    def _ask(self, command: Command) -> Future[Any]:
        return self.link.ask(command)

    def _lookups(self, result_id: str) -> list[Command]:
        """One per queue: an id names its shard, not its queue."""
        try:
            shard = shard_of(result_id)
        except ValueError as error:
            raise TaskResultDoesNotExist(str(error)) from error
        prefix = self.settings.address.prefix
        return [SHOW.call(tag(prefix, queue, shard), result_id) for queue in sorted(self.queues)]

    def _answers(self, lookups: Sequence[Command]) -> list[Any]:
        futures = [self._ask(lookup) for lookup in lookups]
        return [_wait(future) for future in futures]

    async def _answers_async(self, lookups: Sequence[Command]) -> list[Any]:
        return await asyncio.gather(*(asyncio.wrap_future(self._ask(lookup)) for lookup in lookups))

    def _result(self, fields: dict[str, str] | None, result_id: str) -> TaskResult[..., Any]:
        if fields is None:
            raise TaskResultDoesNotExist(f"no task {result_id}, or it ended too long ago")
        return stored(fields, self.alias)


def _wait(future: Future[Any]) -> Any:
    try:
        return future.result(ANSWER_SECONDS)
    except TimeoutError as error:
        raise QueueUnavailable(f"no answer within {ANSWER_SECONDS} s") from error


def _known(answers: Sequence[Any]) -> dict[str, str] | None:
    return next((shown(answer) for answer in answers if answer), None)


def _pushed(queue: str, path: str, reply: Reply) -> None:
    hooks.observe("pushed_directly" if reply.error is None else "push_failed", queue, path)


def _is_durable(task: Task[..., Any]) -> bool:
    return not isinstance(task, DurableTask) or task.durable


def _problem(task: DurableTask[..., Any]) -> str:
    delays = task.backoff if isinstance(task.backoff, tuple) else (task.backoff,)
    rules = {
        "max_attempts must be at least 1.": task.max_attempts >= 1,
        "lease must be at least 1 second.": task.lease >= 1,
        "timeout must be above 0 seconds, or None.": task.timeout is None or task.timeout > 0,
        "backoff must be seconds, or a tuple of them.": bool(delays) and min(delays) >= 0,
        f"delivery must be one of {', '.join(DELIVERIES)}.": task.delivery in DELIVERIES,
        "unique_key must have 1 to 255 characters.": (
            task.unique_key is None or 0 < len(task.unique_key) <= 255
        ),
    }
    return next((message for message, kept in rules.items() if not kept), "")


def _envelope(
    task: DurableTask[..., Any], result: TaskResult[..., Any], headers: dict[str, str]
) -> Envelope:
    assert result.enqueued_at is not None
    envelope = Envelope(
        v=VERSION,
        id=result.id,
        path=task.module_path,
        queue=task.queue_name,
        args=result.args,
        kwargs=result.kwargs,
        h=headers,
        priority=task.priority,
        enqueued_at=milliseconds(result.enqueued_at),
        run_after=milliseconds(task.run_after) if task.run_after else None,
        max_attempts=task.max_attempts,
        lease=float(task.lease),
        backoff=list(task.backoff) if isinstance(task.backoff, tuple) else task.backoff,
    )
    if task.timeout is not None:
        envelope["timeout"] = task.timeout
    if task.unique_key is not None:
        envelope["unique_key"] = task.unique_key
    return envelope


def _parcel(task: DurableTask[..., Any], envelope: Envelope, text: str) -> Parcel:
    return Parcel(
        id=envelope["id"],
        path=envelope["path"],
        queue=envelope["queue"],
        shard=shard_of(envelope["id"]),
        priority=envelope["priority"],
        delivery=task.delivery,
        envelope=text,
        version=VERSION,
        run_after=envelope["run_after"],
        unique_key=task.unique_key,
        max_attempts=envelope["max_attempts"],
        lease=envelope["lease"],
    )
