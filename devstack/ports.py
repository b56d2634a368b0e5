"""Free and taken TCP ports on 127.0.0.1."""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path

from devstack.errors import DevstackError

HOST = "127.0.0.1"
# Below the range from which the kernel takes the ports of outgoing connections.
_POOL = range(20000, 32000)


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def find_free(count: int) -> list[int]:
    """`count` different ports on which nobody listens."""
    found: list[int] = []
    for port in random.sample(_POOL, len(_POOL)):
        if is_free(port):
            found.append(port)
        if len(found) == count:
            return found
    raise DevstackError(
        f"Only {len(found)} of {count} ports between 20000 and 32000 are free: stop some servers."
    )


def require_free(port: int, *, use: str, variable: str) -> None:
    """DevstackError that names the port, its present owner and the variable that changes it."""
    if is_free(port):
        return
    owner = _owner(port)
    by = f" by {owner}" if owner else ""
    raise DevstackError(
        f"Port {port} ({use}) is taken{by}: stop that process, or choose another port, "
        f"e.g. `{variable}={port + 50} make up`."
    )


def _owner(port: int) -> str:
    """`name (pid 123)` of the process that listens on `port`, where /proc tells; else an empty
    string.
    """
    inodes = {f"socket:[{inode}]" for table in ("tcp", "tcp6") for inode in _listening(table, port)}
    if not inodes:
        return ""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # ended meanwhile, or somebody else's
            if any(str(entry.readlink()) in inodes for entry in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
    return ""


def _listening(table: str, port: int) -> list[str]:
    try:
        rows = Path("/proc/net", table).read_text().splitlines()[1:]
    except OSError:
        return []
    columns = [row.split() for row in rows]
    listen = "0A"
    return [c[9] for c in columns if c[3] == listen and int(c[1].rsplit(":", 1)[1], 16) == port]
