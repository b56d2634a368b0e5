"""From what is stored about a task to Django's TaskResult."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from django.tasks import Task, TaskResult, TaskResultStatus
from django.tasks.base import TaskError
from django.utils.module_loading import import_string

from app.taskqueue.envelope import Envelope, loads

STATUS = {
    "ready": TaskResultStatus.READY,
    "delayed": TaskResultStatus.READY,
    "leased": TaskResultStatus.RUNNING,
    "done": TaskResultStatus.SUCCESSFUL,
    "dead": TaskResultStatus.FAILED,
    "cancelled": TaskResultStatus.FAILED,
}


class UnknownTask(ImportError):
    """An envelope names a function that this code does not have (any more)."""


@lru_cache(maxsize=4096)
def resolve(path: str) -> "Task[..., Any]":
    """The task declared at the dotted `path`. Raises UnknownTask."""
    try:
        found = import_string(path)
    except ImportError as error:
        raise UnknownTask(f"no task {path!r} in this version of the code: {error}") from error
    if not isinstance(found, Task):
        raise UnknownTask(f"{path!r} is no task; decorate it with @task")
    return found


def as_enqueued(envelope: Envelope) -> "Task[..., Any]":
    """The task with the values it was enqueued with. Raises UnknownTask."""
    declared = resolve(envelope["path"])
    run_after = envelope["run_after"]
    if (declared.priority, declared.queue_name, declared.run_after) == (
        *(envelope["priority"], envelope["queue"], run_after),
    ):
        return declared  # the common case: `replace` would validate it all over again
    return replace(
        declared,
        priority=envelope["priority"],
        queue_name=envelope["queue"],
        run_after=moment(run_after) if run_after is not None else None,
    )


def moment(milliseconds: int | bytes | str) -> datetime:
    """Milliseconds of the epoch as an aware datetime."""
    return datetime.fromtimestamp(int(milliseconds) / 1000, tz=UTC)


def waiting(
    envelope: Envelope, alias: str, task: "Task[..., Any] | None" = None
) -> "TaskResult[..., Any]":
    """The result of a task that has not started (`task` if it is resolved already)."""
    return TaskResult(
        task=task or as_enqueued(envelope),
        id=envelope["id"],
        status=TaskResultStatus.READY,
        enqueued_at=moment(envelope["enqueued_at"]),
        started_at=None,
        finished_at=None,
        last_attempted_at=None,
        args=envelope["args"],
        kwargs=envelope["kwargs"],
        backend=alias,
        errors=[],
        worker_ids=[],
    )


def stored(fields: Mapping[str, str], alias: str) -> "TaskResult[..., Any]":
    """The result in a shown task (see `shown`)."""
    result = waiting(loads(fields["body"]), alias)
    worker_ids = [worker for worker in fields.get("w", "").split(",") if worker]
    update(result, status=STATUS[fields["s"]], worker_ids=worker_ids, errors=_errors(fields))
    for name, field in (("started_at", "st"), ("last_attempted_at", "la"), ("finished_at", "f")):
        if field in fields:
            update(result, **{name: moment(fields[field])})
    if "r" in fields:
        update(result, _return_value=json.loads(fields["r"]))
    return result


def update(result: "TaskResult[..., Any]", **values: object) -> None:
    """Django's results are frozen and its own backends change them this way."""
    for name, value in values.items():
        object.__setattr__(result, name, value)


def _errors(fields: Mapping[str, str]) -> list[TaskError]:
    numbers = sorted(int(name[4:]) for name in fields if name.startswith("err:"))
    pairs = (json.loads(fields[f"err:{number}"]) for number in numbers)
    return [TaskError(exception_class_path=path, traceback=text) for path, text in pairs]


def shown(answer: Sequence[Any]) -> dict[str, str] | None:
    """The answer of scripts/show.lua: the fields of the task's hash (scripts/common.lua names
    them), and its envelope as "body". None for a task that is not there.
    """
    if not answer:
        return None
    texts = [item.decode() for item in answer[0]]
    fields = dict(zip(texts[::2], texts[1::2], strict=True))
    return fields | {"body": answer[1].decode()}
