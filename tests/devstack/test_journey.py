"""`up`, `status`, `demo`, a killed supervisor, `up` again, `down`: as people type it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from devstack import environment, registry, state
from devstack.paths import ROOT
from devstack.ports import find_free
from tests.support.ports import three_free
from tests.support.waiting import wait_until

Devstack = Callable[..., str]
_UNCONFIRMED = "SELECT count(*) FROM taskqueue_outbox WHERE confirmed_at IS NULL"


@pytest.fixture
def devstack(tmp_path: Path) -> Iterator[Devstack]:
    """`devstack("up", "--detach", code=0)` on free ports; returns what it printed."""
    names = ("API_PORT", "POSTGRES_PORT", "SMTP_PORT", "SMTP_HTTP_PORT")
    variables = {n: str(p) for n, p in zip(names, find_free(len(names)), strict=True)}
    variables |= {"VALKEY_PORT": str(three_free(bus=10_000)), "METRICS_PORT": str(three_free())}
    env = environment.clean_environment(os.environ) | variables | {"FS_STATE": str(tmp_path)}

    def run(*words: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "devstack", *words]
        outcome = subprocess.run(
            command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
        )
        assert outcome.returncode == code, outcome.stdout + outcome.stderr
        return outcome.stdout

    yield run
    run("reset")


@pytest.mark.timeout(240)
def test_a_day_with_the_devstack(devstack: Devstack, tmp_path: Path) -> None:
    shown = devstack("up", "--detach")
    settings = environment.read(tmp_path / "env")
    assert f"curl -s '{settings['API_URL']}/api/v1/products?limit=3'" in shown
    for name in ("METRICS_URL", "SMTP_SINK_URL", "DATABASE_URL", "QUEUE_URL"):
        assert settings[name] in shown
    assert devstack("status").count(" runs ") == 8
    _buys(devstack)
    wait_until(lambda: _unconfirmed(settings["DATABASE_URL"]) == 0, what="an empty outbox")

    before = registry.read(tmp_path).processes
    os.kill(state.holder(tmp_path), signal.SIGKILL)
    wait_until(lambda: not any(entry.alive for entry in before), what="all ended with it")
    devstack("status", code=1)
    devstack("up", "--detach")
    _buys(devstack)  # on the data of the first time

    logs = devstack("logs", "--no-follow")
    assert "run_worker |" in logs
    assert "serve |" in logs
    after = registry.read(tmp_path).processes
    devstack("down")
    assert [entry for entry in after if entry.alive] == []


def _buys(devstack: Devstack) -> None:
    assert devstack("demo").splitlines()[-1].startswith("RESULT demo ok order=ord_")


def _unconfirmed(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(_UNCONFIRMED).fetchone()
    return row[0] if row else -1
