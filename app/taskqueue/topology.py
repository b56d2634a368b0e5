"""Which node owns a hash slot, and what a write on that node is worth.

Built from `CLUSTER SLOTS` and `CLUSTER NODES`; asked again after every MOVED and every broken
connection, always from the seeds first (pods come back under their names, not their addresses).
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from redis.crc import key_slot

from app.taskqueue.connection import Node


class QueueUnavailable(Exception):
    """The cluster, or the node that owns the shard, does not answer now. Trying again is right."""


class ClusterUnavailable(QueueUnavailable):
    """No node of the cluster answers at all."""


@dataclass(frozen=True, slots=True)
class Topology:
    """The slot ranges of a cluster, sorted by their first slot."""

    starts: tuple[int, ...]
    ends: tuple[int, ...]
    owners: tuple[Node, ...]

    def owner(self, key: str) -> Node:
        """The primary of `key`. QueueUnavailable when no node owns its slot."""
        slot = key_slot(key.encode())
        at = bisect_right(self.starts, slot) - 1
        if at < 0 or slot > self.ends[at]:
            raise QueueUnavailable(f"no node of the cluster owns slot {slot}")
        return self.owners[at]

    @property
    def primaries(self) -> tuple[Node, ...]:
        """All nodes that own slots, each once, in a fixed order."""
        return tuple(sorted(set(self.owners)))


def parse_slots(reply: Sequence[Sequence[Any]], asked: Node) -> Topology:
    """The answer of `CLUSTER SLOTS` given by `asked` (a node that names no host means itself)."""
    ranges = sorted((int(row[0]), int(row[1]), _node(row[2], asked)) for row in reply)
    if not ranges:
        raise QueueUnavailable(f"{asked}: the cluster has no slots assigned yet")
    starts, ends, owners = zip(*ranges, strict=True)
    return Topology(starts, ends, owners)


def _node(entry: Sequence[Any], asked: Node) -> Node:
    host = entry[0].decode() if entry[0] else ""
    return Node(asked.host if host in {"", "?"} else host, int(entry[1]))


class Durability(StrEnum):
    """How the relay may confirm a write on a primary."""

    REPLICA = "replica"  # WAIT 1: the write is on two nodes
    FSYNC = "fsync"  # no replica; the reply comes after the fsync (appendfsync always)
    HOLD = "hold"  # the cluster works with replicas but this primary has none now: not yet
    REPLY = "reply"  # nothing better is configured: a power cut may lose the last second


@dataclass(frozen=True, slots=True)
class Primary:
    """A primary as `CLUSTER NODES` of itself shows it."""

    replicas: int  # known replicas of this primary, reachable or not
    cluster_has_replicas: bool  # some other node is a replica, or owns no slots and may become one


def parse_nodes(reply: bytes) -> Primary:
    """The answer of `CLUSTER NODES`, as seen by the node asked ('myself')."""
    rows = [line.split() for line in reply.decode().splitlines() if line.strip()]
    me = next(row[0] for row in rows if "myself" in row[2].split(","))
    replicas = sum(row[3] == me and "slave" in row[2].split(",") for row in rows)
    others = [row for row in rows if row[0] != me]
    # Just after a failover the old primary still calls itself a master, without slots.
    return Primary(replicas, any("slave" in row[2].split(",") or not row[8:] for row in others))


def durability(primary: Primary, config: dict[str, str] | None) -> Durability:
    """What a reply of this primary is worth; `config` is None where CONFIG is forbidden."""
    if primary.replicas:
        return Durability.REPLICA
    config = config or {}
    if config.get("appendonly") == "yes" and config.get("appendfsync") == "always":
        return Durability.FSYNC
    return Durability.HOLD if primary.cluster_has_replicas else Durability.REPLY


def parse_config(reply: Iterable[bytes]) -> dict[str, str]:
    """The flat answer of `CONFIG GET`."""
    flat = [item.decode() for item in reply]
    return dict(zip(flat[::2], flat[1::2], strict=True))
