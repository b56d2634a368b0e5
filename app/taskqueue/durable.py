"""`DurableTask` and its typed decorator: what Django's `task` lacks.

@task(queue_name="emails", priority=5, max_attempts=8)
def email_confirmation(*, event_id: str, order_id: str) -> None: ...

email_confirmation.enqueue(event_id=..., order_id=...)   # checked by mypy
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Concatenate, Literal, TypedDict, Unpack, overload

from django.tasks import DEFAULT_TASK_BACKEND_ALIAS, TaskContext
from django.tasks import Task as DjangoTask
from django.tasks import task as django_task

if TYPE_CHECKING:
    TaskBase = DjangoTask
else:

    class TaskBase(DjangoTask):
        """Django's Task; generic for the type checker only."""

        __slots__ = ()

        def __class_getitem__(cls, _parameters):
            return cls


Delivery = Literal["dispatched", "until_finished"]


class Options(TypedDict, total=False):
    """What the decorator takes. Durations in seconds."""

    queue_name: str
    priority: int  # -100 .. 100, higher first
    backend: str
    max_attempts: int  # starts, the first included; then the task is dead and keeps its error
    backoff: float | tuple[float, ...]  # base, doubled per attempt up to 15 min; or each delay
    timeout: float | None  # one attempt
    lease: float  # a killed worker's task starts again after this long
    durable: bool  # False: pushed straight to the cluster, no outbox row, may be lost
    delivery: Delivery  # until_finished: even a flushed cluster does not lose it
    unique_key: str | None  # at most one unfinished task per key


class Changes(Options, total=False):
    """What `using` takes."""

    run_after: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DurableTask[**P, R](TaskBase[P, R]):
    """A task with attempts, leases and a durability class (see `Options`)."""

    max_attempts: int = 5
    backoff: float | tuple[float, ...] = 2.0
    timeout: float | None = None
    lease: float = 30.0
    durable: bool = True
    delivery: Delivery = "dispatched"
    unique_key: str | None = None

    def using(self, **changes: Unpack[Changes]) -> DurableTask[P, R]:  # type: ignore[override]
        """A copy with other values; None means unchanged, as in Django."""
        kept = {name: value for name, value in changes.items() if value is not None}
        return replace(self, **kept)  # type: ignore[arg-type]


class ContextOptions(Options):
    """Options of a task whose first argument is its context."""

    takes_context: Literal[True]


@overload
def task[**P, R](function: Callable[P, R], /) -> DurableTask[P, R]: ...
@overload
def task[**P, R](
    **options: Unpack[ContextOptions],
) -> Callable[[Callable[Concatenate[TaskContext[Any, Any], P], R]], DurableTask[P, R]]: ...
@overload
def task[**P, R](
    **options: Unpack[Options],
) -> Callable[[Callable[P, R]], DurableTask[P, R]]: ...
def task(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Django's `task` decorator with the options of `DurableTask`, and its signature kept."""
    options.setdefault("backend", DEFAULT_TASK_BACKEND_ALIAS)
    return django_task(function, **options) if function else django_task(**options)
