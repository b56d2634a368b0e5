"""When a row may leave the outbox: what the answer of each primary is worth (topology.py)."""

import logging
import time

from app.taskqueue.cluster import Cluster, Reply
from app.taskqueue.connection import Node
from app.taskqueue.lua import Command
from app.taskqueue.topology import (
    Durability,
    QueueUnavailable,
    durability,
    parse_config,
    parse_nodes,
)

VALID = 10.0  # seconds after which a node is asked again
WAIT: Command = ("WAIT", 1, 200)  # milliseconds; counts the writes of its own connection

log = logging.getLogger("taskqueue")

_MEANING = {
    Durability.REPLICA: "a row leaves the outbox once a replica has its task",
    Durability.FSYNC: "no replica; a row leaves the outbox once its task is on disk",
    Durability.HOLD: "its replica is gone; rows stay in the outbox until it has one again",
    Durability.REPLY: (
        "NO REPLICA AND NO appendfsync always: a power cut may lose the last second of tasks. "
        "Fix: add a replica, or CONFIG SET appendfsync always"
    ),
}


class Confirmation:
    """Asks the nodes themselves; an answer is believed for ten seconds."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._known: dict[Node, tuple[float, Durability]] = {}

    def announce(self) -> None:
        """Say what each node is worth, loudly where a power cut may lose tasks."""
        try:
            nodes = self._cluster.topology().primaries
        except QueueUnavailable as error:
            log.warning("relay.started while the queue is away: %s", error)
            return
        for node in nodes:
            self._ask(node)

    def command(self, node: Node) -> Command | None:
        """What to send after the writes to `node` so that its answer can confirm them."""
        return WAIT if self._of(node) is Durability.REPLICA else None

    def holds(self, reply: Reply) -> bool:
        """Whether a written task survives the loss of one node, or all was done that can be."""
        if reply.node is None or reply.node not in self._known:
            return False
        worth = self._known[reply.node][1]
        if worth is Durability.REPLICA:
            return isinstance(reply.confirmation, int) and reply.confirmation >= 1
        return worth is not Durability.HOLD

    def _of(self, node: Node) -> Durability:
        asked_at, worth = self._known.get(node, (0.0, Durability.HOLD))
        if time.monotonic() - asked_at < VALID:
            return worth
        return self._ask(node)

    def _ask(self, node: Node) -> Durability:
        before = self._known.pop(node, (0.0, None))[1]
        try:
            nodes, config = self._cluster.ask(
                node, ("CLUSTER", "NODES"), ("CONFIG", "GET", "append*")
            )
            worth = durability(
                parse_nodes(nodes), parse_config(config) if isinstance(config, list) else None
            )
        except (QueueUnavailable, TypeError, AttributeError, StopIteration):
            return Durability.HOLD  # asked again with the next batch
        self._known[node] = (time.monotonic(), worth)
        if worth is not before:
            level = logging.INFO
            if worth in {Durability.HOLD, Durability.REPLY}:
                level = logging.WARNING
            log.log(level, "relay.node node=%s confirm=%s: %s", node, worth, _MEANING[worth])
        return worth
