"""The clock of the relay, step by step on real PostgreSQL: what a look enqueues, and what not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.db import OperationalError, connection, connections, transaction

from app.taskqueue import cron, schedule, task
from app.taskqueue.cron import Periodic
from app.taskqueue.hooks import hooks
from app.taskqueue.models import OutboxTask, PeriodicTask
from app.taskqueue.schedule import Schedule
from devstack.ports import find_free
from tests.support.waiting import wait_until
from tests.taskqueue.clock import Clock, standing_clock
from tests.taskqueue.support import Queue

NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = (timedelta(seconds=s) for s in (1, 60, 3600, 86_400))


@task
def on_tick(*, tick: str) -> None:
    """Nothing: only its enqueues count here."""


EVERY_MINUTE = Periodic(
    task=on_tick, cron="* * * * *", zone=ZoneInfo("UTC"), most=1, takes_tick=True
)


@pytest.fixture
def clock(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """The database's clock stands at noon."""
    for name in ("READ", "FIRST_SIGHT", "LOCK", "PRUNE"):
        statement = getattr(schedule, name)
        ours = statement.replace("clock_timestamp()", "test_clock.clock_timestamp()")
        assert ours != statement
        monkeypatch.setattr(schedule, name, ours)
    with standing_clock(NOON) as clock:
        yield clock


