"""The cache cluster for requests: an answer within 50 ms, or none.

Each event loop has one client with one connection per node, which all callers of that loop share:
what they ask at the same moment goes out as one write. Resolving names, connecting and TLS happen
in tasks of their own, so a caller's wait is bounded whatever hangs. A node that did not answer is
left alone for half a second, then one caller tries it again; everybody else is told at once.

Threads use the client of one background loop of this process. The queue has a client of its own
(`app.taskqueue`), because a task must not be lost and may wait; here it is the other way round.
"""

import asyncio
import math
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from contextvars import Context
from typing import Any

import structlog
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from app.taskqueue.connection import Node, QueueAddress
from app.taskqueue.lua import Command
from app.taskqueue.topology import QueueUnavailable, Topology, parse_slots

WITHIN = 0.05
"""Seconds that a caller waits at most, connecting included."""
PAUSE = 0.5
"""Seconds for which a node that did not answer is not asked."""
STAGGER = 0.01
"""Seconds after which another node is asked for the owners of the slots, too."""
LATE = 0.01
"""Seconds by which a loop wakes up too late when it, not the cluster, is slow."""
PATIENCE = 1.0
"""Seconds after which a connection without an answer is dropped (nobody waits for it any more)."""

_BROKEN = (RedisError, OSError)
_STALE_TOPOLOGY = (MovedError, ClusterDownError, MasterDownError, ReadOnlyError)

log = structlog.get_logger()


class Failure(Exception):
    """Why there is no answer. `result`: `timeout`, `skipped` (the node failed a moment ago) or
    `error`."""

    def __init__(self, result: str, reason: str) -> None:
        super().__init__(reason)
        self.result = result


class Breaker:
    """Lets everybody through while all is well, and one caller per PAUSE while it is not."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._failing = False
        self._closed_until = 0.0

    def permits(self) -> bool:
        """Whether the caller may try now."""
        if not self._failing:
            return True
        now = time.monotonic()
        if now < self._closed_until:
            return False
        self._closed_until = now + PAUSE
        return True

    def failed(self, reason: object) -> None:
        """A try failed."""
        if not self._failing:
            log.warning("cache.unavailable", node=self._name, reason=str(reason))
        self._failing = True
        self._closed_until = time.monotonic() + PAUSE

    def worked(self) -> None:
        """A try worked."""
        if self._failing:
            log.info("cache.available", node=self._name)
        self._failing = False


class Channel:
    """One connection to one node; what waits while a batch is under way is the next batch."""

    def __init__(self, node: Node, connection: Any) -> None:
        self.node = node
        self.breaker = Breaker(str(node))
        self._connection = connection  # a redis-py connection, which has no types
        self._waiting: list[tuple[Sequence[Command], asyncio.Future[list[Any]]]] = []
        self._pump: asyncio.Task[None] | None = None

    def submit(self, commands: Sequence[Command]) -> "asyncio.Future[list[Any]]":
        """The answers; server errors and `Failure` are values."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[Any]] = loop.create_future()
        self._waiting.append((commands, future))
        if self._pump is None:
            # Not in the caller's context: this work is everybody's, and outlives the caller.
            self._pump = loop.create_task(self._drain(), context=Context())
        return future

    async def converse(self, commands: Sequence[Command]) -> list[Any]:
        """Send all, read all, alone on the connection. Raises what `_BROKEN` names.

        A connection that turns out to be closed by the other side is replaced once.
        """
        fresh = not self._connection.is_connected
        try:
            async with asyncio.timeout(PATIENCE):
                if fresh:
                    await self._connection.connect()
                packed = self._connection.pack_commands(commands)
                await self._connection.send_packed_command(packed, check_health=False)
                return [await self._receive() for _ in commands]
        except BaseException as error:
            await self._disconnect()
            if fresh or isinstance(error, TimeoutError) or not isinstance(error, _BROKEN):
                raise
        return await self.converse(commands)

    async def close(self) -> None:
        """Drop the connection; whoever waits gets a Failure."""
        pump = self._pump
        if pump is not None:
            pump.cancel()
            with suppress(asyncio.CancelledError):
                await pump
        await self._disconnect()

    async def _disconnect(self) -> None:
        with suppress(*_BROKEN):
            await self._connection.disconnect(nowait=True)

    async def _receive(self) -> Any:
        try:
            return await self._connection.read_response(timeout=math.inf)  # PATIENCE bounds it
        except ResponseError as error:
            return error

    async def _drain(self) -> None:
        batch: list[tuple[Sequence[Command], asyncio.Future[list[Any]]]] = []
        try:
            while self._waiting:
                # Who gave up meanwhile does not want a late write either.
                batch = [item for item in self._waiting if not item[1].done()]
                self._waiting = []
                await self._exchange(batch)
        finally:
            self._pump = None
            for commands, future in (*batch, *self._waiting):
                if not future.done():
                    lost = Failure("error", f"{self.node}: the connection was closed")
                    future.set_result([lost] * len(commands))
            self._waiting = []

    async def _exchange(
        self, batch: Sequence[tuple[Sequence[Command], "asyncio.Future[list[Any]]"]]
    ) -> None:
        flat = [command for commands, _ in batch for command in commands]
        if not flat:
            return
        try:
            answers = await self.converse(flat)
        except _BROKEN as error:
            answers = [Failure("error", f"{self.node}: {error}")] * len(flat)
        at = 0
        for commands, future in batch:
            if not future.done():
                future.set_result(answers[at : at + len(commands)])
            at += len(commands)


