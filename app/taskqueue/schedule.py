"""The clock of periodic tasks: part of the relay, exactly one enqueue per tick.

A row per task holds the moment up to which its ticks have been handled. Whoever locks the row
enqueues the ticks since then (outbox rows) and moves that moment to the present, in one
transaction: a tick is enqueued and handled, or neither. Only row locks and the database's clock are
used, nothing of a session, so several relays may run, through a transaction pooler too.

It is a moment and not the last tick, so that a new cron applies from there on: at once, never
for the past, and also while relays of two releases overlap.
"""

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from django.db import connections, transaction

from app.taskqueue.cron import Periodic, all_names, declared
from app.taskqueue.failpoints import failpoint
from app.taskqueue.hooks import hooks

LOOK = 1.0  # seconds between two looks at the clock, less when a tick is due before
REFRESH = timedelta(seconds=30)  # a row's moment is never older while a relay runs
FORGET = timedelta(days=1)  # after the last relay that knew a task; then its row goes
NEVER = datetime.max.replace(tzinfo=UTC)
CLOCK_WENT_BACK = timedelta(minutes=5)  # smaller steps are waited out

READ = """
    SELECT clock_timestamp(), name, checked_at
    FROM unnest(%s::text[]) AS known (name) LEFT JOIN taskqueue_schedule USING (name)"""

FIRST_SIGHT = """
    INSERT INTO taskqueue_schedule (name, checked_at) VALUES (%s, clock_timestamp())
    ON CONFLICT DO NOTHING"""

LOCK = """
    SELECT clock_timestamp(), checked_at FROM taskqueue_schedule
    WHERE name = %s FOR UPDATE SKIP LOCKED"""

HANDLED = """
    UPDATE taskqueue_schedule SET checked_at = %s, last_tick = COALESCE(%s, last_tick)
    WHERE name = %s"""

PRUNE = """
    DELETE FROM taskqueue_schedule
    WHERE name <> ALL(%s) AND checked_at < clock_timestamp() - make_interval(secs => %s)
    RETURNING name"""

log = logging.getLogger("taskqueue")


class Schedule:
    """Enqueues what is due. Every call may raise django.db.Error; the next one goes on."""

    def __init__(self, backend: str, database: str) -> None:
        self._tasks = {periodic.name: periodic for periodic in declared(backend)}
        self._database = database
        self._next: dict[str, tuple[datetime, datetime]] = {}  # name -> (moment, tick after it)
        self._prune_at: datetime | None = None

    def run(self) -> float:
        """Enqueue all ticks that are due; returns the seconds until it is worth calling again."""
        if not self._tasks:
            return LOOK
        wait = LOOK
        for now, periodic, handled in self._read():
            if handled is None:
                self._first_sight(periodic)
            elif self._is_due(periodic, handled, now):
                self._handle(periodic)
            else:
                wait = min(wait, (self._tick_after(periodic, handled) - now).total_seconds())
        return max(wait, 0.0)

    def prune(self) -> int:
        """Forget tasks that no relay has known for a day; returns how many."""
        with connections[self._database].cursor() as cursor:
            cursor.execute(PRUNE, [all_names(), FORGET.total_seconds()])
            names = [name for (name,) in cursor.fetchall()]
        for name in names:
            log.info("periodic.forgotten task=%s", name)
        return len(names)

    def _read(self) -> Iterator[tuple[datetime, Periodic, datetime | None]]:
        with connections[self._database].cursor() as cursor:
            cursor.execute(READ, [list(self._tasks)])
            rows = cursor.fetchall()
        now: datetime = rows[0][0]
        if self._prune_at is None or now >= self._prune_at:
            self._prune_at = now + timedelta(hours=1)
            self.prune()
        for _, name, handled in rows:
            yield now, self._tasks[name], handled

    def _is_due(self, periodic: Periodic, handled: datetime, now: datetime) -> bool:
        return (
            self._tick_after(periodic, handled) <= now
            or now - handled >= REFRESH
            or handled - now > CLOCK_WENT_BACK
        )

    def _tick_after(self, periodic: Periodic, moment: datetime) -> datetime:
        known = self._next.get(periodic.name)
        # The moment moves without a tick in between: the tick after it stays the same.
        if known is None or not known[0] <= moment < known[1]:
            known = self._next[periodic.name] = (moment, next(periodic.after(moment), NEVER))
        return known[1]

    def _first_sight(self, periodic: Periodic) -> None:
        with connections[self._database].cursor() as cursor:
            cursor.execute(FIRST_SIGHT, [periodic.name])
            if cursor.rowcount:
                log.info("periodic.first_seen task=%s cron=%s", periodic.name, periodic.cron)

    def _handle(self, periodic: Periodic) -> None:
        with transaction.atomic(using=self._database):
            with connections[self._database].cursor() as cursor:
                cursor.execute(LOCK, [periodic.name])
                row: tuple[datetime, datetime] | None = cursor.fetchone()
            if row is None:
                return  # another relay is at it
            now, handled = row
            if now <= handled <= now + CLOCK_WENT_BACK:
                return  # another relay was faster
            ticks, skipped = periodic.between(handled, now) if now > handled else ([], 0)
            for tick in ticks:
                periodic.enqueue(tick)
            if ticks:
                failpoint("periodic.enqueued_before_commit")
            with connections[self._database].cursor() as cursor:
                cursor.execute(HANDLED, [now, max(ticks, default=None), periodic.name])
        _tell(periodic, handled, now, ticks, skipped)


def _tell(
    periodic: Periodic, handled: datetime, now: datetime, ticks: list[datetime], skipped: int
) -> None:
    queue = periodic.task.queue_name
    if handled > now:
        log.warning(
            "periodic.clock_went_back task=%s from=%s to=%s",
            *(periodic.name, handled.isoformat(), now.isoformat()),
        )
    for tick in ticks:
        log.info("periodic.enqueued task=%s tick=%s", periodic.name, tick.isoformat())
    if ticks:
        hooks.observe("tick_enqueued", queue, periodic.name, float(len(ticks)))
    if skipped:
        log.warning("periodic.skipped task=%s ticks=%d", periodic.name, skipped)
        hooks.observe("tick_skipped", queue, periodic.name, float(skipped))
