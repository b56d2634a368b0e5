"""Whether `migrate` would find nothing to do: it costs seconds, and a warm start has few."""

from __future__ import annotations

import hashlib

import psycopg
from psycopg import sql

from devstack.paths import ROOT

_READ = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s"
_APPLIED = "SELECT count(*), coalesce(max(id), 0) FROM django_migrations"


def is_current(dsn: str, database: str) -> bool:
    """Whether the database was migrated by these very files, and not touched by hand since."""
    with psycopg.connect(dsn) as connection:
        stamp = connection.execute(_READ, [database]).fetchone()
        if stamp is None or stamp[0] is None:
            return False
        return bool(stamp[0] == _stamp(connection))


def remember(dsn: str, database: str) -> None:
    """After a migration: leave a stamp in the database itself, where it goes when the data goes."""
    with psycopg.connect(dsn) as connection:
        text = sql.Literal(_stamp(connection))
        comment = sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(database), text)
        connection.execute(comment)


def _stamp(connection: psycopg.Connection[tuple[object, ...]]) -> str:
    """The code that migrates, and what is applied: a migration undone by hand changes it."""
    digest = hashlib.sha256((ROOT / "requirements" / "app.txt").read_bytes())
    for path in sorted((ROOT / "app").glob("**/migrations/*.py")):
        digest.update(path.read_bytes())
    return f"devstack {digest.hexdigest()[:16]} {connection.execute(_APPLIED).fetchone()}"
