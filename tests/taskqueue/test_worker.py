"""The worker: results, retries, leases, timeouts, order, and its end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, transaction
from django.tasks import TaskResultStatus
from django.tasks.signals import task_finished, task_started

from app.taskqueue.hooks import hooks
from app.taskqueue.lua import CLAIM
from app.taskqueue.topology import QueueUnavailable
from devstack.ports import find_free
from devstack.valkey import ValkeyCluster
from tests.support.waiting import wait_until
from tests.taskqueue import jobs
from tests.taskqueue.support import Queue, effects, finished, order_of_effects, outbox_rows


def test_results_come_back_from_threads_and_from_the_loop(queue: Queue) -> None:
    with queue.worker():
        results: list[Any] = [jobs.add.enqueue(2, 3), jobs.async_add.enqueue(left=4, right=5)]
        for result in results:
            finished(result)
    assert [result.return_value for result in results] == [5, 9]
    result = jobs.add.get_result(results[0].id)
    assert result.status is TaskResultStatus.SUCCESSFUL
    assert (result.attempts, result.errors, result.kwargs) == (1, [], {})
    assert result.enqueued_at is not None
    assert result.started_at is not None
    assert result.finished_at is not None
    assert result.finished_at >= result.started_at
    assert jobs.async_add.get_result(results[1].id).kwargs == {"left": 4, "right": 5}


def test_one_worker_keeps_priority_and_order(queue: Queue) -> None:
    with transaction.atomic():
        for priority in (0, -5, 100, 0, 10):
            jobs.record.using(priority=priority).enqueue("order", str(priority))
        jobs.record.enqueue("order", "last of 0")
    wait_until(lambda: queue.stats().ready == 6, what="six tasks")
    with queue.worker(concurrency=1):
        wait_until(lambda: effects("order") == 6, what="six effects")
    assert order_of_effects() == ["100", "10", "0", "0", "last of 0", "-5"]


def test_failed_attempts_are_repeated(queue: Queue, caplog: pytest.LogCaptureFixture) -> None:
    with queue.worker(), caplog.at_level(logging.WARNING, "taskqueue"):
        result = finished(jobs.fail_until.enqueue("third time", 3))
    assert result.return_value == 3
    assert result.attempts == 3
    assert [error.exception_class for error in result.errors] == [ValueError, ValueError]
    assert "try 2" in result.errors[1].traceback
    assert sum("task.attempt_failed" in message for message in caplog.messages) == 2


def test_last_attempt_ends_in_a_dead_letter_with_the_errors(queue: Queue) -> None:
    with queue.worker():
        result = finished(jobs.fail_until.enqueue("never", 99))
    assert result.status is TaskResultStatus.FAILED
    assert len(result.errors) == 3
    assert effects("never") == 3
    assert queue.stats().dead == 1
    with pytest.raises(ValueError, match="failed"):
        _ = result.return_value


def test_context_knows_the_attempt(queue: Queue) -> None:
    with queue.worker():
        assert finished(jobs.attempt_number.enqueue()).return_value == 2


@pytest.mark.parametrize("task", [jobs.too_slow, jobs.async_too_slow])
def test_timeout_ends_an_attempt(queue: Queue, tmp_path: Path, task: Any) -> None:
    gate = tmp_path / "gate"
    arguments = [str(gate)] if task is jobs.too_slow else []
    with queue.worker(concurrency=1):
        result = finished(task.enqueue(*arguments))
        assert result.errors[0].exception_class_path == "app.taskqueue.runner.TaskTimeout"
        gate.touch()  # the thread comes back: nothing it says counts, and its place is free again
        assert finished(jobs.add.enqueue(1, 1)).return_value == 2
        result.refresh()
        assert result.status is TaskResultStatus.FAILED


def test_thread_that_timed_out_keeps_its_place(queue: Queue, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with queue.worker(concurrency=1):
        finished(jobs.too_slow.enqueue(str(gate)))
        waiting = jobs.add.enqueue(1, 1)
        wait_until(lambda: queue.stats().ready == 1, what="a second task that has to wait")
        gate.touch()
        finished(waiting)


def test_result_that_no_json_can_hold_is_not_tried_again(queue: Queue) -> None:
    with queue.worker():
        result = finished(jobs.returns_object.enqueue())
    assert (result.status, result.attempts) == (TaskResultStatus.FAILED, 1)
    assert "return value of tests.taskqueue.jobs.returns_object" in result.errors[0].traceback


def test_code_that_is_gone_parks_the_task_with_the_reason(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.taskqueue import results

    result = jobs.noop.enqueue()
    wait_until(lambda: queue.stats().ready == 1, what="the direct push")
    results.resolve.cache_clear()
    with monkeypatch.context() as patch:
        patch.delattr(jobs, "noop")
        with queue.worker():
            wait_until(lambda: queue.stats().dead == 1, what="a dead letter")
    result.refresh()
    assert (result.status, result.attempts) == (TaskResultStatus.FAILED, 1)
    assert "no task 'tests.taskqueue.jobs.noop'" in result.errors[0].traceback


def test_tasks_enqueue_tasks(queue: Queue) -> None:
    with queue.worker():
        jobs.enqueues_another.enqueue("child")
        jobs.async_enqueues_another.enqueue("child")
        wait_until(lambda: effects("child") == 2, what="two children")


def test_lease_of_a_lost_worker_is_taken_back(queue: Queue) -> None:
    result = jobs.add.using(lease=1.0).enqueue(1, 2)
    wait_until(lambda: queue.stats().ready == 1, what="the direct push")
    assert len(queue.run(CLAIM, 1, "killed", 100)[3]) == 1  # a worker that is never heard of again
    with queue.worker():
        finished(result, timeout=10)
    assert (result.return_value, result.attempts) == (3, 2)
    assert result.worker_ids[0] == "killed"


def test_heartbeat_keeps_a_task_longer_than_its_lease(queue: Queue, tmp_path: Path) -> None:
    """Two workers, a lease of one second, a task that lasts longer: it starts once."""
    gate = tmp_path / "gate"
    with queue.worker(), queue.worker():
        result = jobs.hold.enqueue("long", str(gate))
        wait_until(lambda: effects("long:started") == 1, what="its start")
        score = ("ZSCORE", f"{queue.tag}:leases", result.id)
        end_of_lease = float(queue.command(score))
        wait_until(
            lambda: float(queue.command(score)) > end_of_lease + 1500,
            what="a lease renewed beyond one and a half of its own length",
        )
        gate.touch()
        assert finished(result).attempts == 1
    assert (effects("long:started"), effects("long:ended")) == (1, 1)


def test_lease_taken_away_cancels_a_coroutine(queue: Queue, tmp_path: Path) -> None:
    lost: list[str] = []
    before = hooks.observe

    def observe(event: str, queue: str, path: str, value: float = 1.0) -> None:
        if event == "lease_lost":
            lost.append(path)
        before(event, queue, path, value)

    hooks.observe = observe
    try:
        with queue.worker(concurrency=1):
            result = jobs.async_hold.enqueue(str(tmp_path / "gate"))
            wait_until(lambda: queue.stats().running == 1, what="its start")
            queue.command(("HINCRBY", f"{queue.tag}:task:{result.id}", "n", 5))
            wait_until(lambda: lost, what="the lost lease")
            assert finished(jobs.add.enqueue(1, 1)).return_value == 2  # its place is free
    finally:
        hooks.observe = before
    assert lost == ["tests.taskqueue.jobs.async_hold"]


def test_stop_waits_for_running_tasks(queue: Queue, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with queue.worker(grace=10):
        result = jobs.hold.enqueue("finishing", str(gate))
        wait_until(lambda: effects("finishing:started") == 1, what="its start")
        gate.touch()
    result.refresh()
    assert result.status is TaskResultStatus.SUCCESSFUL


def test_stop_gives_back_what_does_not_end_in_time(queue: Queue, tmp_path: Path) -> None:
    with queue.worker(grace=0.1):
        result = jobs.async_hold.enqueue(str(tmp_path / "gate"))
        wait_until(lambda: queue.stats().running == 1, what="its start")
    result.refresh()
    assert (result.status, result.attempts) == (TaskResultStatus.READY, 0)
    (tmp_path / "gate").touch()
    with queue.worker():
        assert finished(result).return_value == "ended"
    assert result.attempts == 1


def test_worker_without_a_cluster_waits_and_ends_when_asked(
    queue_with: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    away = queue_with(url=f"valkey://127.0.0.1:{find_free(1)[0]}")
    with away as queue, caplog.at_level(logging.INFO, "taskqueue"), queue.worker():
        wait_until(lambda: "taskqueue.unavailable" in caplog.text, what="one warning")
    assert "worker.stopped" in caplog.text


def test_three_shards_are_all_served(queue_with: Callable[..., Any]) -> None:
    with queue_with(shards=3) as queue:
        with transaction.atomic():
            results = [jobs.record.enqueue("sharded") for _ in range(30)]
        assert {result.id[0] for result in results} == {"0", "1", "2"}
        with queue.worker():
            for result in results:
                finished(result)
    assert effects("sharded") == 30


def test_busy_queue_does_not_starve_another(queue: Queue) -> None:
    with transaction.atomic():
        for _ in range(200):
            jobs.async_noop.enqueue()
    wait_until(lambda: queue.stats().ready == 200, what="a busy queue")
    with queue.worker("default", "emails", concurrency=2):
        result = finished(jobs.add.using(queue_name="emails").enqueue(1, 2))
        assert result.return_value == 3
        wait_until(lambda: queue.stats().ready == 0, what="the busy queue")


def test_connections_go_back_to_the_pool(queue: Queue) -> None:
    pool = getattr(connection, "pool", None)
    with queue.worker(concurrency=4):
        for _ in range(12):
            jobs.record.enqueue("pooled")
        wait_until(lambda: effects("pooled") == 12, what="12 effects")
        if pool is not None:
            wait_until(
                lambda: pool.get_stats()["pool_available"] >= pool.get_stats()["pool_size"] - 1,
                what="a full pool (this test holds one)",
            )


def test_django_hears_of_start_and_end(queue: Queue) -> None:
    heard: list[tuple[str, str]] = []

    def started(task_result: Any, **_: Any) -> None:
        heard.append(("started", task_result.status))

    def ended(task_result: Any, **_: Any) -> None:
        heard.append(("finished", task_result.status))

    task_started.connect(started)
    task_finished.connect(ended)
    try:
        with queue.worker():
            finished(jobs.fail_until.enqueue("signals", 2))
    finally:
        task_started.disconnect(started)
        task_finished.disconnect(ended)
    assert heard == [
        *(("started", "RUNNING"), ("started", "RUNNING"), ("finished", "SUCCESSFUL")),
    ]


def test_hooks_see_envelope_attempt_and_exception(queue: Queue) -> None:
    seen: list[tuple[str, int, bool, str]] = []
    before = hooks.running

    @contextmanager
    def running(envelope: Any, attempt: int, wait_seconds: float) -> Iterator[None]:
        outcome = "ok"
        try:
            yield
        except Exception as error:
            outcome = type(error).__name__
            raise
        finally:
            seen.append((envelope["path"], attempt, 0 <= wait_seconds < 60, outcome))

    hooks.running = running
    try:
        with queue.worker():
            finished(jobs.fail_until.enqueue("hooks", 2))
    finally:
        hooks.running = before
    path = "tests.taskqueue.jobs.fail_until"
    assert seen == [(path, 1, True, "ValueError"), (path, 2, True, "ok")]


def test_connections_that_are_cut_lose_nothing(
    queue_with: Callable[..., Any], own_cluster: ValkeyCluster
) -> None:
    """Cut connections lose pushes (the relay has the rows) and answers (the lease ends). On a
    cluster of its own: those of the other tests must not be cut.
    """
    with queue_with(url=own_cluster.url) as queue:
        _cut_while_working(queue)


def _cut_while_working(queue: Queue) -> None:
    relay = queue.relay()
    with queue.worker(concurrency=2):
        for number in range(10):
            jobs.record.using(lease=1.0).enqueue("cut", str(number))
            for node in queue.cluster.topology().primaries:
                queue.cluster.ask(node, ("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"))

        def all_ran() -> bool:
            with suppress(QueueUnavailable):
                relay.move()
            return len(set(order_of_effects())) == 10

        wait_until(all_ran, timeout=30, what="ten tasks")
        wait_until(lambda: outbox_rows() == 0 or relay.move() < 0, what="an empty outbox")
