"""Declaring periodic tasks, and which ticks a cron has: no database."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise, takewhile
from typing import TYPE_CHECKING, Any, assert_type
from zoneinfo import ZoneInfo

import pytest
from django.core.exceptions import ImproperlyConfigured

from app.taskqueue import DurableTask, periodic, task
from app.taskqueue.cron import Periodic
from tests.taskqueue.jobs import add, attempt_number, record


@pytest.fixture(autouse=True)
def own_register(monkeypatch: pytest.MonkeyPatch) -> dict[str, Periodic]:
    register: dict[str, Periodic] = {}
    monkeypatch.setattr("app.taskqueue.cron._declared", register)
    return register


def nothing() -> None:
    """Nothing."""


def with_tick(*, tick: str, more: int = 1) -> int:
    """Nothing."""
    return len(tick) + more


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def made(cron: str, zone: str = "UTC", most: int = 1) -> Periodic:
    return Periodic(task=task(nothing), cron=cron, zone=ZoneInfo(zone), most=most, takes_tick=False)


def ticks(cron: str, zone: str, start: str, end: str) -> list[str]:
    found = takewhile(lambda tick: tick <= at(end), made(cron, zone).after(at(start)))
    return [f"{tick:%d %H:%M}" for tick in found]


def test_decorates_a_task_or_a_function(own_register: dict[str, Periodic]) -> None:
    plain = periodic(cron="0 4 * * *", queue="emails")(nothing)
    around = periodic(cron="* * * * *", queue="sms", catch_up="all")(
        task(priority=7, max_attempts=2)(with_tick)
    )
    if TYPE_CHECKING:
        assert_type(plain, DurableTask[[], None])
    assert around.call(tick="abc") == 4
    assert (plain.queue_name, around.queue_name) == ("emails", "sms")
    assert (around.priority, around.max_attempts) == (7, 2)
    assert [p.takes_tick for p in own_register.values()] == [False, True]
    assert [p.most for p in own_register.values()] == [1, 100]
    assert {p.name: p.task for p in own_register.values()} == {
        f"{__name__}.nothing": plain,
        f"{__name__}.with_tick": around,
    }


@pytest.mark.parametrize(
    ("options", "target", "sentence"),
    [
        ({"cron": "* * * *"}, nothing, "five fields"),
        ({"cron": "*/5 * * * * *"}, nothing, "five fields"),
        ({"cron": "61 * * * *"}, nothing, "Bad minute"),
        ({"cron": "0 0 30 2 *"}, nothing, "Bad day-of-month"),
        ({"cron": "* * */20 * 1L"}, nothing, "no tick in 50 years"),
        ({"cron": "* * * * *", "timezone": "Lagos"}, nothing, "no timezone 'Lagos'"),
        ({"cron": "* * * * *", "timezone": "../etc"}, nothing, "no timezone"),
        ({"cron": "* * * * *", "catch_up": "some"}, nothing, 'is "skip" or "all"'),
        ({"cron": "* * * * *", "catch_up_limit": 0}, nothing, "at least 1"),
        ({"cron": "* * * * *"}, record, "it needs name"),
        ({"cron": "* * * * *"}, add, "it needs left, right"),
        ({"cron": "* * * * *"}, task(durable=False)(nothing), "durable=False"),
    ],
)
def test_nonsense_is_refused_at_import(
    options: dict[str, Any], target: Any, sentence: str, own_register: dict[str, Periodic]
) -> None:
    with pytest.raises(ImproperlyConfigured, match=sentence):
        periodic(**options)(target)
    assert own_register == {}


def test_context_is_no_argument(own_register: dict[str, Periodic]) -> None:
    periodic(cron="* * * * *")(attempt_number)
    assert len(own_register) == 1


def test_zone_of_the_ticks() -> None:
    found = ticks("30 9 * * MON-FRI", "Africa/Lagos", "2026-01-01 12:00", "2026-01-06 12:00")
    assert found == ["02 08:30", "05 08:30", "06 08:30"]


def test_time_that_summer_time_skips_comes_right_after_the_gap_once() -> None:
    # Berlin goes from 02:00 to 03:00 at 01:00 UTC on 29 March 2026.
    found = ticks("0,30 2 * * *", "Europe/Berlin", "2026-03-28 12:00", "2026-03-30 12:00")
    assert found == ["29 01:00", "30 00:00", "30 00:30"]


def test_time_that_is_repeated_comes_once() -> None:
    # Berlin has 02:00 to 03:00 twice: from 00:00 and from 01:00 UTC on 25 October 2026.
    for start in ("2026-10-24 12:00", "2026-10-25 00:29"):
        found = ticks("30 2 * * *", "Europe/Berlin", start, "2026-10-26 12:00")
        assert found == ["25 00:30", "26 01:30"]
    # A look between the two, and after: the one that is past is not due again.
    found = ticks("30 2 * * *", "Europe/Berlin", "2026-10-25 00:30", "2026-10-26 12:00")
    assert found == ["26 01:30"]
    found = ticks("30 2 * * *", "Europe/Berlin", "2026-10-25 01:10", "2026-10-26 12:00")
    assert found == ["26 01:30"]


def test_stars_follow_the_time_that_passes() -> None:
    found = ticks("*/30 * * * *", "Europe/Berlin", "2026-10-25 00:00", "2026-10-25 02:00")
    assert found == ["25 00:30", "25 01:00", "25 01:30", "25 02:00"]


@pytest.mark.parametrize("zone", ["UTC", "Africa/Lagos", "Europe/Berlin", "Australia/Lord_Howe"])
@pytest.mark.parametrize(
    "cron", ["*/7 * * * *", "15,45 1-3 * * *", "30 2 * * *", "0 0 L * *", "5 * * * SUN"]
)
def test_every_tick_is_in_exactly_one_look(cron: str, zone: str) -> None:
    """However time is cut into looks, they see each tick once (also over both clock changes)."""
    dice = random.Random(f"{cron}{zone}")
    for start in (at("2026-03-27 00:00"), at("2026-10-23 00:00"), at("2026-04-03 00:00")):
        end = start + timedelta(days=4)
        due = made(cron, zone, most=100_000)
        whole, left_out = due.between(start, end)
        assert left_out == 0
        cuts = sorted(start + dice.random() * (end - start) for _ in range(60))
        cuts += [end, *dice.sample(whole, min(5, len(whole)))]  # looks at the very tick, too
        cuts = sorted({start, *cuts})
        seen = [t for a, b in pairwise(cuts) for t in due.between(a, b)[0]]
        assert seen == whole
        assert sorted(set(whole)) == whole


@pytest.mark.parametrize(
    ("most", "days", "got", "left_out"),
    [(1, 0.5, 1, 719), (100, 0.05, 72, 0), (100, 0.5, 100, 620), (100, 3650, 100, 1)],
)
def test_missed_ticks(most: int, days: float, got: int, left_out: int) -> None:
    end = at("2026-06-01 12:00")
    found, skipped = made("* * * * *", most=most).between(end - timedelta(days=days), end)
    assert [len(found), found[-1]] == [got, end]
    assert found == sorted(found)
    assert skipped == left_out or (days > 1 and skipped >= left_out)


def test_rare_cron_over_many_years() -> None:
    found, skipped = made("0 0 29 2 *").between(at("2001-01-01"), at("2026-01-01"))
    assert (found, skipped > 0) == ([at("2024-02-29")], True)
    assert [t.year for t in islice(made("0 0 29 2 *").after(at("2026-01-01")), 2)] == [2028, 2032]
