"""Tasks by the clock: the decorator, the cron expressions and the register of what was declared.

    @periodic(cron="17 3 * * *", queue="default", timezone="Africa/Lagos")
    @task(max_attempts=3)
    def send_reminders(*, tick: str) -> None: ...

Declare them in the `tasks` module of an installed app: the relay imports those and enqueues each
task once per tick, however many relays run (see schedule.py). A run that must not overlap the next
one takes `unique_key=` in `task`.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, overload
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import autodiscover_modules

from app.taskqueue.durable import DurableTask, task

if TYPE_CHECKING:
    from django.tasks import TaskResult

CatchUp = Literal["skip", "all"]

MOST = 100  # ticks that "all" makes up for, unless told otherwise
_FIRST_LOOK = timedelta(days=1)  # back from now when ticks were missed, then eight times as far


@dataclass(frozen=True, slots=True, kw_only=True)
class Periodic:
    """A declared task with its cron. Raises ImproperlyConfigured when made of nonsense."""

    task: DurableTask[..., Any]
    cron: str
    zone: ZoneInfo
    most: int  # missed ticks that are enqueued, the latest ones
    takes_tick: bool

    @property
    def name(self) -> str:
        """The dotted path of the task."""
        return self.task.module_path

    def after(self, moment: datetime) -> Iterator[datetime]:
        """All ticks later than `moment`, earliest first, in UTC.

        Like Debian's cron: a time that the start of summer time skips comes right after the gap,
        one that its end repeats comes once. Expressions with `*` in minute or hour follow the time
        that really passes.
        """
        last = moment.astimezone(UTC)
        for local in CronSim(self.cron, moment.astimezone(self.zone)):
            tick = local.astimezone(UTC)
            if tick > last:
                last = tick
                yield tick

    def between(self, start: datetime, end: datetime) -> tuple[list[datetime], int]:
        """The ticks in (start, end] that are to be enqueued, earliest first, and how many missed
        ones are left out (at least; exact within a day).

        The work is bounded by `most`, not by the length of the gap.
        """
        reach = _FIRST_LOOK
        while True:
            begin = max(start, end - reach)
            latest: deque[datetime] = deque(maxlen=self.most)
            found = 0
            for tick in self.after(begin):
                if tick > end:
                    break
                latest.append(tick)
                found += 1
            if found > self.most or begin == start:
                return list(latest), found - len(latest)
            reach *= 8

    def enqueue(self, tick: datetime) -> TaskResult[..., Any]:
        """Enqueue the run of one tick, in the caller's transaction."""
        if self.takes_tick:
            return self.task.enqueue(tick=tick.isoformat(timespec="seconds"))
        return self.task.enqueue()


_declared: dict[str, Periodic] = {}


def discover() -> None:
    """Import the `tasks` module of every installed app."""
    autodiscover_modules("tasks")


def declared(backend: str) -> list[Periodic]:
    """The periodic tasks of one backend, as far as they have been imported."""
    return [periodic for periodic in _declared.values() if periodic.task.backend == backend]


def all_names() -> list[str]:
    """The dotted paths of all periodic tasks, whatever their backend."""
    return list(_declared)


class _Decorator:
    """What `periodic` returns; it takes a task or a plain function."""

    def __init__(self, *, queue: str | None, **values: Any) -> None:
        self._queue = queue
        self._values = values

    @overload
    def __call__[**P, R](self, target: DurableTask[P, R], /) -> DurableTask[P, R]: ...
    @overload
    def __call__[**P, R](self, target: Callable[P, R], /) -> DurableTask[P, R]: ...
    def __call__(self, target: Any, /) -> Any:
        declared_task = target if isinstance(target, DurableTask) else self._made(target)
        if self._queue is not None and declared_task.queue_name != self._queue:
            declared_task = declared_task.using(queue_name=self._queue)
        path = declared_task.module_path
        if not declared_task.durable:
            raise ImproperlyConfigured(
                f"{path}: a periodic task cannot have durable=False: the outbox row is what makes "
                "each tick exactly one enqueue"
            )
        takes_tick = _takes_tick(declared_task)
        _declared[path] = Periodic(task=declared_task, takes_tick=takes_tick, **self._values)
        return declared_task

    def _made(self, function: Callable[..., Any]) -> DurableTask[..., Any]:
        return task(queue_name=self._queue)(function) if self._queue else task(function)


def periodic(
    *,
    cron: str,
    queue: str | None = None,
    timezone: str = "UTC",
    catch_up: CatchUp = "skip",
    catch_up_limit: int = MOST,
) -> _Decorator:
    """Enqueue the decorated task (or plain function) at each tick of `cron`.

    `cron` has five fields: minute, hour, day of month, month, day of week, as in Debian's cron,
    also `L` and `MON#1`; `timezone` is an IANA name. `queue` replaces the task's own queue.
    `catch_up` decides about ticks that passed while no relay ran: "skip" enqueues the latest one
    only, "all" every one, at most the latest `catch_up_limit`. A task seen for the first time never
    runs for the past. The function takes nothing, or the keyword `tick`: the time it runs for, in
    UTC, like "2026-01-31T03:17:00+00:00".

    ImproperlyConfigured, when the module is imported, names what is wrong.
    """
    zone = _zone(timezone)
    _check(cron, zone)
    if catch_up not in {"skip", "all"}:
        raise ImproperlyConfigured(f'periodic: catch_up is "skip" or "all", not {catch_up!r}')
    if catch_up_limit < 1:
        raise ImproperlyConfigured("periodic: catch_up_limit must be at least 1")
    most = catch_up_limit if catch_up == "all" else 1
    return _Decorator(queue=queue, cron=cron, zone=zone, most=most)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ImproperlyConfigured(
            f"periodic: no timezone {name!r}; use a name like Africa/Lagos or UTC"
        ) from error


def _check(cron: str, zone: ZoneInfo) -> None:
    if len(cron.split()) != 5:
        raise ImproperlyConfigured(
            f"periodic: cron {cron!r} must have five fields (minute, hour, day of month, month, "
            'day of week), like "*/5 * * * *"'
        )
    try:
        next(CronSim(cron, datetime.now(zone)))
    except CronSimError as error:
        raise ImproperlyConfigured(f"periodic: cron {cron!r}: {error}") from error
    except StopIteration as error:
        raise ImproperlyConfigured(f"periodic: cron {cron!r} has no tick in 50 years") from error


def _takes_tick(declared_task: DurableTask[..., Any]) -> bool:
    parameters = list(inspect.signature(declared_task.func).parameters.values())
    if declared_task.takes_context:
        parameters = parameters[1:]
    names = {parameter.name for parameter in parameters}
    needed = {p.name for p in parameters if p.default is p.empty and p.kind not in _VARIADIC}
    if needed - {"tick"}:
        raise ImproperlyConfigured(
            f"{declared_task.module_path}: a periodic task is called without arguments, or with "
            f"the keyword tick; it needs {', '.join(sorted(needed - {'tick'}))}"
        )
    return "tick" in names


_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
