"""`make bench`: our two hot reads, with full telemetry, against the bare ASGI + psycopg limit.

One server process each on core 0; load and PostgreSQL on core 1. The servers take turns in short
slices (A B C A B C …), and a ratio compares slices of one round: on a shared machine only ratios
of one run mean anything, and differences below 1.2x mean nothing. Printed, not gated.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import traceback
import urllib.parse
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from benchmarks import generator, servers, summary
from devstack import state
from devstack.errors import DevstackError
from devstack.ports import find_free
from devstack.process import Process
from devstack.stack import Stack

BARE = "bare"
PRODUCTION = "ours, traces 0.1"
EVERYTHING = "ours, traces 1.0"
CONNECTIONS = 32
SAMPLE_PATHS = 200


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What is asked for: a file with one path a line."""

    name: str
    paths: list[str]
    file: Path


class BenchError(Exception):
    """The contestants do not do the same work: no number would mean anything."""

    def __init__(self, reason: str, where: str) -> None:
        super().__init__(f"{reason}: {where}")
        self.reason = reason
        self.where = where


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; the exit code."""
    options = _options(argv)
    home = state.default_directory() / "bench" / str(os.getpid())
    state.lock(home)
    try:
        with Stack.start(home) as stack:
            rows, exports = _bench(options, stack, home)
    except (subprocess.SubprocessError, DevstackError, OSError) as error:
        traceback.print_exc()
        return _finish("FAIL", {"reason": type(error).__name__}, [])
    except BenchError as error:
        return _finish("FAIL", {"reason": error.reason, "where": error.where}, [])
    finally:
        state.remove(home)
    print(summary.table(rows))
    values = _values(rows) | {"rounds": options.rounds, "otlp_exports": exports}
    return _finish("ok", values, [row.as_json() for row in rows])


def _options(argv: list[str] | None) -> argparse.Namespace:
    env = os.environ
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=int(env.get("ROUNDS", "5")))
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one slice")
    parser.add_argument("--products", type=int, default=2000)
    return parser.parse_args(argv)


def _bench(options: argparse.Namespace, stack: Stack, home: Path) -> tuple[list[summary.Row], int]:
    pins = servers.Pins.find()
    for command in (["migrate", "--verbosity", "0"], ["seed", "--products", str(options.products)]):
        subprocess.run(
            [sys.executable, "-m", "app", *command], cwd=servers.ROOT, env=stack.env(), check=True,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
    _analyse(stack)
    with ExitStack() as running:
        contestants, sink = _contestants(stack, servers.Launcher(pins, home / "log"), running)
        endpoints = _endpoints(contestants[BARE].url, home)
        _verify(contestants, endpoints)
        load = generator.choose(CONNECTIONS, pins.command(servers.LOAD_CORE))
        slices = _rounds(options, contestants, endpoints, load)
        exports = int(_get_json(f"{sink.url}/counts")["exports"])
    rows = [
        summary.summarise(
            endpoint.name, name, slices[endpoint.name, name], slices[endpoint.name, BARE]
        )
        for endpoint in endpoints
        for name in contestants
    ]
    return rows, exports


def _analyse(stack: Stack) -> None:
    with psycopg.connect(stack.superuser_dsn(), autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")


def _contestants(
    stack: Stack, launcher: servers.Launcher, running: ExitStack
) -> tuple[dict[str, Process], Process]:
    assert stack.postgres is not None
    assert stack.postgres.process is not None
    launcher.pins.move(stack.postgres.process.pid, servers.LOAD_CORE)
    core = servers.SERVER_CORE
    sink = launcher.start("otlp", ["benchmarks.otlp_sink"], servers.LOAD_CORE, os.environ)
    found = {BARE: launcher.start("bare", ["benchmarks.bare"], core, stack.env())}
    for name, ratio in ((PRODUCTION, "0.1"), (EVERYTHING, "1.0")):
        env = stack.env(
            OTEL_HOT_RATIO=ratio,
            METRICS_PORT=str(find_free(1)[0]),
            OTEL_EXPORTER_OTLP_ENDPOINT=sink.url,
        )
        found[name] = launcher.start(f"ours-{ratio}", ["app", "serve"], core, env)
    for process in (sink, *found.values()):
        running.callback(process.stop)
    sink.wait_for("/counts")
    for process in found.values():
        process.wait_for("/api/v1/products?limit=1", 60)
    return found, sink


def _endpoints(base: str, home: Path) -> list[Endpoint]:
    """Paths of many products and pages, so that no single row is hot."""
    pages: list[str] = []
    slugs: list[str] = []
    cursor: str | None = None
    while len(slugs) < SAMPLE_PATHS * 5:
        page = "/api/v1/products?limit=20"
        if cursor:
            page += f"&cursor={urllib.parse.quote(cursor)}"
        data = _get_json(base + page)
        pages.append(page)
        slugs += [item["slug"] for item in data["items"]]
        cursor = data["next"]
        if not cursor:
            break
    step = max(1, len(slugs) // SAMPLE_PATHS)
    details = [f"/api/v1/products/{slug}" for slug in slugs[::step][:SAMPLE_PATHS]]
    found = []
    for name, paths in (("detail", details), ("list", pages)):
        file = home / f"{name}.paths"
        file.write_text("\n".join(paths) + "\n")
        found.append(Endpoint(name, paths, file))
    return found


def _verify(contestants: dict[str, Process], endpoints: list[Endpoint]) -> None:
    """Every contestant answers every path with the same bytes."""
    for path in (path for endpoint in endpoints for path in endpoint.paths):
        bodies = {name: _get(process.url + path) for name, process in contestants.items()}
        for name, body in bodies.items():
            if body != bodies[BARE]:
                _show_difference(name, bodies[BARE], body)
                raise BenchError("different_answers", path)


def _show_difference(name: str, expected: bytes, body: bytes) -> None:
    pairs = enumerate(zip(expected, body, strict=False))
    start = next((at for at, (one, other) in pairs if one != other), len(expected))
    begin = max(0, start - 60)
    for who, text in ((BARE, expected), (name, body)):
        print(f"{who}: …{text[begin : start + 60].decode(errors='replace')}…", file=sys.stderr)


def _rounds(
    options: argparse.Namespace,
    contestants: dict[str, Process],
    endpoints: list[Endpoint],
    load: generator.Generator,
) -> dict[tuple[str, str], list[summary.Slice]]:
    """One warm-up round, then the counted ones; contestants alternate within each endpoint."""
    slices: dict[tuple[str, str], list[summary.Slice]] = {}
    for number in range(options.rounds + 1):
        for endpoint in endpoints:
            for name, process in contestants.items():
                found = _slice(load, process, endpoint, 1.0 if number == 0 else options.seconds)
                if number:
                    slices.setdefault((endpoint.name, name), []).append(found)
        print(f"bench: round {number}/{options.rounds}", file=sys.stderr)
    return slices


def _slice(
    load: generator.Generator, process: Process, endpoint: Endpoint, seconds: float
) -> summary.Slice:
    before = servers.cpu_seconds(process.pid)
    found = load.run(process.url, endpoint.file, seconds)
    spent = servers.cpu_seconds(process.pid) - before
    if found.errors or not found.requests:
        where = f"{process.name}_{endpoint.name}:_{found.errors}_of_{found.requests}"
        raise BenchError("requests_failed", where)
    return summary.Slice(found.rps, spent / found.requests * 1e6, found.p50_ms, found.p99_ms)


def _values(rows: list[summary.Row]) -> dict[str, Any]:
    ratios = {(row.endpoint, row.contestant): row for row in rows}
    values: dict[str, Any] = {}
    for endpoint in ("detail", "list"):
        values[f"{endpoint}_ratio"] = round(ratios[endpoint, PRODUCTION].ratio, 3)
        values[f"{endpoint}_ratio_all_traces"] = round(ratios[endpoint, EVERYTHING].ratio, 3)
        values[f"{endpoint}_cpu_us"] = round(ratios[endpoint, PRODUCTION].cpu_us)
        values[f"{endpoint}_bare_cpu_us"] = round(ratios[endpoint, BARE].cpu_us)
    return values


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:
        body: bytes = answer.read()
    return body


def _get_json(url: str) -> Any:
    return json.loads(_get(url))


def _finish(result: str, values: dict[str, Any], rows: list[dict[str, Any]]) -> int:
    reports = state.default_directory() / "reports"
    reports.mkdir(parents=True, exist_ok=True)
    report = {"result": result, **values, "rows": rows, "load_average": os.getloadavg()}
    (reports / "bench.json").write_text(json.dumps(report, indent=2) + "\n")
    fields = " ".join(f"{key}={value}" for key, value in values.items())
    sys.stderr.flush()
    print(f"RESULT bench {result} {fields}", flush=True)
    return 0 if result == "ok" else 1


if __name__ == "__main__":
    sys.exit(main())
