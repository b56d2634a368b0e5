"""The relay: what it moves, what it keeps, and when a row may go."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections, transaction
from django.utils import timezone

from app.taskqueue import outbox
from app.taskqueue.backend import ClusterBackend
from app.taskqueue.confirmation import Confirmation
from app.taskqueue.hooks import hooks
from app.taskqueue.link import Link
from app.taskqueue.lua import CLAIM, ENQUEUE, FINISH
from app.taskqueue.models import OutboxTask
from app.taskqueue.topology import ClusterUnavailable, Durability
from devstack.ports import find_free
from devstack.valkey import ValkeyCluster
from tests.support.waiting import wait_until
from tests.taskqueue.jobs import add, noop, record
from tests.taskqueue.support import Queue, effects, finished, outbox_rows


@pytest.fixture
def no_direct_push(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every direct push is lost, as when a publisher is killed after its commit."""
    monkeypatch.setattr(Link, "push", lambda *_: None)


def claim(queue: Queue, wanted: int = 1) -> list[list[str]]:
    rows = queue.run(CLAIM, wanted, "test", 100)[3]
    return [row[0].decode().split(" ") for row in rows]


@pytest.mark.usefixtures("no_direct_push")
def test_moves_rows_and_deletes_what_is_confirmed(queue: Queue) -> None:
    with transaction.atomic():
        ids = [noop.using(priority=n % 3).enqueue().id for n in range(450)]
    assert queue.stats().ready == 0
    relay = queue.relay()
    assert [relay.move(), relay.move(), relay.move(), relay.move()] == [200, 200, 50, 0]
    assert (outbox_rows(), queue.stats().ready) == (0, 450)
    assert {row[0] for _ in range(5) for row in claim(queue, 100)} == set(ids)


@pytest.mark.usefixtures("no_direct_push")
def test_rows_come_out_in_the_order_of_their_enqueue(queue: Queue) -> None:
    ids = [noop.enqueue().id for _ in range(20)]
    queue.relay().move()
    assert [row[0] for row in claim(queue, 20)] == ids


def test_directly_pushed_task_runs_once(queue: Queue) -> None:
    result = noop.enqueue()
    wait_until(lambda: queue.stats().ready == 1, what="the direct push")
    assert queue.relay().move() == 1
    assert (outbox_rows(), queue.stats().ready) == (0, 1)
    ((task_id, fence, *_),) = claim(queue, 5)
    assert task_id == result.id
    assert queue.run(FINISH, task_id, fence, "null", 60_000) == 1


def test_row_of_a_task_that_has_already_run_is_only_deleted(queue: Queue) -> None:
    noop.enqueue()
    wait_until(lambda: queue.stats().ready == 1, what="the direct push")
    ((task_id, fence, *_),) = claim(queue)
    queue.run(FINISH, task_id, fence, "null", 60_000)
    assert queue.relay().move() == 1
    assert (outbox_rows(), queue.stats().ready) == (0, 0)


