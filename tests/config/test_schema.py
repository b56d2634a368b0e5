"""Pods start only on a schema that fits; migrations run one at a time, around PgBouncer."""

import subprocess
import sys
import threading
from collections.abc import Iterator

import psycopg
import pytest

from app.config import schema
from tests.support.session import Lane


@pytest.fixture
def empty(lane: Lane) -> Iterator[str]:
    """A database with roles and extensions, without tables."""
    name = f"{lane.database}_schema"
    yield lane.stack.create_database(name)
    lane.stack.drop_database(name)


def run(lane: Lane, dsn: str, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app", *words],
        env=lane.env(DATABASE_URL=dsn, **env),
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def test_the_whole_life_of_a_schema(lane: Lane, empty: str) -> None:
    early = run(lane, empty, "wait_for_schema", "--timeout", "0")
    assert early.returncode == 1
    assert "migrations are missing" in early.stderr
    assert "run `migrate`" in early.stderr

    assert run(lane, empty, "migrate", "-v", "0", APP_VERSION="1.2.0").returncode == 0
    assert run(lane, empty, "wait_for_schema", "--timeout", "0").stdout == "the schema is ready\n"

    with psycopg.connect(empty) as conn:
        rows = conn.execute("SELECT id, min_app, migrated_by FROM schema_version").fetchall()
        assert rows == [(1, "0", "1.2.0")]
        owners = conn.execute(
            "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'"
        ).fetchall()
        assert owners == [("fashionistar",)]  # a role nobody logs in with: rotation changes nothing
        # A newer release was here and has closed the door behind it (contract phase).
        conn.execute("UPDATE schema_version SET min_app = '1.10'")
        conn.execute(
            "INSERT INTO django_migrations (app, name, applied) VALUES ('orders', '9999', now())"
        )

    old = run(lane, empty, "wait_for_schema", "--timeout", "0", APP_VERSION="1.9.9")
    assert old.returncode == 1
    assert "the schema needs version 1.10 or newer of this image" in old.stderr
    new = run(lane, empty, "wait_for_schema", "--timeout", "0", APP_VERSION="v1.10.0-rc1")
    assert new.returncode == 0
    again = run(lane, empty, "migrate", "-v", "0", APP_VERSION="1.9.9")
    assert again.returncode == 0  # Helm re-creates the Job of an old release on rollback
    assert again.stdout == "the schema is newer than this image (orders.9999): nothing to do\n"
    with psycopg.connect(empty) as conn:
        row = conn.execute("SELECT min_app, migrated_by FROM schema_version").fetchone()
        assert row == ("1.10", "1.2.0")


def test_an_unreachable_database_is_named(lane: Lane) -> None:
    done = run(lane, "postgresql://a:b@127.0.0.1:1/x", "wait_for_schema", "--timeout", "0")

    assert done.returncode == 1
    assert "not ready after 0 s" in done.stderr
    assert "Connection refused" in done.stderr


def test_two_migrations_at_once_take_turns(lane: Lane, empty: str) -> None:
    results: list[int] = []
    threads = [
        threading.Thread(target=lambda: results.append(run(lane, empty, "migrate").returncode))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert results == [0, 0]


@pytest.mark.parametrize(
    ("version", "number"),
    [("1.2.3", (1, 2, 3)), ("v2.0", (2, 0)), ("1.10.0-rc1", (1, 10, 0)), ("dev", None), ("", None)],
)
def test_versions_compare_as_numbers(version: str, number: tuple[int, ...] | None) -> None:
    assert schema._number(version) == number
