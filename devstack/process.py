"""Child processes that never outlive their parent, with a log file each."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from devstack.errors import DevstackError

LEASH = Path(__file__).with_name("leash.py")

# The kernel watches the THREAD that forked. So one thread forks for everybody, and lives as long as
# the process.
_spawner = ThreadPoolExecutor(1, thread_name_prefix="devstack-spawn")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What to run and where its output goes."""

    name: str
    argv: Sequence[str]
    log: Path
    env: Mapping[str, str] | None = None
    cwd: Path | None = None
    account: tuple[int, int] | None = None  # uid, gid to drop to
    death_signal: int = signal.SIGKILL  # sent when this process ends
    url: str = ""  # where it answers HTTP, if it does


@dataclass(slots=True)
class Process:
    """A running child. Made by `launch`."""

    command: Command
    popen: subprocess.Popen[bytes]
    log_start: int
    started: float = field(default_factory=time.monotonic)

    @property
    def name(self) -> str:
        """The name of the log file, without its suffix."""
        return self.command.name

    @property
    def pid(self) -> int:
        """The id of the program itself (not of a wrapper)."""
        return self.popen.pid

    @property
    def url(self) -> str:
        """The base URL it answers on, or an empty string."""
        return self.command.url

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.popen.poll() is None

    @property
    def output(self) -> str:
        """What it has written to its log since it was launched."""
        with self.command.log.open("rb") as log:
            log.seek(self.log_start)
            return log.read().decode(errors="replace")

    def kill9(self) -> None:
        """Kill it without warning and wait until it is gone."""
        if self.alive:
            self.popen.kill()
        self.popen.wait(10)

    def stop(self, timeout: float = 15.0) -> int:
        """Ask it to end (SIGTERM), kill it after `timeout` seconds; return its exit code."""
        if self.alive:
            self.popen.terminate()
        return self.wait(timeout)

    def wait(self, timeout: float) -> int:
        """Wait for its end, kill it after `timeout` seconds; return its exit code (negative: a
        signal).
        """
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            return self.popen.wait(10)

    def wait_for(self, what: str, timeout: float = 30.0) -> None:
        """Wait until the URL `what` answers below 400 or, for any other text, until the log
        contains it.

        A path like `/readyz` is taken relative to the process's own URL.
        """
        if what.startswith("/") and self.url:
            what = self.url + what
        reached = (
            (lambda: answers(what)) if what.startswith("http") else (lambda: what in self.output)
        )
        self.wait_until(reached, f"`{what}`", timeout)

    def wait_until(self, reached: Callable[[], bool], what: str, timeout: float) -> None:
        """Poll `reached` until it is true; DevstackError with the last log lines when it cannot
        be.
        """
        deadline = time.monotonic() + timeout
        while not reached():
            if not self.alive:
                raise DevstackError(
                    self._obituary(f"ended with code {self.popen.returncode}", what)
                )
            if time.monotonic() > deadline:
                raise DevstackError(self._obituary(f"took longer than {timeout:.0f} s", what))
            time.sleep(0.02)

    def _obituary(self, how: str, what: str) -> str:
        tail = "\n".join("    " + line for line in self.output.splitlines()[-12:])
        return f"{self.name} {how} before {what}; its log {self.command.log} ends with:\n{tail}"


def launch(command: Command) -> Process:
    """Start `command` in its own session; it is signalled when this Python process ends, even by
    SIGKILL.
    """
    command.log.parent.mkdir(parents=True, exist_ok=True)
    uid, gid = command.account or (-1, -1)
    leash = [
        sys.executable,
        "-I",
        "-S",
        str(LEASH),
        *(str(n) for n in (os.getpid(), command.death_signal, uid, gid)),
    ]
    with command.log.open("ab") as log:
        start = log.tell()
        popen = _spawner.submit(
            subprocess.Popen,
            [*leash, *command.argv],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=dict(command.env) if command.env is not None else None,
            cwd=command.cwd,
            start_new_session=True,  # Ctrl-C reaches the parent only; it ends the children in order
        ).result()
    return Process(command, popen, start)


def answers(url: str, timeout: float = 2.0) -> bool:
    """Whether `url` gives a response below 400 right now."""
    try:
        with urllib.request.urlopen(url, timeout=timeout):
            return True
    except (urllib.error.URLError, OSError):
        return False
