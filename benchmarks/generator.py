"""Closed-loop load on one core: `wrk` where it is installed, else a small client in Python."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

LUA = Path(__file__).with_name("paths.lua")


@dataclass(frozen=True, slots=True)
class Load:
    """What one slice did. Latencies are milliseconds at saturation: compare, do not quote."""

    requests: int
    seconds: float
    errors: int
    p50_ms: float
    p99_ms: float

    @property
    def rps(self) -> float:
        """Answers a second."""
        return self.requests / self.seconds


class Wrk:
    """wrk with one thread."""

    name = "wrk"

    def __init__(self, connections: int, prefix: list[str]) -> None:
        self._options = [*prefix, "wrk", "-t1", f"-c{connections}", "-s", str(LUA)]

    def run(self, base: str, paths: Path, seconds: float) -> Load:
        """Ask for the paths (one a line) in turn for so many seconds."""
        command = [*self._options, f"-d{seconds:.0f}s", base, "--", str(paths)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        counts = json.loads(done.stdout.splitlines()[-1])
        return Load(
            requests=counts["requests"],
            seconds=counts["duration_us"] / 1e6,
            errors=counts["errors"],
            p50_ms=counts["p50_us"] / 1e3,
            p99_ms=counts["p99_us"] / 1e3,
        )


class PythonClient:
    """A fallback that is itself slower than the bare application: its ratios flatter us."""

    name = "python"

    def __init__(self, connections: int, prefix: list[str]) -> None:
        self._command = [*prefix, sys.executable, "-m", "benchmarks.generator", str(connections)]

    def run(self, base: str, paths: Path, seconds: float) -> Load:
        """As Wrk.run, in a process of its own."""
        command = [*self._command, base, str(paths), str(seconds)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return Load(**json.loads(done.stdout))


Generator = Wrk | PythonClient


def choose(connections: int, prefix: list[str]) -> Generator:
    """wrk if there is one; `prefix` pins it (`taskset -c 1`)."""
    if shutil.which("wrk"):
        return Wrk(connections, prefix)
    print(
        "bench: wrk IS MISSING (`apt install wrk`). The Python client in its place needs more"
        " time than the bare application: the ratios below are too good to be true.",
        file=sys.stderr,
    )
    return PythonClient(connections, prefix)


async def _connection(
    address: tuple[str, int], requests: list[bytes], until: float, times: list[float]
) -> int:
    reader, writer = await asyncio.open_connection(*address)
    errors = number = 0
    while (begin := time.perf_counter()) < until:
        writer.write(requests[number % len(requests)])
        number += 1
        head = await reader.readuntil(b"\r\n\r\n")
        length = head.lower().split(b"content-length:")[1].split(b"\r\n", 1)[0]
        await reader.readexactly(int(length))
        errors += not head.startswith(b"HTTP/1.1 200")
        times.append(time.perf_counter() - begin)
    writer.close()
    return errors


async def _load(connections: int, base: str, paths: list[str], seconds: float) -> Load:
    parts = urlsplit(base)
    address = (str(parts.hostname), int(parts.port or 80))
    requests = [f"GET {path} HTTP/1.1\r\nHost: {parts.hostname}\r\n\r\n".encode() for path in paths]
    times: list[float] = []
    begin = time.perf_counter()
    turns = (requests[n:] + requests[:n] for n in range(connections))
    errors = await asyncio.gather(
        *(_connection(address, turn, begin + seconds, times) for turn in turns)
    )
    times.sort()
    return Load(
        requests=len(times),
        seconds=time.perf_counter() - begin,
        errors=sum(errors),
        p50_ms=times[len(times) // 2] * 1e3,
        p99_ms=times[len(times) * 99 // 100] * 1e3,
    )


def main() -> None:
    """`python -m benchmarks.generator CONNECTIONS BASE PATHS_FILE SECONDS` prints a Load."""
    connections, base, paths, seconds = sys.argv[1:]
    lines = Path(paths).read_text().split()
    load = asyncio.run(_load(int(connections), base, lines, float(seconds)))
    values = {name: getattr(load, name) for name in load.__slots__}
    print(json.dumps(values))


if __name__ == "__main__":
    main()