type _Groups = dict[Node, list[int]]
_ASKING: Command = ("ASKING",)


class Client:
    """The cluster for one event loop."""

    def __init__(self, address: QueueAddress) -> None:
        self._address = address
        self._topology: Topology | None = None
        self._channels: dict[Node, Channel] = {}
        self._seeds = Breaker("seeds")
        self._discovery: asyncio.Task[None] | None = None

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        """For each command its value, a server's error or a Failure, after WITHIN seconds at the
        latest. Nodes are asked at the same time; a node that fails costs its own keys only."""
        deadline = time.monotonic() + WITHIN
        topology = await self._topology_by(deadline)
        answers: list[Any] = [Failure("skipped", "the cluster is away")] * len(commands)
        if topology is None:
            return answers
        groups: _Groups = {}
        for index, command in enumerate(commands):
            try:
                groups.setdefault(topology.owner(_key(command)), []).append(index)
            except QueueUnavailable as error:
                answers[index] = Failure("error", str(error))
                self._refresh()
        await self._round(commands, groups, answers, deadline)
        moved = _redirected(answers, MovedError)
        asked = _redirected(answers, AskError)
        if moved:
            await self._round(commands, moved, answers, deadline)
        if asked:
            await self._round(commands, asked, answers, deadline, before=(_ASKING,))
        return answers

    async def on_each_primary(self, *command: str | int) -> dict[Node, Any]:
        """One command on every primary, each within PATIENCE."""
        await asyncio.wait({self._refresh()}, timeout=PATIENCE)
        nodes = self._topology.primaries if self._topology else ()
        return {node: (await self.on_node(node, [command]))[0] for node in nodes}

    async def on_node(self, node: Node, commands: Sequence[Command]) -> list[Any]:
        """Commands on one node whatever their keys, within PATIENCE."""
        flight = self._channel(node).submit(commands)
        done, _ = await asyncio.wait({flight}, timeout=PATIENCE)
        if done:
            return flight.result()
        flight.cancel()
        return [Failure("timeout", f"{node} did not answer")] * len(commands)

    async def warm(self) -> None:
        """Learn the topology and connect, ahead of the first caller."""
        await self.on_each_primary("PING")

    async def close(self) -> None:
        """Drop all connections."""
        if self._discovery is not None:
            self._discovery.cancel()
            with suppress(asyncio.CancelledError):
                await self._discovery
        for channel in self._channels.values():
            await channel.close()
        self._channels.clear()
        self._topology = None

    async def _round(
        self,
        commands: Sequence[Command],
        groups: _Groups,
        answers: list[Any],
        deadline: float,
        *,
        before: tuple[Command, ...] = (),
    ) -> None:
        """Ask all nodes at once and write what they said until `deadline` into `answers`."""
        flights: dict[asyncio.Future[list[Any]], tuple[Channel, list[int]]] = {}
        for node, indices in groups.items():
            channel = self._channel(node)
            if channel.breaker.permits():
                batch = [part for index in indices for part in (*before, commands[index])]
                flights[channel.submit(batch)] = channel, indices
            else:
                _settle(answers, indices, Failure("skipped", f"{node} failed a moment ago"))
        if flights:
            await _wait_for(flights, deadline)
        for flight, (channel, indices) in flights.items():
            if flight.done():
                values = flight.result()[len(before) :: len(before) + 1]
                for index, value in zip(indices, values, strict=True):
                    answers[index] = value
                self._learn(channel, values)
            else:
                flight.cancel()
                failure = Failure("timeout", f"{channel.node} did not answer in time")
                _settle(answers, indices, failure)
                self._learn(channel, [failure])

    def _learn(self, channel: Channel, values: Sequence[Any]) -> None:
        failure = next((value for value in values if isinstance(value, Failure)), None)
        if failure is None:
            channel.breaker.worked()
        else:
            channel.breaker.failed(failure)
        if failure is not None or any(isinstance(value, _STALE_TOPOLOGY) for value in values):
            self._refresh()

    def _channel(self, node: Node) -> Channel:
        if node not in self._channels:
            connection = self._address.connect_async(node, timeout=PATIENCE)
            self._channels[node] = Channel(node, connection)
        return self._channels[node]

    async def _topology_by(self, deadline: float) -> Topology | None:
        if self._topology is None and self._seeds.permits():
            left = max(deadline - time.monotonic(), 0.0)
            await asyncio.wait({self._refresh()}, timeout=left)
            if self._topology is None:
                self._seeds.failed("no node named the owners of the slots in time")
        return self._topology

    def _refresh(self) -> "asyncio.Task[None]":
        """Ask for the topology in the background; until then the old one is used."""
        if self._discovery is None or self._discovery.done():
            task = asyncio.get_running_loop().create_task(self._discover(), context=Context())
            self._discovery = task
        return self._discovery

    async def _discover(self) -> None:
        """Ask one node after the other, without waiting for those that are slow."""
        # The seeds first: pods come back under their names, not their addresses.
        left = list(dict.fromkeys((*self._address.seeds, *self._channels)))
        asked: set[asyncio.Task[Topology | None]] = set()
        try:
            while left or asked:
                if left:
                    asked.add(asyncio.create_task(self._owners_by(left.pop(0))))
                done, asked = await asyncio.wait(
                    asked, timeout=STAGGER if left else None, return_when=asyncio.FIRST_COMPLETED
                )
                topology = next((found for found in (t.result() for t in done) if found), None)
                if topology is not None:
                    await self._adopt(topology)
                    return
        finally:
            for task in asked:
                task.cancel()

    async def _owners_by(self, node: Node) -> Topology | None:
        probe = Channel(node, self._address.connect_async(node, timeout=PATIENCE))
        try:
            (answer,) = await probe.converse([("CLUSTER", "SLOTS")])
            if not isinstance(answer, list):
                raise QueueUnavailable(f"{node}: {answer}")
            return parse_slots(answer, node)
        except (*_BROKEN, QueueUnavailable) as error:
            log.info("cache.seed_failed", node=str(node), reason=str(error))
            return None
        finally:
            await probe.close()

    async def _adopt(self, topology: Topology) -> None:
        self._topology = topology
        self._seeds.worked()
        for node in set(self._channels) - set(topology.primaries):
            await self._channels.pop(node).close()


async def _wait_for(flights: Iterable["asyncio.Future[list[Any]]"], deadline: float) -> None:
    """Until all are done, or `deadline`; when this loop itself stood still over it, the answers may
    lie in the sockets: then it takes them out first."""
    _, pending = await asyncio.wait(flights, timeout=max(deadline - time.monotonic(), 0.0))
    if pending and time.monotonic() - deadline > LATE:
        await asyncio.wait(pending, timeout=LATE)


def _key(command: Command) -> str:
    return str(command[3] if command[0] in {"EVAL", "EVALSHA"} else command[1])


def _settle(answers: list[Any], indices: Iterable[int], value: Any) -> None:
    for index in indices:
        answers[index] = value


def _redirected(answers: Sequence[Any], kind: type[AskError]) -> _Groups:
    """Where the cluster sent us instead, for answers of exactly this kind."""
    groups: _Groups = {}
    for index, answer in enumerate(answers):
        if type(answer) is kind and answer.host:
            groups.setdefault(Node(answer.host, int(answer.port)), []).append(index)
    return groups
