"""Which processes belong to the devstack in a state directory: `status.json`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from devstack.process import Process


@dataclass(frozen=True, slots=True)
class Entry:
    """A process that was started, and enough to know it again: pids are used twice."""

    name: str
    pid: int
    born: str
    url: str

    @property
    def alive(self) -> bool:
        """Whether that very process still runs."""
        return bool(self.born) and born(self.pid) == self.born


@dataclass(frozen=True, slots=True)
class Status:
    """What the supervisor says about itself."""

    ready: bool
    processes: list[Entry]


def write(state: Path, processes: Iterable[Process], *, ready: bool) -> None:
    """Record `processes`."""
    entries = [Entry(p.name, p.pid, born(p.pid), p.url) for p in processes]
    draft = state / "status.draft"
    draft.write_text(json.dumps({"ready": ready, "processes": [asdict(e) for e in entries]}))
    draft.rename(state / "status.json")


def read(state: Path) -> Status:
    """The last record; an empty one when there is none."""
    try:
        data = json.loads((state / "status.json").read_text())
    except FileNotFoundError:
        return Status(ready=False, processes=[])
    return Status(ready=data["ready"], processes=[Entry(**entry) for entry in data["processes"]])


def forget(state: Path) -> None:
    """Nothing runs any more."""
    (state / "status.json").unlink(missing_ok=True)


def end_leftovers(state: Path, timeout: float = 15.0) -> int:
    """End what a killed supervisor left behind; returns how many processes that were."""
    entries = [entry for entry in read(state).processes if entry.alive]
    for entry in entries:
        with contextlib.suppress(ProcessLookupError):
            # For PostgreSQL, SIGTERM would wait for its clients.
            os.kill(entry.pid, signal.SIGINT if entry.name == "postgres" else signal.SIGTERM)
    deadline = time.monotonic() + timeout
    while any(entry.alive for entry in entries):
        if time.monotonic() > deadline:
            _kill(entries)
        time.sleep(0.05)
    forget(state)
    return len(entries)


def born(pid: int) -> str:
    """When process `pid` started, in the words of the system; empty when it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return ""
        command = ["ps", "-o", "lstart=", "-p", str(pid)]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    state, start = fields[0], fields[19]
    return "" if state == "Z" else start


def _kill(entries: Iterable[Entry]) -> None:
    for entry in entries:
        if entry.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(entry.pid, signal.SIGKILL)
