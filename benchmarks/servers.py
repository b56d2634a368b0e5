"""Starts the contestants and keeps each on its core: servers on 0, load and PostgreSQL on 1."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from devstack.ports import HOST, find_free
from devstack.process import Command, Process, launch

ROOT = Path(__file__).resolve().parent.parent
SERVER_CORE = 0
LOAD_CORE = 1
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Pins:
    """Whether this machine can keep processes apart."""

    possible: bool

    @classmethod
    def find(cls) -> Pins:
        """Two cores and `taskset` are needed; where they are missing, say so."""
        found = bool(shutil.which("taskset")) and (os.cpu_count() or 1) > LOAD_CORE
        if not found:
            print("bench: NOTHING IS PINNED (needs taskset and two cores)", file=sys.stderr)
        return cls(found)

    def command(self, core: int) -> list[str]:
        """What to put before a command, so that it stays on `core`."""
        return [str(shutil.which("taskset")), "-c", str(core)] if self.possible else []

    def move(self, pid: int, core: int) -> None:
        """Keep a running process, and what it starts from now on, on `core`."""
        if self.possible:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            for each in (pid, *map(int, children)):
                os.sched_setaffinity(each, {core})


@dataclass(frozen=True, slots=True)
class Launcher:
    """Starts programs of this repository, pinned, with their logs beside the stack's."""

    pins: Pins
    logs: Path

    def start(self, name: str, module: list[str], core: int, env: Mapping[str, str]) -> Process:
        """Start `python -m <module…> --port <free>` on `core`."""
        port = str(find_free(1)[0])
        argv = [*self.pins.command(core), sys.executable, "-m", *module, "--port", port]
        url = f"http://{HOST}:{port}"
        log = self.logs / f"{name}.log"
        return launch(Command(name=name, argv=argv, log=log, env=env, cwd=ROOT, url=url))


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
