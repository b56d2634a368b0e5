"""Periodic tasks with real relay processes, kills and a database clock that runs fast."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.db import connection

from devstack.process import Process
from tests.support.waiting import wait_until
from tests.taskqueue.clock import SEARCH_PATH, Clock, standing_clock
from tests.taskqueue.support import Queue, effects

START = datetime(2026, 1, 5, 12, 0, 30, tzinfo=UTC)
SPEED = 900.0  # fifteen minutes, so fifteen ticks, a second
POINT = "periodic.enqueued_before_commit"


@pytest.fixture
def clock(queue: Queue) -> Iterator[Clock]:
    """The database's clock, as the processes see it."""
    with standing_clock(START) as clock:
        yield clock


def spawn(queue: Queue, command: str, *options: str, armed: Path | None = None) -> Process:
    dsn = queue.lane.settings["DATABASE_URL"]
    return queue.spawn(
        command,
        *options,
        DATABASE_URL=f"{dsn}{'&' if '?' in dsn else '?'}{SEARCH_PATH}",
        DJANGO_SETTINGS_MODULE="tests.taskqueue.clockwork.settings",
        FAILPOINTS=f"{POINT}={armed}" if armed else "",
    )


def schedule_rows() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM taskqueue_schedule")
        return sorted(name.rpartition(".")[2] for (name,) in cursor.fetchall())


def minutes(first: datetime, last: datetime) -> list[str]:
    count = int((last - first) / timedelta(minutes=1)) + 1
    return [(first + n * timedelta(minutes=1)).isoformat() for n in range(count)]


def more_ticks(clock: Clock, wanted: int) -> None:
    before = len(clock.enqueued("every_minute"))
    wait_until(
        lambda: len(clock.enqueued("every_minute")) >= before + wanted, timeout=30, what="ticks"
    )


def kill_one(clock: Clock, relays: list[Process], armed: Path, kills: int) -> None:
    """Arm the failpoint once relays are busy; one of them dies there."""
    more_ticks(clock, 10)
    armed.touch()
    wait_until(lambda: sum(not relay.alive for relay in relays) == kills, what="a kill")


def test_every_tick_once_with_three_relays_and_kills(
    queue: Queue, clock: Clock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two of the relays are killed by SIGKILL with the row locked, the task inserted and nothing
    committed.
    """
    armed = tmp_path / "armed"
    relays = [spawn(queue, "run_relay", armed=armed) for _ in range(3)]
    worker = spawn(queue, "run_worker", "--queues", "default,emails")
    wait_until(lambda: len(schedule_rows()) == 5, timeout=60, what="the first sight")
    for relay in relays:
        relay.wait_for("relay.node", timeout=60)
    assert schedule_rows() == ["every_minute", "every_ten", "hourly", "prune", "weekdays"]
    clock.run(SPEED)
    for kills in (1, 2):
        kill_one(clock, relays, armed, kills)
    more_ticks(clock, 30)
    clock.run(0)
    last = clock.now().replace(second=0, microsecond=0)
    expected = minutes(START.replace(minute=1, second=0), last)
    wait_until(lambda: len(clock.enqueued("every_minute")) >= len(expected), what="the last tick")

    hits = Path(f"{armed}.hits").read_text().split()
    killed = [relay for relay in relays if not relay.alive]
    assert sorted(hits) == sorted([POINT, POINT, *(str(relay.pid) for relay in killed)])
    assert [relay.popen.returncode for relay in killed] == [-signal.SIGKILL] * 2
    assert clock.enqueued("every_minute") == expected  # each once, none missing, in order
    tens = [tick for tick in expected if tick[15] == "0"]
    wait_until(lambda: len(clock.enqueued("every_ten")) >= len(tens), what="the last tick")
    assert clock.enqueued("every_ten") == tens
    wait_until(lambda: effects("every_minute") >= len(expected), timeout=30, what="all runs")
    wait_until(lambda: effects("every_ten") >= len(tens), timeout=30, what="all runs")
    assert (worker.stop(), [relay.stop() for relay in relays if relay.alive]) == (0, [0])
    assert (runs("every_minute"), runs("every_ten")) == (expected, tens)
    with capsys.disabled():
        print(f"\nperiodic: {len(expected)} ticks, 3 relays, 2 kills, {len(tens)} of every_ten")


def runs(name: str) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT value FROM taskqueue_effects WHERE name = %s", [name])
        return sorted(value for (value,) in cursor.fetchall())


def test_ticks_missed_while_no_relay_ran(queue: Queue, clock: Clock) -> None:
    """ "all" makes up for every tick, "skip" for the latest one, in the zone of each task."""
    relay = spawn(queue, "run_relay")
    wait_until(lambda: len(schedule_rows()) == 5, timeout=60, what="the first sight")
    assert relay.stop() == 0
    clock.set(datetime(2026, 1, 6, 8, 45, 10, tzinfo=UTC))  # 09:45 in Lagos
    assert clock.enqueued("every_minute") == []
    relay = spawn(queue, "run_relay")
    wait_until(lambda: clock.enqueued("weekdays"), timeout=60, what="catching up")
    wait_until(lambda: clock.enqueued("prune"), what="catching up")
    wait_until(lambda: clock.enqueued("hourly"), what="catching up")
    first, last = datetime(2026, 1, 5, 12, 1, tzinfo=UTC), datetime(2026, 1, 6, 8, 45, tzinfo=UTC)
    every = minutes(first, last)
    wait_until(lambda: len(clock.enqueued("every_minute")) >= len(every), what="catching up")
    assert clock.enqueued("every_minute") == every
    assert clock.enqueued("hourly") == ["2026-01-06T08:00:00+00:00"]
    assert (clock.enqueued("weekdays"), clock.enqueued("prune")) == ([""], [""])
    assert relay.stop() == 0
    assert "periodic.skipped" in relay.output