@pytest.mark.usefixtures("no_direct_push")
def test_death_between_push_and_delete_changes_nothing(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    with transaction.atomic():
        for _ in range(5):
            noop.enqueue()
    relay = queue.relay()

    class Killed(BaseException):
        """In place of SIGKILL: the transaction ends without a commit."""

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(relay, "_settle", die)
        with pytest.raises(Killed):
            relay.move()
    assert (outbox_rows(), queue.stats().ready) == (5, 5)
    assert relay.move() == 5
    assert (outbox_rows(), queue.stats().ready) == (0, 5)


@pytest.mark.usefixtures("no_direct_push")
def test_two_relays_share_the_rows(queue: Queue) -> None:
    with transaction.atomic():
        for _ in range(600):
            noop.enqueue()
    moved: list[int] = []

    def move() -> None:
        relay = queue.relay()
        while count := relay.move():
            moved.append(count)
        relay._cluster.close()
        connections.close_all()

    threads = [threading.Thread(target=move) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (sum(moved), outbox_rows(), queue.stats().ready) == (600, 0, 600)


@pytest.mark.usefixtures("no_direct_push")
def test_far_rows_stay_until_shortly_before_they_are_due(queue: Queue) -> None:
    add.using(run_after=timezone.now() + timedelta(hours=1)).enqueue(1, 1)
    add.using(run_after=timezone.now() + timedelta(minutes=10)).enqueue(2, 2)
    relay = queue.relay()
    assert relay.move() == 1
    assert (outbox_rows(), queue.stats().delayed) == (1, 1)
    OutboxTask.objects.update(run_after=timezone.now() + timedelta(minutes=14))
    assert relay.move() == 1
    assert (outbox_rows(), queue.stats().delayed) == (0, 2)


@contextmanager
def worth(durability: Durability, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """All nodes confirm like this."""
    import time

    def ask(self: Confirmation, node: Any) -> Durability:
        self._known[node] = (time.monotonic(), durability)
        return durability

    with monkeypatch.context() as patch:
        patch.setattr(Confirmation, "_ask", ask)
        yield


@pytest.mark.usefixtures("no_direct_push")
@pytest.mark.parametrize("durability", [Durability.HOLD, Durability.REPLICA])
def test_unconfirmed_rows_stay_and_are_pushed_again(
    queue: Queue, durability: Durability, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No replica answers WAIT here: the tasks run, the rows stay."""
    with transaction.atomic():
        for _ in range(3):
            noop.enqueue()
    relay = queue.relay()
    with worth(durability, monkeypatch):
        assert relay.move() == 3
        assert (outbox_rows("attempts = 1 AND pushed_at IS NOT NULL"), queue.stats().ready) == (
            *(3, 3),
        )
        assert relay.move() == 0  # they rest
        OutboxTask.objects.update(pushed_at=timezone.now() - timedelta(minutes=1))
        assert relay.move() == 3
        assert outbox_rows("attempts = 2") == 3
    OutboxTask.objects.update(pushed_at=timezone.now() - timedelta(minutes=1))
    relay = queue.relay()
    assert relay.move() == 3
    assert (outbox_rows(), queue.stats().ready) == (0, 3)


def test_devstack_confirms_by_fsync(queue: Queue) -> None:
    relay = queue.relay()
    nodes = queue.cluster.topology().primaries
    assert {relay._confirmation._of(node) for node in nodes} == {Durability.FSYNC}
    assert all(relay._confirmation.command(node) is None for node in nodes)


def test_until_finished_keeps_its_row_until_success(queue: Queue) -> None:
    result = add.using(delivery="until_finished").enqueue(1, 2)
    relay = queue.relay()
    assert relay.move() == 1
    assert outbox_rows("confirmed_at IS NOT NULL") == 1
    assert (relay.move(), relay.recheck(0)) == (0, 1)
    assert outbox_rows() == 1

    queue.forget()  # the whole cluster is flushed
    assert relay.recheck(0) == 1
    assert queue.stats().ready == 1

    with queue.worker():
        assert finished(result).return_value == 3
    assert relay.recheck(0) == 1
    assert outbox_rows() == 0


def test_nothing_changes_while_the_cluster_is_away(queue_with: Callable[..., Any]) -> None:
    with queue_with(url=f"valkey://127.0.0.1:{find_free(1)[0]}") as queue:
        noop.enqueue()
        with pytest.raises(ClusterUnavailable):
            queue.relay().move()
        assert outbox_rows("attempts = 0 AND pushed_at IS NULL") == 1


def test_cluster_that_comes_back_gets_everything(
    queue_with: Callable[..., Any], own_cluster: ValkeyCluster
) -> None:
    """Down while tasks are enqueued, later up: each runs once. The relay is a real process."""
    with queue_with(url=own_cluster.url) as queue:
        record.enqueue("before")
        relay = queue.spawn("run_relay")
        wait_until(lambda: outbox_rows() == 0, timeout=30, what="the relay at work")
        own_cluster.stop()
        with transaction.atomic():
            results = [record.enqueue("while-down") for _ in range(5)]
        assert outbox_rows() == 5
        own_cluster.launch()
        own_cluster.wait_ready()
        wait_until(lambda: outbox_rows() == 0, timeout=30, what="an empty outbox")
        with queue.worker():
            for result in results:
                finished(result)
        assert (effects("before"), effects("while-down")) == (1, 5)
        assert relay.stop() == 0
        assert "relay.node" in relay.output
        assert "confirm=fsync" in relay.output


def test_postgresql_that_drops_the_connection_is_survived(queue: Queue) -> None:
    relay = queue.relay()
    assert relay._turn() == pytest.approx(0.1)
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
    import psycopg

    with psycopg.connect(queue.lane.stack.superuser_dsn(), autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(%s)", [pid])
    pauses = [relay._turn() for _ in range(2)]
    assert pauses[-1] == pytest.approx(0.1)
    assert len(pauses) == 2


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], float]:
    """The last value of each event and queue."""
    values: dict[tuple[str, str], float] = {}

    def observe(event: str, queue: str, path: str, value: float = 1.0) -> None:
        values[event, queue] = value

    monkeypatch.setattr(hooks, "observe", observe)
    return values


def test_lateness_shows_while_the_cluster_is_away(
    queue_with: Callable[..., Any], seen: dict[tuple[str, str], float]
) -> None:
    with queue_with(url=f"valkey://127.0.0.1:{find_free(1)[0]}") as queue:
        noop.enqueue()
        OutboxTask.objects.update(run_after=timezone.now() - timedelta(hours=1))
        assert queue.relay()._turn() == pytest.approx(0.2)
    assert seen["outbox_unconfirmed", ""] == 1
    assert 3600 <= seen["outbox_oldest_seconds", ""] < 3700


def test_gauges_of_the_fleet(queue: Queue, seen: dict[tuple[str, str], float]) -> None:
    noop.enqueue()
    wait_until(lambda: queue.stats().ready == 1, what="the direct push")
    noop.using(run_after=timezone.now() + timedelta(days=1)).enqueue()
    queue.relay().report()
    assert seen["outbox_unconfirmed", ""] == 1  # the far one waits, it is not late
    assert seen["outbox_oldest_seconds", ""] >= 0
    assert seen["queue_ready", "default"] == 1
    assert seen["queue_dead", "emails"] == 0
    assert seen["oldest_ready_seconds", "default"] >= 0


def test_parcels_are_the_same_from_publisher_and_table(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed: list[Any] = []
    monkeypatch.setattr(Link, "push", lambda _self, command, _done: pushed.append(command))
    later = timezone.now() + timedelta(minutes=5)
    add.using(priority=-3, unique_key="k", lease=7.5, run_after=later).enqueue(1, 2)
    with transaction.atomic(), connections["default"].cursor() as cursor:
        cursor.execute(outbox.DUE, [10])
        parcel = outbox.Parcel.of(cursor.fetchone())
    assert isinstance(queue.backend, ClusterBackend)
    command = parcel.command(queue.prefix, queue.backend.settings.result_ttl)
    (direct,) = pushed
    assert command[:-1] == direct[:-1]
    assert command[1] == ENQUEUE.sha
