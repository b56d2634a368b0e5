"""`up`: start everything in order, watch it, and end it in order."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import NoReturn

import psycopg

from devstack import environment, registry, schema, state
from devstack.console import BOLD, DIM, RED, YELLOW, paint, say, step
from devstack.errors import DevstackError
from devstack.paths import ROOT
from devstack.plan import PRODUCTS, QUEUES, Plan, describe
from devstack.ports import HOST
from devstack.postgres import DATABASE
from devstack.process import Process, launch
from devstack.stack import Stack, spawn_app

_RESTARTS = 5
_DRAIN_SECONDS = 10.0
_UNCONFIRMED = """
SELECT count(*) FROM taskqueue_outbox
WHERE confirmed_at IS NULL AND (run_after IS NULL OR run_after <= now())
"""


@dataclass(slots=True)
class Supervisor:
    """One running devstack. It lives until Ctrl-C or SIGTERM."""

    plan: Plan
    stack: Stack | None = None
    settings: dict[str, str] = field(default_factory=dict)
    app: list[Process] = field(default_factory=list)  # serve, run_relay, run_worker
    _restarts: dict[str, int] = field(default_factory=dict)

    def run(self) -> None:
        """Start, say where everything is, watch until told to stop."""
        plan = self.plan
        began = time.monotonic()
        state.lock(plan.state)
        try:
            signal.signal(signal.SIGTERM, _interrupt)
            self._start()
            self._show(time.monotonic() - began)
            while True:
                self._watch()
                time.sleep(0.5)
        except KeyboardInterrupt:
            say()
        finally:
            self._stop()

    def _start(self) -> None:
        plan = self.plan
        say(paint(f"FASHIONISTAR devstack, state in {_short(plan)}", BOLD))
        if left := registry.end_leftovers(plan.state):
            say(f"  ended {left} processes that a killed devstack had left behind")
        plan.require_ports()
        for server in plan.real_servers:
            say(f"  using {server} from the environment")
        with step(plan.parts.names or "no servers of our own"):
            self.stack = Stack.start(plan.state, ports=plan.ports, durable=True, parts=plan.parts)
            self.settings = plan.settings(self.stack)
            environment.write(plan.state / "env", describe(plan, self.settings))
        with step("migrations"):
            self._migrate(self.stack.superuser_dsn() if plan.parts.postgres else "")
        with step(f"API, relay, worker; {PRODUCTS} products"):
            self._start_app()
            self._seed()
            self._wait_for_app()
        registry.write(plan.state, self._processes, ready=True)

    def _migrate(self, own_database: str) -> None:
        if own_database and schema.is_current(own_database, DATABASE):
            return
        self._run_to_end("migrate")
        if own_database:
            schema.remember(own_database, DATABASE)

    def _run_to_end(self, command: str) -> None:
        process = spawn_app(self.plan.state, [command], env=self._env(0), name=command)
        code = process.wait(300)
        if code != 0:
            tail = "\n".join("    " + line for line in process.output.splitlines()[-12:])
            raise DevstackError(
                f"`python -m app {command}` ended with code {code}; "
                f"its log {process.command.log} ends with:\n{tail}"
            )

    def _start_app(self) -> None:
        port = self.plan.metrics_port
        commands = (
            ["serve", "--host", HOST, "--port", str(self.plan.api_port)],
            ["run_relay"],
            ["run_worker", "--queues", QUEUES],
        )
        for number, command in enumerate(commands):
            env = self._env(port + number)
            self.app.append(spawn_app(self.plan.state, command, env=env, name=command[0]))
        registry.write(self.plan.state, self._processes, ready=False)

    def _seed(self) -> None:
        """In the foreground, so that its progress bar is seen."""
        command = [sys.executable, "-m", "app", "seed", "--products", str(PRODUCTS)]
        env = self._env(0) | {"DJANGO_COLORS": "nocolor"}  # it would paint the bar as an error
        seed = subprocess.run(command, env=env, cwd=ROOT, check=False)
        if seed.returncode != 0:
            raise DevstackError(
                f"`python -m app seed` ended with code {seed.returncode}: its output is above; "
                "`make reset` helps when old data is in the way."
            )

    def _wait_for_app(self) -> None:
        serve, relay, worker = self.app
        serve.wait_for("/readyz", 60)
        serve.wait_for("/api/v1/products?limit=1", 30)
        urls = self.plan.metrics_urls
        relay.wait_for(urls["run_relay"], 30)
        worker.wait_for(urls["run_worker"], 30)

    def _env(self, metrics_port: int) -> dict[str, str]:
        known = environment.clean_environment(os.environ)
        return known | self.settings | {"METRICS_PORT": str(metrics_port)}

    @property
    def _processes(self) -> list[Process]:
        servers = self.stack.servers if self.stack is not None else []
        return servers + self.app

    def _watch(self) -> None:
        """Start again what has died, a few times."""
        for number, process in enumerate(self.app):
            if not process.alive:
                self.app[number] = self._restart(process)
        for process in self.stack.servers if self.stack is not None else []:
            if not process.alive:
                raise DevstackError(
                    f"{process.name} ended with code {process.popen.returncode}, so everything "
                    f"stops; see {process.command.log}, then `make up` again."
                )

    def _restart(self, process: Process) -> Process:
        count = self._restarts[process.name] = self._restarts.get(process.name, 0) + 1
        if count > _RESTARTS:
            return process
        code = process.popen.returncode
        end = "; that was the last time" if count == _RESTARTS else ""
        say(paint(f"  {process.name} ended with code {code}: started again{end}", YELLOW))
        replacement = launch(process.command)
        self.app[self.app.index(process)] = replacement
        registry.write(self.plan.state, self._processes, ready=True)
        return replacement

    def _show(self, seconds: float) -> None:
        plan = self.plan
        rows = [("API", f"{plan.api_url}/api/v1/products")]
        rows += [("Metrics", f"{url}  {name}") for name, url in plan.metrics_urls.items()]
        if plan.parts.smtp:
            rows.append(("E-mails", f"http://{HOST}:{plan.ports.smtp_http}/"))
        if plan.parts.postgres:
            rows.append(("PostgreSQL", self.settings["DATABASE_URL"]))
        if plan.parts.valkey:
            rows.append(("Valkey", self.settings["QUEUE_URL"]))
        say(paint(f"Ready in {seconds:.1f} s", BOLD))
        for name, value in rows:
            say(f"  {name:<12}{value}")
        say(f"  {'Try':<12}curl -s '{plan.api_url}/api/v1/products?limit=3'")
        say(f"  {'':<12}make demo, make logs, make status, make down (or Ctrl-C)")

    def _stop(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _die)
        began = time.monotonic()
        if self.app:
            self._drain()
        for process in self.app[1:]:
            if process.alive:
                process.popen.terminate()
        for process in self.app[1:]:
            process.wait(40)
        if self.stack is not None:
            self.stack.stop()
            say(paint(f"Stopped in {time.monotonic() - began:.1f} s", DIM))
        registry.forget(self.plan.state)
        state.unlock(self.plan.state)

    def _drain(self) -> None:
        """No more requests; then give relay and worker the time to empty the outbox."""
        serve, *others = self.app
        serve.stop(30)
        if len(others) < 2 or not all(process.alive for process in others):
            return
        with contextlib.suppress(psycopg.Error):
            left = _wait_for_zero(self._unconfirmed, _DRAIN_SECONDS)
            if left:
                say(paint(f"  {left} outbox rows wait for the next start", RED))

    def _unconfirmed(self) -> int:
        with psycopg.connect(self.settings["DATABASE_URL"], connect_timeout=3) as connection:
            row = connection.execute(_UNCONFIRMED).fetchone()
        return int(row[0]) if row else 0


def _wait_for_zero(count: Callable[[], int], seconds: float) -> int:
    deadline = time.monotonic() + seconds
    while (left := count()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def _short(plan: Plan) -> str:
    path = plan.state
    return f"{path.relative_to(ROOT)}/" if path.is_relative_to(ROOT) else str(path)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _die(number: int, frame: FrameType | None) -> NoReturn:
    """A second Ctrl-C: end now; the kernel ends the children."""
    os._exit(130)
