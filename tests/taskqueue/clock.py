"""A database clock that tests set, step and speed up, and the exact list of what was enqueued."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import quote

from django.db import connection

# A relay process gets `test_clock` before pg_catalog in its search path: its clock_timestamp() is
# ours, without a word of it in the product. The trigger sees committed inserts only.
_SETUP = """
    CREATE SCHEMA test_clock;
    CREATE TABLE test_clock.moment (at timestamptz, since timestamptz, speed float8);
    CREATE FUNCTION test_clock.clock_timestamp() RETURNS timestamptz VOLATILE LANGUAGE sql AS
        'SELECT at + (pg_catalog.clock_timestamp() - since) * speed FROM test_clock.moment';
    CREATE TABLE test_clock.enqueued (
        n bigint GENERATED ALWAYS AS IDENTITY, id text, name text, tick text);
    CREATE FUNCTION test_clock.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO test_clock.enqueued (id, name, tick) VALUES (
            NEW.id, substring(NEW.path from '[^.]+$'), NEW.envelope->'kwargs'->>'tick');
        RETURN NULL; END $$;
    CREATE TRIGGER test_clock AFTER INSERT ON taskqueue_outbox
        FOR EACH ROW EXECUTE FUNCTION test_clock.note();"""
_TEARDOWN = """
    DROP TRIGGER IF EXISTS test_clock ON taskqueue_outbox;
    DROP SCHEMA IF EXISTS test_clock CASCADE;"""

SEARCH_PATH = "options=" + quote("-c search_path=test_clock,pg_catalog,public")


@dataclass(frozen=True, slots=True)
class Clock:
    """The clock of this lane's database, as relays under test see it. It stands until `run`."""

    def set(self, moment: datetime, speed: float = 0.0) -> None:
        """Set it."""
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM test_clock.moment")
            cursor.execute(
                "INSERT INTO test_clock.moment VALUES (%s, pg_catalog.clock_timestamp(), %s)",
                [moment, speed],
            )

    def now(self) -> datetime:
        """What it shows."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT test_clock.clock_timestamp()")
            moment: datetime = cursor.fetchone()[0]
        return moment

    def run(self, speed: float) -> None:
        """Let it go so many times as fast as ours; 0 stops it."""
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE test_clock.moment SET at = test_clock.clock_timestamp(), "
                "since = pg_catalog.clock_timestamp(), speed = %s",
                [speed],
            )

    def step(self, step: timedelta) -> None:
        """Move it."""
        self.set(self.now() + step)

    def enqueued(self, name: str) -> list[str]:
        """The ticks of committed enqueues of one task, in their order."""
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT COALESCE(tick, '') FROM test_clock.enqueued WHERE name = %s ORDER BY n",
                [name],
            )
            return [tick for (tick,) in cursor.fetchall()]


@contextmanager
def standing_clock(moment: datetime) -> Iterator[Clock]:
    """The clock, showing `moment`."""
    with connection.cursor() as cursor:
        cursor.execute(_TEARDOWN)
        cursor.execute(_SETUP)
    try:
        clock = Clock()
        clock.set(moment)
        yield clock
    finally:
        with connection.cursor() as cursor:
            cursor.execute(_TEARDOWN)
