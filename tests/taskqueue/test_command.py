"""`tasks stats`, `tasks list`, `tasks retry`."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.tasks import TaskResultStatus

from devstack.ports import find_free
from tests.support.waiting import wait_until
from tests.taskqueue.jobs import fail_until, noop
from tests.taskqueue.support import Queue, effects, finished


def tasks(*arguments: str) -> str:
    out = StringIO()
    call_command("tasks", *arguments, stdout=out)
    return out.getvalue()


def test_stats(queue: Queue) -> None:
    noop.enqueue()
    wait_until(lambda: queue.stats().ready == 1, what="the direct push")
    document = json.loads(tasks("stats", "--json"))
    assert document["queues"]["default"]["ready"] == 1
    assert document["queues"]["emails"]["ready"] == 0
    assert document["outbox"]["unconfirmed"] == 1
    head, *rows, outbox = tasks("stats").splitlines()
    assert head.split()[:3] == ["queue", "ready", "delayed"]
    assert next(row for row in rows if row.startswith("default")).split()[1] == "1"
    assert outbox.startswith("outbox: 1 unconfirmed")


def test_dead_tasks_are_listed_and_come_back(queue: Queue) -> None:
    assert tasks("list") == "no dead tasks\n"
    with queue.worker():
        first = finished(fail_until.using(max_attempts=1).enqueue("a", 2))
        second = finished(fail_until.using(max_attempts=1).enqueue("b", 2))
        letters = json.loads(tasks("list", "--json"))
        assert {letter["id"] for letter in letters} == {first.id, second.id}
        assert {letter["error"] for letter in letters} == {"ValueError: try 1"}
        assert {letter["path"] for letter in letters} == {"tests.taskqueue.jobs.fail_until"}
        assert "ValueError: try 1" in tasks("list", "--queue", "default")
        assert tasks("list", "--queue", "emails") == "no dead tasks\n"

        assert tasks("retry", first.id) == "1 tasks are ready again\n"
        assert finished(first).status is TaskResultStatus.SUCCESSFUL
        assert tasks("retry", "--all") == "1 tasks are ready again\n"
        assert finished(second).status is TaskResultStatus.SUCCESSFUL
    assert (effects("a"), effects("b")) == (2, 2)


def test_sentences_instead_of_tracebacks(queue_with: Callable[..., Any]) -> None:
    with pytest.raises(CommandError, match="name ids"):
        tasks("retry")
    with pytest.raises(CommandError, match="no queue nowhere"):
        tasks("list", "--queue", "nowhere")
    away = queue_with(url=f"valkey://127.0.0.1:{find_free(1)[0]}")
    with away, pytest.raises(CommandError, match="no seed of the queue cluster answers"):
        tasks("stats")
