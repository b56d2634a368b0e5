"""For tests: run what is in the outbox, here and now, in the test's own transaction."""

from datetime import datetime
from typing import Any

from django.db import connections
from django.tasks import TaskContext, TaskResult, TaskResultStatus, task_backends
from django.utils import timezone
from django.utils.json import normalize_json

from app.taskqueue.backend import ClusterBackend
from app.taskqueue.envelope import loads
from app.taskqueue.results import update, waiting

MOST = 1_000  # tasks in one drain; more is a task that enqueues itself

_TAKE = """
    DELETE FROM taskqueue_outbox WHERE id = (
        SELECT id FROM taskqueue_outbox
        WHERE run_after <= %s AND (%s::text[] IS NULL OR queue = ANY(%s))
        ORDER BY priority DESC, run_after, id LIMIT 1)
    RETURNING envelope::text, queue, unique_key"""

_MERGE = "DELETE FROM taskqueue_outbox WHERE queue = %s AND unique_key = %s"


def drain(
    *, queues: list[str] | None = None, now: datetime | None = None, backend: str = "default"
) -> list["TaskResult[..., Any]"]:
    """Run all tasks that are due at `now` (default: the present), highest priority first, with
    those that they enqueue; returns their results in the order they ran.

    A task's exception is raised, as no retry is wanted in a test. Tasks that share a unique key run
    once. Nothing touches the cluster.
    """
    owner = task_backends[backend]
    assert isinstance(owner, ClusterBackend)
    results: list[TaskResult[..., Any]] = []
    while (text := _take(owner, queues, now)) is not None:
        results.append(_run(text, owner.alias))
        if len(results) >= MOST:
            raise AssertionError(f"more than {MOST} tasks in one drain: does one enqueue itself?")
    return results


def _take(backend: ClusterBackend, queues: list[str] | None, now: datetime | None) -> str | None:
    due = now or timezone.now()
    with connections[backend.settings.database].cursor() as cursor:
        cursor.execute(_TAKE, [due, queues, queues])
        row = cursor.fetchone()
        if row is None:
            return None
        text, queue, unique_key = row
        if unique_key is not None:
            cursor.execute(_MERGE, [queue, unique_key])
    return str(text)


def _run(text: str, alias: str) -> "TaskResult[..., Any]":
    result = waiting(loads(text), alias)
    started = timezone.now()
    update(result, status=TaskResultStatus.RUNNING, started_at=started, last_attempted_at=started)
    result.worker_ids.append("drain")
    context = [TaskContext(task_result=result)] if result.task.takes_context else []
    value = result.task.call(*context, *result.args, **result.kwargs)
    update(
        result,
        status=TaskResultStatus.SUCCESSFUL,
        finished_at=timezone.now(),
        _return_value=normalize_json(value),
    )
    return result
