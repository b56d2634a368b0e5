"""One migrated template, one copy per xdist worker, and clean-up after tests that commit."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import psycopg
from psycopg import sql

from devstack.stack import Stack

TEMPLATE = "template"


def copy_of_template(stack: Stack, name: str) -> str:
    """Create database `name` with all migrations applied; return its DSN. Safe from several
    processes at once.
    """
    with (stack.state_dir / "template.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _marker(stack).exists():
            _migrate(stack)
        return stack.create_database(name, template=TEMPLATE)


def forget_rows(stack: Stack, name: str) -> None:
    """Empty all tables that the migrations left empty. As superuser without triggers: ledgers are
    append-only.
    """
    tables: list[str] = json.loads(_marker(stack).read_text())
    deletes = sql.SQL("; ").join(
        sql.SQL("DELETE FROM {}").format(sql.Identifier(t)) for t in tables
    )
    with psycopg.connect(
        stack.superuser_dsn(name), options="-c session_replication_role=replica"
    ) as connection:
        connection.execute(deletes)


def _migrate(stack: Stack) -> None:
    dsn = stack.create_database(TEMPLATE)
    process = stack.spawn(["migrate"], env=stack.env(DATABASE_URL=dsn), name="migrate-template")
    if process.wait(120) != 0:
        raise RuntimeError(f"migrate failed:\n{process.output[-4000:]}")
    with psycopg.connect(stack.superuser_dsn(TEMPLATE)) as connection:
        tables = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        ).fetchall()
        empty = [table for (table,) in tables if _is_empty(connection, table)]
    _marker(stack).write_text(json.dumps(empty))


def _is_empty(connection: psycopg.Connection[tuple[str]], table: str) -> bool:
    query = sql.SQL("SELECT FROM {} LIMIT 1").format(sql.Identifier(table))
    return connection.execute(query).fetchone() is None


def _marker(stack: Stack) -> Path:
    return stack.state_dir / "template.json"
