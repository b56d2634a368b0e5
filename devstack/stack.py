"""All servers of one devstack as one object, for `make up`, tests, proofs and benchmarks."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from devstack import disk
from devstack.environment import clean_environment
from devstack.errors import DevstackError
from devstack.paths import ROOT
from devstack.ports import HOST, find_free
from devstack.postgres import SUPERUSER, Address, Passwords, Postgres
from devstack.process import Command, Process, launch
from devstack.valkey import PRIMARIES, Node, ValkeyCluster, seeds

_ATTEMPTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Where the servers of one stack listen, all on 127.0.0.1."""

    postgres: int
    valkey: tuple[int, ...]
    valkey_bus: tuple[int, ...]
    smtp: int
    smtp_http: int

    @classmethod
    def free(cls) -> Ports:
        """Ports that nobody uses at the moment."""
        found = find_free(3 + 2 * PRIMARIES)
        return cls(
            postgres=found[0],
            smtp=found[1],
            smtp_http=found[2],
            valkey=tuple(found[3 : 3 + PRIMARIES]),
            valkey_bus=tuple(found[3 + PRIMARIES :]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """Made once per state directory."""

    superuser: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    app_a: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    app_b: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    secret_key: str = field(default_factory=lambda: secrets.token_urlsafe(40))


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Which servers to start; the others are somebody else's."""

    postgres: bool = True
    valkey: bool = True
    smtp: bool = True

    @property
    def names(self) -> str:
        """For people: which ones these are."""
        known = {"PostgreSQL": self.postgres, "Valkey Cluster": self.valkey, "SMTP sink": self.smtp}
        return ", ".join(name for name, wanted in known.items() if wanted)


@dataclass(slots=True, kw_only=True)
class Stack:
    """Running servers. `Stack.start` makes one, `Stack.attach` finds that of another process."""

    state_dir: Path
    ports: Ports
    secrets: Secrets
    postgres: Postgres | None = None
    valkey: ValkeyCluster | None = None
    sink: Process | None = None
    children: list[Process] = field(default_factory=list)

    @classmethod
    def start(
        cls,
        state_dir: Path,
        *,
        ports: Ports | None = None,
        durable: bool = False,
        parts: Parts | None = None,
    ) -> Stack:
        """Start the servers and wait until they work, with roles and the database `fashionistar`
        in place.

        Without `ports`, free ones are taken. `durable` survives a power cut, not only kills. The
        servers end with `stop()`, and with this process in any case.
        """
        disk.require_space(state_dir)
        state_dir = state_dir.resolve()
        (state_dir / "log").mkdir(parents=True, exist_ok=True)
        for last in range(1 - _ATTEMPTS, 1):
            stack = cls(
                state_dir=state_dir, ports=ports or Ports.free(), secrets=_secrets(state_dir)
            )
            try:
                stack._launch(durable=durable, parts=parts or Parts())
            except DevstackError:
                stack.stop()
                # A free port may be taken by somebody else before we use it: try others.
                if ports is not None or last == 0:
                    raise
            else:
                stack._describe()
                return stack
        raise AssertionError("unreachable")

    @classmethod
    def attach(cls, state_dir: Path) -> Stack:
        """The stack that another process started in `state_dir`; `stop()` ends only what is
        spawned here.
        """
        path = state_dir / "stack.json"
        if not path.exists():
            raise DevstackError(f"No devstack runs in {state_dir}: `make up` starts one.")
        data: dict[str, Any] = json.loads(path.read_text())
        lists = {name: tuple(value) for name, value in data.items() if isinstance(value, list)}
        ports = Ports(**(data | lists))
        return cls(state_dir=state_dir.resolve(), ports=ports, secrets=_secrets(state_dir))

    @property
    def address(self) -> Address:
        """PostgreSQL's address, with passwords."""
        s = self.secrets
        return Address(
            self.ports.postgres, Passwords(superuser=s.superuser, app_a=s.app_a, app_b=s.app_b)
        )

    @property
    def queue_url(self) -> str:
        """The seeds of the Valkey Cluster."""
        return seeds(self.ports.valkey)

    @property
    def email_url(self) -> str:
        """The SMTP sink as a mail server."""
        return f"smtp://{HOST}:{self.ports.smtp}"

    @property
    def sink_url(self) -> str:
        """The SMTP sink's HTTP side."""
        return f"http://{HOST}:{self.ports.smtp_http}"

    @property
    def servers(self) -> list[Process]:
        """The server processes that this object started."""
        postgres = self.postgres.process if self.postgres is not None else None
        cluster = self.valkey.processes if self.valkey is not None else []
        return [process for process in (postgres, *cluster, self.sink) if process is not None]

    def superuser_dsn(self, database: str = "fashionistar") -> str:
        """For tests that look behind the app or prepare what it may not."""
        return self.address.dsn(database, user=SUPERUSER)

    def create_database(self, name: str, *, template: str | None = None) -> str:
        """Another database with roles and extensions (a copy of `template` if given); returns the
        DSN of app_a.
        """
        return self.address.create_database(name, template=template)

    def drop_database(self, name: str) -> None:
        """Remove a database, whoever is connected to it."""
        self.address.drop_database(name)

    def settings(self, **overrides: str) -> dict[str, str]:
        """All settings of the app for this stack, and nothing else."""
        database = self.address.dsn()
        return {
            "SECRET_KEY": self.secrets.secret_key,
            "DATABASE_URL": database,
            "QUEUE_URL": self.queue_url,
            "CACHE_URL": self.queue_url,  # one cluster, two prefixes
            "RATE_LIMIT_CHECKOUT": "0",  # proofs and load tests come from one address
            "EMAIL_URL": self.email_url,
            "ALLOWED_HOSTS": "127.0.0.1,localhost,testserver",
            "PUBLIC_BASE_URL": "http://127.0.0.1:8000",
            "METRICS_PORT": "0",
        } | overrides

    def env(self, **overrides: str) -> dict[str, str]:
        """A whole environment for a child process: ours without any setting of the app, plus
        `settings()`.
        """
        return clean_environment(os.environ) | self.settings(**overrides)

    def spawn(
        self, command: Sequence[str], *, env: Mapping[str, str] | None = None, name: str = ""
    ) -> Process:
        """Start `python -m app <command>`; `--port 0` becomes a free port. Logs to
        `log/<name>.log`.
        """
        process = spawn_app(
            self.state_dir, command, env=env or self.env(), name=name or self._next_name(command[0])
        )
        self.children.append(process)
        return process

    def stop(self) -> None:
        """End all that this object started: the app's processes first, then the servers."""
        for child in reversed(self.children):
            child.stop()
        self.children.clear()
        if self.sink is not None:
            self.sink.stop()
        if self.valkey is not None:
            self.valkey.stop()
        if self.postgres is not None:
            self.postgres.stop()
            (self.state_dir / "stack.json").unlink(missing_ok=True)

    def __enter__(self) -> Stack:
        """For `with Stack.start(…) as stack`."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop."""
        self.stop()

    def _next_name(self, base: str) -> str:
        taken = {child.name for child in self.children}
        names = (base if number == 1 else f"{base}-{number}" for number in range(1, len(taken) + 2))
        return next(name for name in names if name not in taken)

    def _launch(self, *, durable: bool, parts: Parts) -> None:
        # All at once: each of them spends most of its start waiting.
        if parts.postgres:
            self.postgres = Postgres(self.state_dir, self.address, durable=durable)
        if parts.valkey:
            nodes = [
                Node(port, bus)
                for port, bus in zip(self.ports.valkey, self.ports.valkey_bus, strict=True)
            ]
            self.valkey = ValkeyCluster(self.state_dir, nodes)
            self.valkey.launch()
        if parts.smtp:
            self.sink = launch_sink(self.state_dir, self.ports.smtp, self.ports.smtp_http)
        if self.postgres:
            self.postgres.launch()
            self.postgres.wait_ready()
        if self.valkey:
            self.valkey.wait_ready()
        if self.sink:
            self.sink.wait_for("/healthz")

    def _describe(self) -> None:
        (self.state_dir / "stack.json").write_text(json.dumps(asdict(self.ports)))


def launch_sink(state_dir: Path, port: int, http_port: int, *, name: str = "smtp") -> Process:
    """Start one SMTP sink; it is ready when `/healthz` answers."""
    argv = [sys.executable, "-m", "fakes.smtp", "--port", str(port), "--http-port", str(http_port)]
    url = f"http://{HOST}:{http_port}"
    return launch(
        Command(name=name, argv=argv, log=state_dir / "log" / f"{name}.log", cwd=ROOT, url=url)
    )


def spawn_app(
    state_dir: Path, command: Sequence[str], *, env: Mapping[str, str], name: str
) -> Process:
    """Start `python -m app <command>` with exactly the environment `env`."""
    words = list(command)
    url = ""
    if "--port" in words:
        at = words.index("--port") + 1
        words[at] = words[at] if words[at] != "0" else str(find_free(1)[0])
        url = f"http://{HOST}:{words[at]}"
    argv = [sys.executable, "-m", "app", *words]
    return launch(
        Command(
            name=name, argv=argv, log=state_dir / "log" / f"{name}.log", env=env, cwd=ROOT, url=url
        )
    )


def _secrets(state_dir: Path) -> Secrets:
    """Those of this state directory, made on first use and readable by us only."""
    path = state_dir / "secrets.json"
    with contextlib.suppress(FileNotFoundError):
        known: dict[str, Any] = json.loads(path.read_text())
        return Secrets(**known)
    made = Secrets()
    draft = path.with_suffix(".draft")
    draft.touch(mode=0o600)
    draft.write_text(json.dumps(asdict(made)))
    draft.rename(path)
    return made