@pytest.fixture
def observed(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """What the hooks were told."""
    counts: dict[str, float] = {}

    def observe(event: str, _queue: str, _path: str, value: float = 1.0) -> None:
        counts[event] = counts.get(event, 0) + value

    monkeypatch.setattr(hooks, "observe", observe)
    return counts


@pytest.fixture
def declare(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`declare(periodic, …)` is a relay of a release with these tasks and no others."""

    def declare(*tasks: Periodic) -> Schedule:
        monkeypatch.setattr(cron, "_declared", {made.name: made for made in tasks})
        return Schedule("default", "default")

    return declare


def ticks(clock: Clock) -> list[str]:
    return [f"{datetime.fromisoformat(tick):%d %H:%M}" for tick in clock.enqueued("on_tick")]


def test_a_new_task_never_runs_for_the_past(clock: Clock, declare: Any) -> None:
    relay = declare(EVERY_MINUTE)
    relay.run()
    relay.run()
    assert ticks(clock) == []  # 12:00 itself was there before the task
    clock.set(NOON + MINUTE)
    relay.run()
    assert ticks(clock) == ["05 12:01"]


def test_one_enqueue_per_tick_whoever_looks(clock: Clock, declare: Any) -> None:
    relays = [declare(EVERY_MINUTE) for _ in range(3)]
    for step in range(200):
        clock.set(NOON + step * 7 * SECOND)
        for relay in relays[step % 3 :]:
            relay.run()
    assert ticks(clock) == [f"05 12:{minute:02}" for minute in range(1, 24)]
    row = PeriodicTask.objects.get()
    assert row.last_tick == NOON + 23 * MINUTE
    assert row.last_tick <= row.checked_at <= clock.now() < row.checked_at + schedule.REFRESH


def test_the_row_carries_what_the_task_says(clock: Clock, declare: Any) -> None:
    made = replace(EVERY_MINUTE, task=on_tick.using(queue_name="sms", priority=9))
    relay = declare(made)
    relay.run()
    clock.step(MINUTE)
    relay.run()
    row = OutboxTask.objects.get()
    assert (row.queue, row.priority, row.path) == ("sms", 9, on_tick.module_path)
    assert row.envelope["kwargs"] == {"tick": "2026-01-05T12:01:00+00:00"}


def test_says_when_to_look_again(clock: Clock, declare: Any) -> None:
    relay = declare(EVERY_MINUTE)
    assert declare().run() == schedule.LOOK
    relay.run()
    assert relay.run() == schedule.LOOK
    clock.set(NOON + 59.8 * SECOND)
    relay.run()  # also keeps the row fresh
    assert relay.run() == pytest.approx(0.2)


def test_skip_enqueues_the_latest_missed_tick(
    clock: Clock, declare: Any, observed: dict[str, float]
) -> None:
    declare(EVERY_MINUTE).run()
    clock.step(3 * HOUR + 30 * SECOND)
    declare(EVERY_MINUTE).run()
    assert ticks(clock) == ["05 15:00"]
    assert (observed["tick_enqueued"], observed["tick_skipped"]) == (1, 179)


def test_all_makes_up_for_missed_ticks_up_to_its_limit(
    clock: Clock, declare: Any, observed: dict[str, float]
) -> None:
    made = replace(EVERY_MINUTE, most=10)
    declare(made).run()
    clock.step(9 * MINUTE)
    declare(made).run()
    assert ticks(clock) == [f"05 12:0{minute}" for minute in range(1, 10)]
    clock.step(HOUR)
    declare(made).run()
    assert ticks(clock)[9:] == [f"05 13:{minute:02}" for minute in range(10)][-10:]
    assert (observed["tick_enqueued"], observed["tick_skipped"]) == (19, 50)


def test_tick_and_task_are_atomic(
    clock: Clock, declare: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    relay = declare(EVERY_MINUTE)
    relay.run()
    clock.step(MINUTE)

    def die(_name: str) -> None:
        assert OutboxTask.objects.count() == 1
        raise OperationalError("the connection is gone")

    with monkeypatch.context() as broken:
        broken.setattr(schedule, "failpoint", die)
        with pytest.raises(OperationalError):
            relay.run()
    assert (ticks(clock), OutboxTask.objects.count()) == ([], 0)
    assert PeriodicTask.objects.get().checked_at == NOON
    relay.run()
    assert ticks(clock) == ["05 12:01"]


def test_a_row_that_another_relay_holds_is_passed_over(clock: Clock, declare: Any) -> None:
    second = Periodic(
        task=replace(on_tick, func=test_says_when_to_look_again), cron="* * * * *",
        zone=ZoneInfo("UTC"), most=1, takes_tick=False,
    )  # fmt: skip
    relay = declare(EVERY_MINUTE, second)
    relay.run()
    clock.step(MINUTE)
    held, go = threading.Event(), threading.Event()

    def other_relay() -> None:
        with transaction.atomic(), connections["default"].cursor() as cursor:
            cursor.execute(schedule.LOCK, [EVERY_MINUTE.name])
            held.set()
            assert go.wait(10)
        connections.close_all()

    thread = threading.Thread(target=other_relay)
    thread.start()
    assert held.wait(10)
    try:
        relay.run()  # waits for nobody
        assert ticks(clock) == []
        assert len(clock.enqueued("test_says_when_to_look_again")) == 1
    finally:
        go.set()
        thread.join(10)
    relay.run()
    assert ticks(clock) == ["05 12:01"]


def test_nothing_of_a_session_is_used(
    clock: Clock, declare: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each transaction may find another server connection, as with PgBouncer."""
    relay = declare(EVERY_MINUTE)
    seen: list[int] = []

    def look(_name: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
            seen.append(cursor.fetchone()[0])

    monkeypatch.setattr(schedule, "failpoint", look)
    for _ in range(3):
        relay.run()
        with connection.cursor() as cursor:
            cursor.execute("DISCARD ALL")
            cursor.execute("SELECT count(*) FROM pg_prepared_statements")
            assert cursor.fetchone() == (0,)
        clock.step(MINUTE)
    assert (len(ticks(clock)), seen) == (2, [0, 0])


def test_a_changed_cron_counts_from_now_on(clock: Clock, declare: Any) -> None:
    hourly = replace(EVERY_MINUTE, cron="0 * * * *", most=100)
    minutely = replace(EVERY_MINUTE, most=100)
    old = declare(hourly)
    for step in range(40):  # until 12:39
        clock.set(NOON + step * MINUTE)
        old.run()
    new = declare(minutely)
    new.run()
    assert ticks(clock) == []  # the 39 minutes that passed are no ticks of the new cron
    clock.step(MINUTE)
    new.run()
    assert ticks(clock) == ["05 12:40"]
    # Relays of both releases overlap: whoever looks first decides, no tick comes twice.
    for step in range(41, 62):
        clock.set(NOON + step * MINUTE)
        new.run()
        old.run()
    assert ticks(clock) == [f"05 12:{m}" for m in range(40, 60)] + ["05 13:00", "05 13:01"]


def test_rows_of_removed_tasks_go_after_a_day(clock: Clock, declare: Any) -> None:
    declare(EVERY_MINUTE).run()
    clock.step(DAY - MINUTE)
    assert declare().prune() == 0  # an older release may still know it
    clock.step(2 * MINUTE)
    declare(EVERY_MINUTE).run()  # a release that was away for a day does not forget its own
    assert ticks(clock) == ["06 12:01"]
    clock.step(DAY + MINUTE)
    other = replace(EVERY_MINUTE, task=replace(on_tick, func=test_says_when_to_look_again))
    relay = declare(other)
    relay.run()  # by itself, at start and every hour
    assert list(PeriodicTask.objects.values_list("name", flat=True)) == [other.name]
    declare(EVERY_MINUTE).run()
    assert len(ticks(clock)) == 1  # new again: nothing for the past


def test_clock_set_back(clock: Clock, declare: Any) -> None:
    relay = declare(EVERY_MINUTE)
    relay.run()
    clock.set(NOON + 3 * MINUTE)
    relay.run()
    clock.set(NOON + MINUTE)  # a small step: its ticks are not enqueued again
    relay.run()
    clock.set(NOON + 2 * MINUTE)
    relay.run()
    assert ticks(clock) == ["05 12:03"]
    clock.set(NOON - 30 * DAY)  # it had been wrong: do not stand still until then
    relay.run()
    clock.step(MINUTE)
    relay.run()
    assert ticks(clock)[1:] == ["06 12:01"]


def test_ticks_reach_the_outbox_while_the_cluster_is_away(
    clock: Clock, declare: Any, queue_with: Any
) -> None:
    declare(EVERY_MINUTE).run()
    clock.step(MINUTE)
    with queue_with(url=f"valkey://127.0.0.1:{find_free(1)[0]}") as away:
        relay = away.relay()
        thread = threading.Thread(target=relay.run)
        thread.start()
        try:
            wait_until(lambda: ticks(clock), what="the tick")
        finally:
            relay.stop()
            thread.join(20)
    assert (ticks(clock), OutboxTask.objects.count()) == (["05 12:01"], 1)


def test_relays_know_the_periodic_tasks_of_installed_apps() -> None:
    cron.discover()
    assert "app.taskqueue.tasks.prune" in cron.all_names()
    assert [made.name for made in cron.declared("other")] == []
