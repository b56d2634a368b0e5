"""Enqueueing: one row in the transaction of the fact, a direct push after it, never a failure."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import psycopg_pool
import pytest
from django.db import connection, transaction
from django.tasks import TaskResultStatus, task_backends
from django.tasks.exceptions import TaskResultDoesNotExist
from django.tasks.signals import task_enqueued
from django.utils import timezone

from app.taskqueue.envelope import TooLarge, Unserialisable
from app.taskqueue.hooks import hooks
from app.taskqueue.models import OutboxTask
from app.taskqueue.topology import QueueUnavailable
from devstack.ports import find_free
from tests.support.waiting import wait_until
from tests.taskqueue.jobs import add, noop, record
from tests.taskqueue.support import Queue, outbox_rows


class Boom(Exception):
    """Rolls a transaction back."""


@contextmanager
def observed() -> Iterator[list[tuple[str, str]]]:
    """Events of the hooks: (event, path)."""
    events: list[tuple[str, str]] = []
    before = hooks.observe

    def observe(event: str, queue: str, path: str, value: float = 1.0) -> None:
        events.append((event, path))
        before(event, queue, path, value)

    hooks.observe = observe
    try:
        yield events
    finally:
        hooks.observe = before


def test_commit_makes_one_row_and_one_ready_task(queue: Queue) -> None:
    with transaction.atomic():
        result = add.using(priority=3).enqueue(1, 2)
        assert outbox_rows() == 1
        assert queue.stats().ready == 0
    row = OutboxTask.objects.get()
    assert (row.id, row.path, row.queue, row.shard) == (
        *(result.id, "tests.taskqueue.jobs.add", "default", 0),
    )
    assert (row.priority, row.delivery, row.version, row.attempts) == (3, "dispatched", 1, 0)
    assert (row.unique_key, row.pushed_at, row.confirmed_at) == (None, None, None)
    assert abs(timezone.now() - row.run_after) < timedelta(seconds=60)
    assert row.envelope["args"] == [1, 2]
    assert row.envelope["max_attempts"] == 5
    wait_until(lambda: queue.stats().ready == 1, what="the direct push")
    assert result.status is TaskResultStatus.READY
    assert outbox_rows() == 1  # the row stays until the relay has confirmed it


def rolled_back(enqueue: Callable[[], Any]) -> Any:
    """Enqueue in a transaction, or savepoint, that is rolled back."""
    result = None
    with suppress(Boom), transaction.atomic():
        result = enqueue()
        raise Boom
    return result


def test_rollback_leaves_nothing(queue: Queue) -> None:
    gone = rolled_back(lambda: add.enqueue(1, 2))
    with transaction.atomic():
        rolled_back(lambda: add.enqueue(3, 4))
        kept = add.enqueue(5, 6)
    wait_until(lambda: queue.stats().ready == 1, what="the one task")
    assert [row.id for row in OutboxTask.objects.all()] == [kept.id]
    with pytest.raises(TaskResultDoesNotExist):
        add.get_result(gone.id)


def test_many_tasks_of_one_transaction(queue: Queue) -> None:
    with transaction.atomic():
        for number in range(300):
            noop.using(priority=number % 5).enqueue()
    wait_until(lambda: queue.stats().ready == 300, what="300 direct pushes")


def test_outside_a_transaction_the_row_is_committed_at_once(queue: Queue) -> None:
    noop.enqueue()
    assert outbox_rows() == 1
    wait_until(lambda: queue.stats().ready == 1, what="the direct push")


def test_not_durable_is_pushed_without_a_row(queue: Queue) -> None:
    result = noop.using(durable=False).enqueue()
    assert (outbox_rows(), queue.stats().ready) == (0, 1)
    rolled_back(noop.using(durable=False).enqueue)
    with transaction.atomic():
        noop.using(durable=False).enqueue()
        assert queue.stats().ready == 1
    wait_until(lambda: queue.stats().ready == 2, what="the push after the commit")
    assert noop.get_result(result.id).status is TaskResultStatus.READY


def test_cluster_down_costs_the_caller_nothing(queue_with: Callable[..., Any]) -> None:
    url = f"valkey://127.0.0.1:{find_free(1)[0]}"
    with queue_with(url=url), observed() as events:
        started = time.perf_counter()
        for _ in range(50):
            with transaction.atomic():
                noop.enqueue()
        assert time.perf_counter() - started < 10  # 50 transactions on a busy machine
        assert outbox_rows() == 50
        wait_until(lambda: sum(e == "push_failed" for e, _ in events) == 50, what="50 lost pushes")
        with pytest.raises(QueueUnavailable):
            noop.using(durable=False).enqueue()


def test_one_thread_however_many_tasks(queue: Queue) -> None:
    import threading

    for _ in range(30):
        noop.enqueue()
    wait_until(lambda: queue.stats().ready == 30, what="the pushes")
    assert sum(t.name == "taskqueue" and t.is_alive() for t in threading.enumerate()) <= 2


def test_far_run_after_stays_in_postgresql(queue: Queue) -> None:
    soon = add.using(run_after=timezone.now() + timedelta(minutes=5)).enqueue(1, 1)
    far = add.using(run_after=timezone.now() + timedelta(days=3)).enqueue(2, 2)
    wait_until(lambda: queue.stats().delayed == 1, what="the near one in the delayed set")
    assert outbox_rows() == 2
    for result in (soon, far):
        found = add.get_result(result.id)
        assert found.status is TaskResultStatus.READY
        assert found.args == result.args
    assert far.task.run_after is not None
    found = add.get_result(far.id)
    assert found.task.run_after is not None
    assert abs(found.task.run_after - far.task.run_after) < timedelta(milliseconds=2)


@pytest.mark.parametrize("value", [{1, 2}, object(), float("nan"), "a\0b"])
def test_unserialisable_arguments_name_the_task(queue: Queue, value: Any) -> None:
    with pytest.raises(Unserialisable, match=r"tests\.taskqueue\.jobs\.record"):
        record.enqueue("x", value)
    assert outbox_rows() == 0


def test_oversized_payload_is_refused_before_it_is_written(
    queue_with: Callable[..., Any],
) -> None:
    with queue_with(max_payload=2000), transaction.atomic():
        with pytest.raises(TooLarge, match="allowed are 2000"):
            record.enqueue("x", "y" * 2000)
        record.enqueue("x", "y" * 1000)


def test_arguments_survive_both_ways(queue: Queue) -> None:
    arguments = {"z": 1, "a": [1.5, None, True, "ü\\u0000"], "n": {"k": {"deep": []}}}
    far = record.using(run_after=timezone.now() + timedelta(days=1)).enqueue("far", arguments)  # type: ignore[arg-type]
    near = record.enqueue("near", arguments)  # type: ignore[arg-type]
    wait_until(lambda: queue.stats().ready == 1, what="the direct push")
    assert record.get_result(far.id).args == ["far", arguments]
    assert record.get_result(near.id).args == ["near", arguments]


def test_headers_of_the_enqueuer_travel_in_the_envelope(queue: Queue) -> None:
    before = hooks.sending
    seen: list[tuple[str, str, str]] = []

    @contextmanager
    def sending(path: str, queue_name: str, task_id: str) -> Iterator[dict[str, str]]:
        seen.append((path, queue_name, task_id))
        yield {"traceparent": "00-1-2-01"}

    hooks.sending = sending
    try:
        result = add.enqueue(1, 2)
    finally:
        hooks.sending = before
    assert seen == [("tests.taskqueue.jobs.add", "default", result.id)]
    assert OutboxTask.objects.get().envelope["h"] == {"traceparent": "00-1-2-01"}


def test_django_is_told(queue: Queue) -> None:
    told: list[Any] = []

    def receiver(sender: Any, task_result: Any, **_: Any) -> None:
        told.append((sender, task_result.id))

    task_enqueued.connect(receiver)
    try:
        result = add.enqueue(1, 2)
    finally:
        task_enqueued.disconnect(receiver)
    assert told == [(type(task_backends["default"]), result.id)]


@pytest.mark.parametrize("wrong", ["", "x", "0-123", "nonsense-0193"])
def test_wrong_result_ids(queue: Queue, wrong: str) -> None:
    with pytest.raises(TaskResultDoesNotExist):
        add.get_result(wrong)


def test_aenqueue_through_a_thread(queue: Queue) -> None:
    result = asyncio.run(add.aenqueue(4, 5))
    connection.close()
    assert OutboxTask.objects.get().id == result.id


def test_aenqueue_on_an_injected_pool(queue: Queue) -> None:
    async def enqueue() -> tuple[Any, Any, Any]:
        pool = psycopg_pool.AsyncConnectionPool(
            queue.lane.stack.address.dsn(queue.lane.database), open=False, min_size=1
        )
        async with pool:
            hooks.async_pool = lambda: pool
            durable = await add.aenqueue(4, 5)
            far = add.using(run_after=timezone.now() + timedelta(days=1))
            late = await add.aget_result((await far.aenqueue(1, 1)).id)
            quick = await add.using(durable=False).aenqueue(6, 7)
            await add.aget_result(quick.id)
            return durable, late, quick

    before = hooks.async_pool
    try:
        durable, late, quick = asyncio.run(enqueue())
    finally:
        hooks.async_pool = before
    assert {row.id for row in OutboxTask.objects.all()} == {durable.id, late.id}
    wait_until(lambda: queue.stats().ready == 2, what="both direct pushes")
    assert add.get_result(quick.id).args == [6, 7]
