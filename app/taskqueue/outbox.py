"""The outbox table in SQL: written by publishers, emptied by the relay.

No connection is opened here: publishers bring the transaction of their fact. Plain SQL, because the
insert is on the path of every order and the relay moves thousands of rows a second.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from app.taskqueue.ids import tag
from app.taskqueue.lua import ENQUEUE, Command

HORIZON_SECONDS = 900  # tasks due later than this stay in PostgreSQL: a flush cannot lose them

INSERT = """
    INSERT INTO taskqueue_outbox (id, path, queue, shard, priority, class, envelope, version,
        run_after, unique_key, attempts, created_at)
    VALUES (%s, %s, %s, %s, %s, %s, %s::jsonb, %s, COALESCE(%s, clock_timestamp()), %s, 0,
        clock_timestamp())"""

_PARCEL = """id, path, queue, shard, priority, class, envelope::text, version,
    (envelope->>'run_after')::bigint, unique_key, (envelope->>'max_attempts')::int,
    (envelope->>'lease')::float8"""

# A row that could not be confirmed waits longer each time (up to 30 s), so that it does not stand
# in the way of the others.
_NOT_RESTING = """(pushed_at IS NULL
    OR pushed_at < now() - make_interval(secs => least(0.25 * 2 ^ least(attempts, 7), 30)))"""

DUE = f"""
    SELECT {_PARCEL} FROM taskqueue_outbox
    WHERE confirmed_at IS NULL AND run_after <= now() + make_interval(secs => {HORIZON_SECONDS})
        AND {_NOT_RESTING}
    ORDER BY run_after, id LIMIT %s FOR UPDATE SKIP LOCKED"""  # noqa: S608 - constants only

# Class "until_finished": confirmed rows are checked again and again until the task has succeeded.
UNFINISHED = f"""
    SELECT {_PARCEL} FROM taskqueue_outbox
    WHERE confirmed_at IS NOT NULL AND pushed_at < now() - make_interval(secs => %s)
    ORDER BY pushed_at, id LIMIT %s FOR UPDATE SKIP LOCKED"""  # noqa: S608 - constants only

DELETE = "DELETE FROM taskqueue_outbox WHERE id = ANY(%s)"

CONFIRM = """
    UPDATE taskqueue_outbox SET pushed_at = now(), confirmed_at = now(), attempts = 0
    WHERE id = ANY(%s)"""

POSTPONE = """
    UPDATE taskqueue_outbox SET pushed_at = now(), attempts = attempts + 1, confirmed_at = NULL
    WHERE id = ANY(%s)"""

BACKLOG_LIMIT = 100_000

# Rows that could be confirmed now, counted up to a limit, and the age of the oldest in seconds.
BACKLOG = f"""
    SELECT count(*), COALESCE(extract(epoch FROM now() - min(run_after)), 0)::float8 FROM (
        SELECT run_after FROM taskqueue_outbox
        WHERE confirmed_at IS NULL AND run_after <= now()
        ORDER BY run_after, id LIMIT {BACKLOG_LIMIT}) AS due"""  # noqa: S608 - constants only

# Rows that are due later than the cluster is told of, by queue.
SCHEDULED = f"""
    SELECT queue, count(*) FROM taskqueue_outbox
    WHERE confirmed_at IS NULL AND pushed_at IS NULL
        AND run_after > now() + make_interval(secs => {HORIZON_SECONDS})
    GROUP BY queue"""  # noqa: S608 - constants only

SHOW = """
    SELECT envelope::text, class, run_after, pushed_at, confirmed_at, attempts
    FROM taskqueue_outbox WHERE id = %s"""

TAKE_OUT = "DELETE FROM taskqueue_outbox WHERE id = %s RETURNING envelope::text"

FIND = "SELECT envelope::text FROM taskqueue_outbox WHERE id = %s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """A task between its enqueue and the cluster."""

    id: str
    path: str
    queue: str
    shard: int
    priority: int
    delivery: str
    envelope: str
    version: int
    run_after: int | None  # milliseconds of the epoch; None: at once
    unique_key: str | None
    max_attempts: int
    lease: float

    @classmethod
    def of(cls, row: Sequence[Any]) -> "Parcel":
        """From a row of `DUE` or `UNFINISHED`."""
        return cls(**dict(zip(cls.__slots__, row, strict=True)))

    @property
    def row(self) -> tuple[Any, ...]:
        """The parameters of `INSERT`."""
        due = None
        if self.run_after is not None:
            due = datetime.fromtimestamp(self.run_after / 1000, tz=UTC)
        return (
            *(self.id, self.path, self.queue, self.shard, self.priority, self.delivery),
            *(self.envelope, self.version, due, self.unique_key),
        )

    def command(self, prefix: str, tombstone_seconds: int) -> Command:
        """What puts it into its shard; running it again changes nothing."""
        return ENQUEUE.call(
            tag(prefix, self.queue, self.shard),
            *(self.id, self.priority, self.run_after or 0, self.max_attempts),
            *(int(self.lease * 1000), self.unique_key or "", tombstone_seconds * 1000),
            self.envelope,
        )
