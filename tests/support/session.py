"""The servers of one pytest run: started by the first process, shared by the xdist workers."""

from __future__ import annotations

import contextlib
import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

import django
import redis

from devstack import state
from devstack.environment import clean_environment
from devstack.errors import DevstackError
from devstack.paths import ROOT
from devstack.ports import HOST, find_free
from devstack.stack import Stack
from tests.support import database

_RUNS = ROOT / ".devstack" / "pytest"
_STATE = "FS_PYTEST_STATE"


@dataclass(frozen=True, slots=True)
class Lane:
    """What belongs to one xdist worker: its database, its key prefix, its SMTP sink."""

    stack: Stack
    database: str
    prefix: str
    smtp_port: int
    smtp_http_port: int

    @property
    def settings(self) -> dict[str, str]:
        """The app's settings for this lane."""
        return self.stack.settings(
            DATABASE_URL=self.stack.address.dsn(self.database),
            QUEUE_PREFIX=self.prefix,
            CACHE_PREFIX=f"{self.prefix}cache",
            EMAIL_URL=f"smtp://{HOST}:{self.smtp_port}",
        )

    @property
    def sink_url(self) -> str:
        """Where the sink shows its messages."""
        return f"http://{HOST}:{self.smtp_http_port}"

    def env(self, **overrides: str) -> dict[str, str]:
        """A whole environment for a child process of this lane."""
        return self.stack.env(**(self.settings | overrides))

    def clean(self) -> None:
        """Forget committed rows and queued tasks."""
        database.forget_rows(self.stack, self.database)
        for port in self.stack.ports.valkey:
            with redis.Redis(HOST, port) as node:
                for key in node.scan_iter(match=f"*{self.prefix}*", count=1000):
                    node.unlink(key)


def begin() -> Lane:
    """The lane of this process, with its environment set and Django set up for it.

    An xdist worker inherits the name of the state directory from the process that started it.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker:
        stack = Stack.attach(Path(os.environ[_STATE]))
    else:
        stack = _start()
        os.environ[_STATE] = str(stack.state_dir)
    smtp_port, smtp_http_port = find_free(2)
    name = worker or "main"
    lane = Lane(stack, f"test_{name}", f"t_{name}_", smtp_port, smtp_http_port)
    for setting in set(os.environ) - set(clean_environment(os.environ)):
        del os.environ[setting]
    os.environ.pop("OTEL_EXPORTER_OTLP_ENDPOINT", None)
    os.environ.update(lane.settings, DJANGO_SETTINGS_MODULE="app.config.settings")
    django.setup()
    # An xdist worker inherits our environment: pytest-django would load our settings in it.
    del os.environ["DJANGO_SETTINGS_MODULE"]
    return lane


def end(lane: Lane, *, keep_logs: bool) -> None:
    """Stop what this process started; the main process also removes everything but a red run's
    logs.
    """
    lane.stack.stop()
    if lane.stack.postgres is not None:
        state.remove(lane.stack.state_dir, keep=("log",) if keep_logs else ())


def _start() -> Stack:
    """The servers for this run; what older, ended runs left is removed."""
    _RUNS.mkdir(parents=True, exist_ok=True)
    with _RUNS.with_suffix(".lock").open("w") as one_at_a_time:
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        for old in _RUNS.iterdir():
            with contextlib.suppress(DevstackError):  # it is still in use
                state.lock(old)
                state.remove(old)
        directory = _RUNS / str(os.getpid())
        state.lock(directory)
    return Stack.start(directory)
