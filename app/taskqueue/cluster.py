"""The cluster for one thread: commands grouped by node, one write and one read per node.

Built on redis-py's connections instead of its cluster client, because `WAIT` counts the writes of
*its* connection, `EVALSHA` is not allowed in that client's pipelines, and a pinned connection must
follow a failover by itself. A script runs on the node that owns its slot or not at all: during a
slot migration (ASK, TRYAGAIN) it is refused and tried again later, as half of the shard's keys
could be missing.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import (
    AskError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as NodeConnectionError
from redis.exceptions import TimeoutError as NodeTimeoutError

from app.taskqueue.connection import Node, QueueAddress
from app.taskqueue.lua import LOAD_ALL, Command, key_of
from app.taskqueue.topology import ClusterUnavailable, QueueUnavailable, Topology, parse_slots

BROKEN = (NodeConnectionError, NodeTimeoutError, OSError)
NOT_NOW = (AskError, TryAgainError, ClusterDownError, MasterDownError, ReadOnlyError)

Confirm = Callable[[Node], Command | None]
PAUSE = 0.5  # seconds for which a node that did not answer is not tried again
_ROUNDS = 3  # the first try, one after a MOVED or a connection that had gone stale, one after that


@dataclass(slots=True)
class Reply:
    """The answer to one command: a value, or the error it ended in."""

    value: Any = None
    error: Exception | None = field(default_factory=lambda: QueueUnavailable("not sent"))
    node: Node | None = None
    confirmation: Any = None  # what `confirm`'s command answered on the same connection

    def result(self) -> Any:
        """The value; raises the error."""
        if self.error is not None:
            raise self.error
        return self.value


def settle(reply: Reply, answer: object, node: Node) -> None:
    """Write a server's answer, or what went wrong, into `reply`."""
    reply.node = node
    if isinstance(answer, (*NOT_NOW, *BROKEN)):
        reply.error = QueueUnavailable(f"{node}: {answer}")
    elif isinstance(answer, Exception):
        reply.error = answer
    else:
        reply.value, reply.error = answer, None


class Lane:
    """One connection to one node; scripts are loaded whenever it connects."""

    def __init__(self, node: Node, connection: Any) -> None:
        self.node = node
        self.fresh = True  # connected for the batch now on its way
        self._connection = connection  # a redis-py Connection, which has no types
        self._preamble = 0

    def send(self, commands: Sequence[Command], *, scripts: bool = True) -> None:
        """Write all commands at once. Raises what `BROKEN` names."""
        self._preamble = 0
        self.fresh = not self._connection.is_connected
        if self.fresh:
            self._connection.connect()
            if scripts:
                self._preamble = len(LOAD_ALL)
                commands = (*LOAD_ALL, *commands)
        self._connection.send_packed_command(self._connection.pack_commands(commands))

    def receive(self, count: int) -> list[Any]:
        """Read `count` answers; error replies are values. Raises what `BROKEN` names."""
        answers = [self._receive_one() for _ in range(self._preamble + count)]
        return answers[self._preamble :]

    def close(self) -> None:
        """Drop the connection; the next `send` makes a new one."""
        with suppress(RedisError, OSError):
            self._connection.disconnect()

    def _receive_one(self) -> Any:
        try:
            return self._connection.read_response()
        except ResponseError as error:
            return error


