"""Declaring tasks: options, ids, envelopes. No server is needed."""

import pickle
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zlib import crc32

import pytest
from django.tasks import task_backends
from django.tasks.exceptions import InvalidTask
from django.utils import timezone

from app.taskqueue import DurableTask, task
from app.taskqueue.envelope import (
    TooLarge,
    Unserialisable,
    dumps,
    milliseconds,
    retry_delay,
)
from app.taskqueue.ids import new_id, shard_of, tag
from tests.taskqueue.jobs import add, async_add, attempt_number, fail_until


def test_decorated_functions_are_durable_tasks_of_our_backend() -> None:
    assert isinstance(add, DurableTask)
    assert (add.max_attempts, add.lease, add.durable, add.delivery) == (5, 30.0, True, "dispatched")
    assert (fail_until.max_attempts, fail_until.backoff) == (3, (0.01, 0.02))
    backend = task_backends["default"]
    assert backend.supports_defer
    assert backend.supports_async_task
    assert backend.supports_get_result
    assert backend.supports_priority
    assert add.call(2, 3) == 5


def test_using_changes_a_copy() -> None:
    later = timezone.now() + timedelta(hours=1)
    changed = add.using(priority=7, max_attempts=2, unique_key="order:1", run_after=later)
    assert isinstance(changed, DurableTask)
    assert (changed.priority, changed.max_attempts, changed.unique_key) == (7, 2, "order:1")
    assert changed.run_after == later
    assert (add.priority, add.max_attempts, add.unique_key) == (0, 5, None)


if TYPE_CHECKING:  # mypy's own test: an ignore that is not needed is an error there
    # Keyword names, types and options are checked where a task is enqueued.
    add.enqueue(1, right=2)
    add.enqueue("1", 2)  # type: ignore[arg-type]
    add.using(priority=1).enqueue(1)  # type: ignore[call-arg]
    add.using(prio=1)  # type: ignore[call-arg]
    attempt_number.enqueue()
    attempt_number.enqueue(1)  # type: ignore[call-arg]
    total: int = add.enqueue(1, 2).return_value
    task(max_attempt=3)  # type: ignore[call-overload]


def test_tasks_pickle() -> None:
    again = pickle.loads(pickle.dumps(async_add.using(lease=3.0)))
    assert again == async_add.using(lease=3.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_attempts": 0},
        {"lease": 0.5},
        {"timeout": 0},
        {"backoff": ()},
        {"backoff": -1.0},
        {"backoff": (1.0, -1.0)},
        {"delivery": "perhaps"},
        {"unique_key": ""},
        {"unique_key": "x" * 256},
        {"priority": 101},
        {"queue_name": "nowhere"},
        {"run_after": datetime(2030, 1, 1)},  # noqa: DTZ001 - naive on purpose
    ],
)
def test_wrong_values_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidTask):
        add.using(**wrong)


def test_run_after_is_not_for_the_decorator() -> None:
    with pytest.raises(TypeError, match="run_after"):
        task(run_after=timezone.now())  # type: ignore[call-overload]


def test_ids_name_their_shard() -> None:
    ids = [new_id(3) for _ in range(200)]
    assert len(set(ids)) == 200
    assert {shard_of(i) for i in ids} == {0, 1, 2}
    assert all(shard_of(i) == crc32(i.partition("-")[2].encode()) % 3 for i in ids)
    assert {shard_of(new_id(7, "cart:5")) for _ in range(20)} == {crc32(b"cart:5") % 7}
    assert tag("fs", "emails", 2) == "{fs:t:emails:2}"


@pytest.mark.parametrize("wrong", ["", "x", "1", "a-b", "0-123", "-1-0", "٣-" + "0" * 36 + "x"])
def test_what_is_no_id(wrong: str) -> None:
    with pytest.raises(ValueError, match="not a task id"):
        shard_of(wrong)


@pytest.mark.parametrize(
    "value", [{"a": {1, 2}}, float("nan"), float("inf"), "a\0b", ["\ud800"], {"k": object()}]
)
def test_what_json_or_postgresql_cannot_hold(value: object) -> None:
    with pytest.raises(Unserialisable, match=r"^shop\.mail: "):
        dumps(value, what="shop.mail", limit=1000)


def test_text_that_only_looks_like_nul_is_fine() -> None:
    assert dumps("\\u0000", what="x", limit=100) == '"\\\\u0000"'


def test_too_large_says_how_large() -> None:
    with pytest.raises(TooLarge, match="1002 bytes of JSON, allowed are 1000"):
        dumps("ä" * 500, what="x", limit=1000)


def test_times_are_never_rounded_down() -> None:
    moment = datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC)
    assert milliseconds(moment) == 1767225600001


def test_retry_delays() -> None:
    assert [retry_delay(2.0, n) for n in (1, 2, 3, 9, 10, 10_000)] == [2, 4, 8, 512, 900, 900]
    assert [retry_delay([1.0, 5.0], n) for n in (1, 2, 3)] == [1, 5, 5]
