"""The in-process drain of service tests: in the test's own transaction, without the cluster."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.tasks import TaskResultStatus
from django.utils import timezone

from app.taskqueue.models import OutboxTask
from app.taskqueue.testing import drain
from tests.taskqueue import jobs
from tests.taskqueue.support import EFFECTS, effects, order_of_effects


@pytest.fixture(autouse=True)
def rolled_back(db: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(EFFECTS)


def test_runs_what_is_due_by_priority_and_what_that_enqueues() -> None:
    jobs.record.enqueue("x", "second")
    jobs.record.using(priority=5).enqueue("x", "first")
    jobs.enqueues_another.using(priority=-5).enqueue("x")
    jobs.record.using(run_after=timezone.now() + timedelta(days=1)).enqueue("x", "tomorrow")
    results = drain()
    assert order_of_effects() == ["first", "second", "from a task"]
    assert {result.status for result in results} == {TaskResultStatus.SUCCESSFUL}
    assert OutboxTask.objects.count() == 1
    drain(now=timezone.now() + timedelta(days=2))
    assert order_of_effects()[-1] == "tomorrow"


def test_return_values_context_and_coroutines() -> None:
    jobs.add.enqueue(1, 2)
    jobs.async_add.enqueue(3, 4)
    assert [result.return_value for result in drain()] == [3, 7]
    jobs.attempt_number.enqueue()
    with pytest.raises(RuntimeError, match="first"):
        drain()


def test_only_the_named_queues() -> None:
    jobs.record.using(queue_name="emails").enqueue("mail")
    jobs.record.enqueue("other")
    assert len(drain(queues=["emails"])) == 1
    assert (effects("mail"), effects("other")) == (1, 0)


def test_tasks_of_one_unique_key_run_once() -> None:
    for _ in range(3):
        jobs.record.using(unique_key="k").enqueue("unique")
    drain()
    assert effects("unique") == 1
