"""`tasks <verb>`: tables, JSON, what the verbs do, and sentences instead of tracebacks."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from django.tasks import TaskResultStatus
from django.utils import timezone

from app.taskqueue.ids import new_id
from devstack.ports import find_free
from tests.support.waiting import wait_until
from tests.taskqueue.jobs import async_hold, fail_until, noop, record
from tests.taskqueue.support import Queue, effects, finished, outbox_rows

VERBS = ("stats", "list", "show", "retry", "drop", "cancel", "pause", "resume", "drain")


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

        assert tasks("retry", first.id) == "1 task ready again\n"
        assert finished(first).status is TaskResultStatus.SUCCESSFUL
        assert tasks("retry", "--all") == "1 task ready again\n"
        assert finished(second).status is TaskResultStatus.SUCCESSFUL
    assert (effects("a"), effects("b")) == (2, 2)


def test_tasks_of_every_state_are_listed(queue: Queue) -> None:
    ready = noop.enqueue()
    later = noop.using(run_after=timezone.now() + timedelta(minutes=5)).enqueue()
    far = noop.using(run_after=timezone.now() + timedelta(days=5)).enqueue()
    wait_until(lambda: queue.stats().ready == queue.stats().delayed == 1, what="the pushes")
    (row,) = json.loads(tasks("list", "--state", "ready", "--json"))
    assert (row["id"], row["path"]) == (ready.id, "tests.taskqueue.jobs.noop")
    assert "ready_since" in row
    (row,) = json.loads(tasks("list", "--state", "delayed", "--json"))
    assert row["id"] == later.id
    assert tasks("list", "--state", "running") == "no running tasks\n"
    assert json.loads(tasks("stats", "--json"))["queues"]["default"]["scheduled"] == 1
    view = json.loads(tasks("show", far.id, "--json"))
    assert (view["state"], view["outbox"]["pushed_at"]) == ("outbox", None)


def test_show_tells_the_life_of_a_task(queue: Queue) -> None:
    with queue.worker():
        dead = finished(fail_until.using(max_attempts=1).enqueue("a", 9))
        done = finished(record.using(priority=7).enqueue("b"))
    view = json.loads(tasks("show", dead.id, "--json"))
    assert (view["state"], view["attempts"], view["args"]) == ("dead", 1, ["a", 9])
    assert [error["exception"] for error in view["errors"]] == ["builtins.ValueError"]
    assert len(view["workers"]) == 1
    text = tasks("show", dead.id)
    assert ["state", "dead"] in [line.split() for line in text.splitlines()]
    assert "ValueError: try 1" in text
    view = json.loads(tasks("show", done.id, "--json"))
    assert (view["state"], view["priority"], view["result"]) == ("done", 7, None)
    assert view["enqueued_at"] <= view["started_at"] <= view["finished_at"]


def test_dropped_tasks_stay_away(queue: Queue) -> None:
    failing = fail_until.using(max_attempts=1, delivery="until_finished")
    with queue.worker():
        one, _ = finished(failing.enqueue("a", 9)), finished(failing.enqueue("b", 9))
        relay = queue.relay()
        relay.move()
        assert tasks("drop", one.id) == "1 task dropped\n"
        assert tasks("drop", "--all") == "1 task dropped\n"
        assert tasks("list") == "no dead tasks\n"
        relay.recheck(0)
        assert outbox_rows() == 0
        with pytest.raises(CommandError, match=rf"not dropped: {one.id} \(cancelled\)"):
            tasks("drop", one.id)
    assert (effects("a"), effects("b")) == (1, 1)
    one.refresh()
    assert (one.status, len(one.errors)) == (TaskResultStatus.FAILED, 1)


def test_a_cancel_that_was_interrupted_is_finished_by_the_next(queue: Queue) -> None:
    """The cluster knew of it and the row was not deleted: the row would run when it is due."""
    far = noop.using(run_after=timezone.now() + timedelta(days=3)).enqueue()
    with suppress(ConnectionAbortedError), transaction.atomic():
        tasks("cancel", far.id)
        raise ConnectionAbortedError
    assert outbox_rows() == 1

    assert tasks("cancel", far.id) == "1 task cancelled\n"
    assert outbox_rows() == 0


def test_cancelled_tasks_do_not_run(queue: Queue, tmp_path: Path) -> None:
    ready = record.using(delivery="until_finished").enqueue("ready")
    far = record.using(run_after=timezone.now() + timedelta(days=5)).enqueue("far")
    wait_until(lambda: queue.stats().ready == 1, what="the direct push")
    assert json.loads(tasks("cancel", ready.id, far.id, "--json")) == {
        ready.id: {"done": True, "state": "ready"},
        far.id: {"done": True, "state": "outbox"},
    }
    assert (outbox_rows(), queue.stats().ready) == (0, 0)
    far.refresh()
    assert far.status is TaskResultStatus.FAILED
    assert far.errors[0].exception_class.__name__ == "TaskCancelled"
    with queue.worker():
        running = async_hold.enqueue(str(tmp_path / "never"))
        wait_until(lambda: queue.stats().running == 1, what="the start")
        assert tasks("cancel", running.id) == "1 task cancelled\n"
        assert finished(running).status is TaskResultStatus.FAILED
    assert effects("ready") == 0
    with pytest.raises(CommandError, match=r"not cancelled: .*\(unknown\); see `tasks show"):
        tasks("cancel", new_id(1))


def test_paused_queues_wait(queue: Queue) -> None:
    assert tasks("pause", "default").startswith("paused: default")
    with queue.worker():
        result = noop.enqueue()
        wait_until(lambda: queue.stats().ready == 1, what="the direct push")
        row = next(line for line in tasks("stats").splitlines() if line.startswith("default"))
        assert row.endswith("paused")
        with pytest.raises(CommandError, match=r"1 tasks ready and 0 running.*`tasks resume`"):
            tasks("drain", "--queue", "default", "--timeout", "0")
        assert tasks("drain", "--running").startswith("nothing is left")
        assert tasks("resume", "default") == "resumed: default\n"
        assert finished(result).status is TaskResultStatus.SUCCESSFUL
        assert json.loads(tasks("drain", "--json"))["drained"] is True


@pytest.mark.parametrize("verb", VERBS)
def test_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        call_command("tasks", verb, "--help")
    text = capsys.readouterr().out
    assert f"tasks {verb}" in text
    assert "--json" in text


def test_sentences_instead_of_tracebacks(queue_with: Callable[..., Any]) -> None:
    with pytest.raises(CommandError, match="name ids"):
        tasks("retry")
    with pytest.raises(CommandError, match=r"name queues of .*emails.*, or --all"):
        tasks("pause")
    with pytest.raises(CommandError, match="not a task id: 'x'"):
        tasks("show", "x")
    with pytest.raises(CommandError, match=r"not ready again: x \(not a task id"):
        tasks("retry", "x")
    with pytest.raises(CommandError, match="no queue nowhere"):
        tasks("list", "--queue", "nowhere")
    away = queue_with(url=f"valkey://127.0.0.1:{find_free(1)[0]}")
    with away, pytest.raises(CommandError, match="no seed of the queue cluster answers"):
        tasks("stats")