class Cluster:
    """Not thread-safe: one owner. `timeout` in seconds bounds connecting and each answer.

    Commands may be sent twice (when a connection turns out to be stale), so they are idempotent.
    """

    def __init__(self, address: QueueAddress, *, timeout: float) -> None:
        self._address = address
        self._timeout = timeout
        self._topology: Topology | None = None
        self._lanes: dict[Node, Lane] = {}
        self._away: dict[Node | None, float] = {}  # None: no seed answered

    def run(self, commands: Sequence[Command], *, confirm: Confirm | None = None) -> list[Reply]:
        """Run each command on the node of its key, all nodes at the same time.

        `confirm(node)` may name one more command to run after those of a node. Never raises for a
        node that is down: the replies say what happened.
        """
        replies = [Reply() for _ in commands]
        pending = list(range(len(commands)))
        for _ in range(_ROUNDS):
            pending = self._round(commands, pending, replies, confirm)
            if not pending:
                break
        return replies

    def ask(self, node: Node, *commands: Command) -> list[Any]:
        """Run commands on one node, whatever their keys. Error replies are values.

        Raises QueueUnavailable when the node does not answer.
        """
        lane = self._lane(node)
        try:
            lane.send(commands)
            return lane.receive(len(commands))
        except BROKEN as error:
            self._lost(lane, error)
            raise QueueUnavailable(f"{node}: {error}") from error

    def topology(self) -> Topology:
        """The current owners of the slots. Raises QueueUnavailable."""
        if self._topology is None:
            self._topology = self._discover()
        return self._topology

    def close(self) -> None:
        """Drop all connections."""
        for lane in self._lanes.values():
            lane.close()
        self._lanes.clear()
        self._topology = None

    def _round(
        self,
        commands: Sequence[Command],
        pending: Sequence[int],
        replies: Sequence[Reply],
        confirm: Confirm | None,
    ) -> list[int]:
        """One try of the pending commands; returns those to try again now."""
        groups: dict[Node, list[int]] = {}
        for index in pending:
            try:
                owner = self.topology().owner(key_of(commands[index]))
            except QueueUnavailable as error:
                replies[index].error = error
                continue
            groups.setdefault(owner, []).append(index)
        again: list[int] = []
        flying: list[tuple[Lane, list[int], int]] = []
        for node, indices in groups.items():
            extra = confirm(node) if confirm else None
            batch = [commands[index] for index in indices] + ([extra] if extra else [])
            failure = self._send(self._lane(node), batch)
            if failure is None:
                flying.append((self._lane(node), indices, len(batch)))
            else:
                again += self._settle(self._lane(node), indices, [failure] * len(batch), replies)
        for lane, indices, count in flying:
            again += self._settle(lane, indices, self._receive(lane, count), replies)
        return again

    def _send(self, lane: Lane, batch: Sequence[Command]) -> Exception | None:
        if time.monotonic() < self._away.get(lane.node, 0.0):
            return QueueUnavailable(f"{lane.node} did not answer a moment ago")
        try:
            lane.send(batch)
        except BROKEN as error:
            self._lost(lane, error)
            return error
        return None

    def _receive(self, lane: Lane, count: int) -> list[Any]:
        try:
            return lane.receive(count)
        except BROKEN as error:
            self._lost(lane, error)
            return [error] * count

    def _settle(
        self, lane: Lane, indices: Sequence[int], answers: Sequence[Any], replies: Sequence[Reply]
    ) -> list[int]:
        """Write the answers into the replies; returns the commands to try again now."""
        confirmation = answers[len(indices)] if len(answers) > len(indices) else None
        again = []
        for index, answer in zip(indices, answers, strict=False):
            settle(replies[index], answer, lane.node)
            replies[index].confirmation = confirmation
            if isinstance(answer, NOT_NOW):  # MovedError is an AskError
                self._topology = None
            if isinstance(answer, NoScriptError):  # SCRIPT FLUSH: connecting loads them again
                lane.close()
            stale = isinstance(answer, BROKEN) and lane.node not in self._away
            if stale or isinstance(answer, (MovedError, NoScriptError)):
                again.append(index)
        return again

    def _lane(self, node: Node) -> Lane:
        if node not in self._lanes:
            connection = self._address.connect(node, timeout=self._timeout)
            self._lanes[node] = Lane(node, connection)
        return self._lanes[node]

    def _lost(self, lane: Lane, error: Exception) -> None:
        """A connection that breaks when reused may only be old; else the node is away."""
        lane.close()
        self._topology = None
        if lane.fresh or isinstance(error, NodeTimeoutError):
            self._away[lane.node] = time.monotonic() + PAUSE
        else:
            self._away.pop(lane.node, None)

    def _discover(self) -> Topology:
        if time.monotonic() < self._away.get(None, 0.0):
            raise ClusterUnavailable("no seed of the queue cluster answered a moment ago")
        errors: list[str] = []
        for node in dict.fromkeys((*self._address.seeds, *self._lanes)):
            probe = Lane(node, self._address.connect(node, timeout=self._timeout))
            try:
                probe.send([("CLUSTER", "SLOTS")], scripts=False)
                (answer,) = probe.receive(1)
                return self._adopt(slots_of(answer, node))
            except (*BROKEN, QueueUnavailable) as error:
                errors.append(str(error))
            finally:
                probe.close()
        self._away[None] = time.monotonic() + PAUSE
        raise ClusterUnavailable("no seed of the queue cluster answers: " + "; ".join(errors))

    def _adopt(self, topology: Topology) -> Topology:
        for node in set(self._lanes) - set(topology.primaries):
            self._lanes.pop(node).close()
        return topology


def slots_of(answer: object, node: Node) -> Topology:
    """The topology in an answer to CLUSTER SLOTS. QueueUnavailable, with the fix if known."""
    if isinstance(answer, Exception):
        hint = ""
        if "cluster support disabled" in str(answer):
            hint = " (the queue needs a cluster: start the server with cluster-enabled yes)"
        raise QueueUnavailable(f"{node}: {answer}{hint}")
    if not isinstance(answer, list):
        raise QueueUnavailable(f"{node}: unexpected answer to CLUSTER SLOTS")
    return parse_slots(answer, node)
