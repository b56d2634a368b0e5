"""The verbs of `python -m devstack`."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from devstack import demo, disk, environment, registry, state
from devstack.console import DIM, GREEN, RED, paint, say
from devstack.errors import DevstackError
from devstack.logs import follow
from devstack.paths import ROOT
from devstack.plan import Plan
from devstack.process import answers
from devstack.supervisor import Supervisor

_START_SECONDS = 300.0
_STOP_SECONDS = 90.0
_OWN = ("env", "stack.json", "secrets.json", "log", "postgres", "valkey", "status.json", "lock")


def run(arguments: argparse.Namespace) -> int:
    """Do what the command line says; returns the exit code."""
    directory = state.default_directory()
    verbs: dict[str, Callable[[Path], int]] = {
        "up": partial(up, arguments),
        "down": down,
        "reset": reset,
        "logs": lambda state: follow(state / "log", once=arguments.no_follow),
        "status": status,
        "demo": lambda state: demo.run(_environment(state)),
        "env": show_environment,
    }
    return verbs[arguments.verb](directory)


def up(arguments: argparse.Namespace, directory: Path) -> int:
    """Run until Ctrl-C or, with `--detach`, return when everything is ready."""
    disk.require_space(directory)
    if state.is_locked(directory):
        state.lock(directory)  # raises, and says who holds it
    if not arguments.supervise:
        _start_logs_anew(directory)
    if arguments.detach:
        return _up_detached(directory)
    Supervisor(Plan.from_environment(directory)).run()
    return 0


def _up_detached(directory: Path) -> int:
    """Leave a supervisor behind and return when everything is ready."""
    log = directory / "log" / "devstack.log"
    command = [sys.executable, "-m", "devstack", "up", "--supervise"]
    with log.open("wb") as output:
        child = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1", "FS_STATE": str(directory)},
        )
    try:
        _relay_output(log, child, directory)
    except KeyboardInterrupt:
        child.terminate()
        child.wait(_STOP_SECONDS)
        raise
    if child.poll() is not None:
        return 1
    say(f"  It runs in the background (pid {child.pid}).")
    return 0


def down(directory: Path) -> int:
    """Stop the supervisor, or what is left of a killed one."""
    if state.is_locked(directory):
        pid = state.holder(directory)
        if not pid:
            raise DevstackError("The devstack has only just been started: try again.")
        say(f"Stopping the devstack (pid {pid}): requests, then the outbox, then the servers")
        began = time.monotonic()
        _end(directory, pid)
        say(f"Stopped in {time.monotonic() - began:.1f} s.")
    elif left := registry.end_leftovers(directory):
        say(f"Ended {left} processes that a killed devstack had left behind.")
    else:
        say("The devstack does not run.")
    return 0


def reset(directory: Path) -> int:
    """Stop and delete all data; reports and test runs stay."""
    down(directory)
    if directory.is_dir():
        keep = tuple(entry.name for entry in directory.iterdir() if entry.name not in _OWN)
        state.remove(directory, keep=keep)
    say(f"Deleted the state in {directory}.")
    return 0


def status(directory: Path) -> int:
    """Print one line per process; 0 only when all run and the API is ready."""
    known = registry.read(directory)
    if not state.is_locked(directory) or not known.processes:
        say("The devstack does not run: `make up` starts it.")
        return 1
    for entry in known.processes:
        mark = paint("runs ", GREEN) if entry.alive else paint("ended", RED)
        say(f"  {entry.name:<12} {mark} {entry.pid:>8}  {paint(entry.url, DIM)}")
    ready = answers(_environment(directory)["API_URL"] + "/readyz")
    say(
        f"  API {'is ready' if ready else 'is not ready'}; supervisor pid {state.holder(directory)}"
    )
    return 0 if ready and known.ready and all(entry.alive for entry in known.processes) else 1


def show_environment(directory: Path) -> int:
    """Print what `.devstack/env` holds."""
    for name, value in _environment(directory).items():
        say(f"{name}={value}")
    return 0


def _environment(directory: Path) -> dict[str, str]:
    values = environment.read(directory / "env")
    if not values or not state.is_locked(directory):
        raise DevstackError("The devstack does not run: `make up` starts it.")
    return values


def _end(directory: Path, pid: int) -> None:
    """Until the supervisor itself is gone, not only what it ran."""
    born = registry.born(pid)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    while born and registry.born(pid) == born and time.monotonic() < deadline:
        time.sleep(0.05)
    if state.is_locked(directory):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    registry.end_leftovers(directory)


def _start_logs_anew(directory: Path) -> None:
    """Each `up` begins with empty logs."""
    (directory / "log").mkdir(parents=True, exist_ok=True)
    for log in (directory / "log").glob("*.log"):
        log.unlink()


def _relay_output(log: Path, child: subprocess.Popen[bytes], directory: Path) -> None:
    """Copy the supervisor's words to our output until it is ready or has ended."""
    deadline = time.monotonic() + _START_SECONDS
    with log.open("rb") as output:
        done = False
        while not done:
            done = child.poll() is not None or time.monotonic() > deadline
            done = done or (registry.read(directory).ready and b"make demo" in log.read_bytes())
            sys.stdout.buffer.write(output.read())
            sys.stdout.flush()
            time.sleep(0.05)
