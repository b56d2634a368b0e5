"""What goes wrong before anything runs: one sentence, with the fix."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack import state
from devstack.__main__ import main
from devstack.environment import clean_environment, given_settings
from devstack.paths import ROOT
from devstack.plan import Plan
from devstack.ports import HOST, find_free
from devstack.stack import Ports, Secrets, Stack
from tests.support.ports import three_free

SINGLE_PORTS = ("API_PORT", "POSTGRES_PORT", "SMTP_PORT", "SMTP_HTTP_PORT")


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen()
        yield listener.getsockname()[1]


def _devstack(directory: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    env = clean_environment(os.environ) | {"FS_STATE": str(directory)} | variables
    return subprocess.run(
        [sys.executable, "-m", "devstack", *words],
        env=env, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def _ports(**overrides: int) -> dict[str, str]:
    free = dict(zip(SINGLE_PORTS, find_free(len(SINGLE_PORTS)), strict=True))
    free |= {"METRICS_PORT": three_free(), "VALKEY_PORT": three_free(bus=10_000)}
    return {name: str(port) for name, port in (free | overrides).items()}


def _sentence(outcome: subprocess.CompletedProcess[str]) -> str:
    """The only line on stderr."""
    assert outcome.returncode == 1
    [line] = outcome.stderr.splitlines()
    return line


@pytest.mark.parametrize("variable", ["API_PORT", "POSTGRES_PORT", "SMTP_HTTP_PORT"])
def test_a_taken_port_is_named_with_its_owner_and_its_variable(
    tmp_path: Path, taken: int, variable: str
) -> None:
    line = _sentence(_devstack(tmp_path, "up", **_ports(**{variable: taken})))
    assert f"Port {taken} (" in line
    assert f"(pid {os.getpid()})" in line
    assert f"`{variable}={taken + 50} make up`" in line
    assert not (tmp_path / "postgres").exists()


def test_a_port_that_is_none_is_refused(tmp_path: Path) -> None:
    line = _sentence(_devstack(tmp_path, "up", API_PORT="80800"))
    assert line == (
        "devstack: API_PORT=80800 is no port: take a number from 1 to 65535, e.g. 8000."
    )


@pytest.mark.parametrize("words", [("up",), ("up", "--detach")])
def test_a_full_disk_is_noticed_before_anything_is_written(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    directory = tmp_path / "state"
    line = _sentence(_devstack(directory, *words, FS_MIN_FREE_MB="999000000"))
    assert "MB are free under" in line
    assert "999000000 MB are needed: delete something, or set FS_STATE" in line
    assert not directory.exists()


@pytest.mark.parametrize("words", [("up",), ("up", "--detach")])
def test_a_second_up_says_that_one_is_running(tmp_path: Path, words: tuple[str, ...]) -> None:
    state.lock(tmp_path)
    line = _sentence(_devstack(tmp_path, *words))
    assert f"already running (pid {os.getpid()})" in line
    assert "`make down` stops it" in line
    state.unlock(tmp_path)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory for verbs that run inside this process."""
    monkeypatch.setenv("FS_STATE", str(tmp_path))
    return tmp_path


def test_a_lock_file_left_behind_by_a_dead_process_does_not_count(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "lock").write_text("1")  # the pid of a living process, but it holds no lock
    assert not state.is_locked(here)
    assert main(["down"]) == 0
    assert capsys.readouterr().out == "The devstack does not run.\n"


@pytest.mark.parametrize("verb", ["demo", "env"])
@pytest.mark.usefixtures("here")
def test_verbs_that_need_a_running_devstack_say_so(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([verb]) == 1
    sentence = "devstack: The devstack does not run: `make up` starts it.\n"
    assert capsys.readouterr().err == sentence


@pytest.mark.usefixtures("here")
def test_status_of_nothing_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == 1
    assert "`make up` starts it" in capsys.readouterr().out


def test_reset_of_nothing_is_fine_and_spares_what_is_not_its_own(here: Path) -> None:
    (here / "reports").mkdir()
    (here / "valkey").mkdir()
    assert main(["reset"]) == 0
    assert [entry.name for entry in here.iterdir()] == ["reports"]


def test_details_of_a_server_count_only_with_its_url() -> None:
    details = {"DATABASE_PASSWORD": "x", "QUEUE_CA_FILE": "/ca", "QUEUE_PREFIX": "p"}
    assert given_settings(details | {"HOME": "/h"}) == {"QUEUE_PREFIX": "p"}
    real = details | {"DATABASE_URL": "postgresql://db/x", "QUEUE_URL": "valkey://q:1"}
    assert given_settings(real) == real


def test_the_cache_lives_beside_a_queue_that_is_given(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("METRICS_PORT", "CACHE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("QUEUE_URL", "valkey://q:1")
    monkeypatch.setenv("QUEUE_PASSWORD", "x")
    plan = Plan.from_environment(here)
    stack = Stack(state_dir=here, ports=Ports.free(), secrets=Secrets())
    settings = plan.settings(stack)
    assert (settings["CACHE_URL"], settings["CACHE_PASSWORD"]) == ("valkey://q:1", "x")
    monkeypatch.setenv("CACHE_URL", "valkey://c:1")
    settings = Plan.from_environment(here).settings(stack)
    assert settings["CACHE_URL"] == "valkey://c:1"
    assert "CACHE_PASSWORD" not in settings


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A checkout with nothing installed."""
    (tmp_path / "devstack").mkdir()
    shutil.copy(ROOT / "devstack" / "bootstrap.sh", tmp_path / "devstack")
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "dev.txt").touch()
    (tmp_path / ".python-version").write_text("3.13\n")
    return tmp_path


def _bootstrap(checkout: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "devstack/bootstrap.sh"],
        env=os.environ | variables, cwd=checkout,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_no_python_that_uv_can_find_or_fetch(bare: Path) -> None:
    (bare / ".python-version").write_text("3.99\n")
    (bare / ".tools").mkdir()
    (bare / ".tools" / "venv").symlink_to(ROOT / ".tools" / "venv")
    line = _sentence(_bootstrap(bare))
    assert line.startswith("setup: Python 3.99 is not installed and uv could not fetch it: ")
    assert "apt install python3.99-venv" in line


def test_no_uv_and_no_network(bare: Path) -> None:
    line = _sentence(_bootstrap(bare, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(bare)))
    assert "uv could not be installed (ERROR: No matching distribution" in line
    assert "PIP_INDEX_URL" in line
