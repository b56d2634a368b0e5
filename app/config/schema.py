"""Whether this image and this database fit, and the lock under which migrations run."""

import re
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from django.conf import settings
from django.core.management.base import CommandError
from django.db import OperationalError, ProgrammingError, connection
from django.db.migrations.loader import MigrationLoader

from app.config.models import SchemaVersion

LOCK = 0x66617368  # "fash": one migration at a time, whoever starts it
LOCK_SECONDS = 300


def use_direct_connection() -> None:
    """Point the default connection around PgBouncer. Call before the first query."""
    connection.close()
    connection.settings_dict.update(settings.DIRECT_DATABASE)


def wait_for_database(seconds: float, tell: Callable[[str], object]) -> None:
    """Return when the server accepts this login: a migrate Job and its database start together.

    Each new reason for waiting goes to `tell`. Raises OperationalError after `seconds`.
    """
    deadline = time.monotonic() + seconds
    told = ""
    while True:
        try:
            connection.ensure_connection()
            return
        except OperationalError as error:
            if time.monotonic() > deadline:
                raise
            reason = str(error).strip().splitlines()[0]
            if reason != told:
                tell(f"waiting for the database: {reason}")
                told = reason
            time.sleep(0.5)


@contextmanager
def migration_lock() -> Iterator[None]:
    """Hold the advisory lock of migrations for the session.

    Inside, a statement waits at most 2 s for a table lock: a migration must never queue the shop
    behind itself. Raises CommandError when another migration holds the lock for 5 minutes.
    """
    deadline = time.monotonic() + LOCK_SECONDS
    with connection.cursor() as cursor:
        while True:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", [LOCK])
            row = cursor.fetchone()
            if row and row[0]:
                break
            if time.monotonic() > deadline:
                raise CommandError("another migration has held the lock for 5 minutes: look at it")
            time.sleep(0.5)
        cursor.execute("SET lock_timeout = '2s'")
        cursor.execute("SET statement_timeout = 0")  # the login's limit is meant for requests
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [LOCK])


def missing_migrations() -> list[str]:
    """Migrations that this image needs and the database does not have; newer ones do not count."""
    loader = MigrationLoader(connection)
    return _named(set(loader.disk_migrations) - set(loader.applied_migrations))


def newer_migrations() -> list[str]:
    """Migrations of our apps that the database has and this image does not know."""
    loader = MigrationLoader(connection)
    unknown = set(loader.applied_migrations) - set(loader.disk_migrations)
    return _named({key for key in unknown if key[0] in loader.migrated_apps})


def _named(keys: Collection[tuple[str, str]]) -> list[str]:
    return sorted(f"{app}.{name}" for app, name in keys)


def too_old_by() -> str:
    """The version this image would have to be at least, or '' when it may run."""
    try:
        version = SchemaVersion.objects.first()
    except ProgrammingError:
        return ""
    if version is None or _number(settings.APP_VERSION) is None:
        return ""
    needed = _number(version.min_app) or (0,)
    return version.min_app if (_number(settings.APP_VERSION) or (0,)) < needed else ""


def _number(version: str) -> tuple[int, ...] | None:
    match = re.match(r"v?(\d+(?:\.\d+)*)", version)
    return tuple(map(int, match[1].split("."))) if match else None
