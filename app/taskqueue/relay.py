"""The relay: moves outbox rows to the cluster and deletes what the cluster has confirmed.

One batch is one transaction: lock rows that nobody else holds, push them (again: by id, so twice
is once), and delete those that survive the loss of a node. A relay that dies in between leaves the
rows where they are. Several relays share the table.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from django.db import Error as DatabaseError
from django.db import connections, transaction

from app.taskqueue import outbox
from app.taskqueue.backend import ClusterBackend
from app.taskqueue.cluster import Cluster, Reply
from app.taskqueue.confirmation import Confirmation
from app.taskqueue.failpoints import failpoint
from app.taskqueue.hooks import hooks
from app.taskqueue.outbox import Parcel
from app.taskqueue.schedule import Schedule
from app.taskqueue.stats import read_stats
from app.taskqueue.topology import ClusterUnavailable, QueueUnavailable

TIMEOUT = 2.0  # seconds for connecting and for each answer; rows are locked that long
POLL = 0.1  # seconds between two looks at an empty outbox
BATCH = 200
GAUGES = 5.0  # seconds between two reports
RECHECK = 15.0  # seconds after which a task of class "until_finished" is looked at again
NAP = 0.05  # a stop is noticed this fast

log = logging.getLogger("taskqueue")


class Relay:
    """Runs in one thread until `stop`."""

    def __init__(self, backend: ClusterBackend, *, batch: int = BATCH) -> None:
        self._backend = backend
        self._batch = batch
        self._database = backend.settings.database
        self._cluster = Cluster(backend.settings.address, timeout=TIMEOUT)
        self._confirmation = Confirmation(self._cluster)
        self._schedule = Schedule(backend.alias, backend.settings.database)
        self._schedule_at = 0.0
        self._stopped = False
        self._report_at = 0.0
        self._recheck_at = 0.0
        self._failures = 0

    def run(self) -> None:
        """Move rows until `stop`; outlives restarts of the cluster and of PostgreSQL."""
        with hooks.quiet():
            self._confirmation.announce()
            while not self._stopped:
                hooks.tick("relay", "")
                self._sleep(self._turn())
            self._cluster.close()
            connections[self._database].close()
            log.info("relay.stopped")

    def stop(self) -> None:
        """End after the batch under way. Safe in a signal handler."""
        self._stopped = True

    def move(self) -> int:
        """Move one batch of due rows; returns how many were looked at.

        Raises ClusterUnavailable when no node answers: nothing has changed then.
        """
        return self._move(outbox.DUE, [self._batch])

    def recheck(self, seconds: float = RECHECK) -> int:
        """Look at confirmed rows of unfinished tasks, last looked at `seconds` ago: push lost ones
        again, delete those of tasks that have succeeded.
        """
        return self._move(outbox.UNFINISHED, [seconds, self._batch])

    def report(self) -> None:
        """Set the fleet's gauges; what cannot be asked now keeps its last value."""
        with suppress(DatabaseError), connections[self._database].cursor() as cursor:
            cursor.execute(outbox.BACKLOG)
            rows, oldest = cursor.fetchone()
            hooks.observe("outbox_unconfirmed", "", "", float(rows))
            hooks.observe("outbox_oldest_seconds", "", "", oldest)
        with suppress(QueueUnavailable):
            for queue, stats in read_stats(self._backend, self._cluster).items():
                for event, value in stats.gauges():
                    hooks.observe(event, queue, "", value)

    def _turn(self) -> float:
        """One round; returns the seconds to sleep."""
        now = time.monotonic()
        try:
            self._clock()  # first: ticks reach the outbox also while the cluster is away
            self._report_when_due(now)  # then: lateness matters most while it is away
            looked_at = max(self.move(), self._recheck_when_due(now))
        except (QueueUnavailable, DatabaseError) as error:
            self._failures += 1
            if self._failures == 1:
                log.warning("relay.waiting %s", error)
            connections[self._database].close()
            return min(POLL * 2.0 ** min(self._failures, 4), 1.0)
        if self._failures:
            log.info("relay.resumed after %d failures", self._failures)
        self._failures = 0
        return 0.0 if looked_at >= self._batch else POLL

    def _clock(self) -> None:
        if time.monotonic() >= self._schedule_at:
            self._schedule_at = time.monotonic() + self._schedule.run()

    def _report_when_due(self, now: float) -> None:
        if now >= self._report_at:
            self._report_at = now + GAUGES
            self.report()
            connections[self._database].close()  # back to the pool, which replaces old ones

    def _recheck_when_due(self, now: float) -> int:
        if now < self._recheck_at:
            return 0
        looked_at = self.recheck()
        self._recheck_at = now if looked_at >= self._batch else now + 1.0
        return looked_at

    def _move(self, query: str, parameters: Sequence[Any]) -> int:
        with transaction.atomic(using=self._database):
            with connections[self._database].cursor() as cursor:
                cursor.execute(query, parameters)
                parcels = [Parcel.of(row) for row in cursor.fetchall()]
            if not parcels:
                return 0
            replies = self._push(parcels)
            failpoint("relay.pushed_before_confirm")
            self._settle(parcels, replies)
            if query is outbox.DUE:
                self._count(parcels, replies)
        return len(parcels)

    def _push(self, parcels: Sequence[Parcel]) -> list[Reply]:
        settings = self._backend.settings
        commands = [p.command(settings.address.prefix, settings.result_ttl) for p in parcels]
        replies = self._cluster.run(commands, confirm=self._confirmation.command)
        if all(isinstance(reply.error, ClusterUnavailable) for reply in replies):
            raise ClusterUnavailable(str(replies[0].error))
        return replies

    def _settle(self, parcels: Sequence[Parcel], replies: Sequence[Reply]) -> None:
        fates: dict[str, list[str]] = {outbox.DELETE: [], outbox.CONFIRM: [], outbox.POSTPONE: []}
        for parcel, reply in zip(parcels, replies, strict=True):
            fates[self._fate(parcel, reply)].append(parcel.id)
        with connections[self._database].cursor() as cursor:
            for statement, ids in fates.items():
                if ids:
                    cursor.execute(statement, [ids])

    def _count(self, parcels: Sequence[Parcel], replies: Sequence[Reply]) -> None:
        for parcel, reply in zip(parcels, replies, strict=True):
            event = "relayed" if self._is_confirmed(reply) else "relay_failed"
            hooks.observe(event, parcel.queue, parcel.path)

    def _is_confirmed(self, reply: Reply) -> bool:
        return reply.error is None and self._confirmation.holds(reply)

    def _fate(self, parcel: Parcel, reply: Reply) -> str:
        """What becomes of a row, as a statement."""
        if reply.error is not None and not isinstance(reply.error, QueueUnavailable):
            log.error("relay.refused id=%s path=%s: %s", parcel.id, parcel.path, reply.error)
        if not self._is_confirmed(reply):
            return outbox.POSTPONE
        if parcel.delivery == "dispatched" or reply.value in {b"done", b"merged", b"cancelled"}:
            return outbox.DELETE
        return outbox.CONFIRM

    def _sleep(self, seconds: float) -> None:
        for pause in _naps(seconds):
            if self._stopped:
                return
            time.sleep(pause)


def _naps(seconds: float) -> Iterator[float]:
    # A signal does not shorten a sleep (PEP 475), and an Event must not be set in a handler.
    while seconds > 0:
        yield min(NAP, seconds)
        seconds -= NAP
