"""The cluster for one event loop (the worker): calls of one node share its connection.

Whatever is called while a batch is under way goes out as the next batch, so a busy worker writes
and reads few times, and an idle one waits for nothing. cluster.py says why this is not the cluster
client of redis-py.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from redis.exceptions import MovedError, NoScriptError, RedisError, ResponseError

from app.taskqueue.cluster import BROKEN, NOT_NOW, slots_of
from app.taskqueue.connection import Node, QueueAddress
from app.taskqueue.lua import LOAD_ALL, Command, key_of
from app.taskqueue.topology import ClusterUnavailable, QueueUnavailable, Topology

BATCH = 200
_ROUNDS = 3


class AsyncLane:
    """One connection to one node; scripts are loaded whenever it connects."""

    def __init__(self, node: Node, connection: Any) -> None:
        self.node = node
        self._connection = connection
        self._pending: list[tuple[Command, asyncio.Future[Any]]] = []
        self._pump: asyncio.Task[None] | None = None

    def submit(self, command: Command) -> asyncio.Future[Any]:
        """The answer of `command`; error replies and broken connections are values, too."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._pending.append((command, future))
        if self._pump is None:
            self._pump = asyncio.create_task(self._drain())
        return future

    async def converse(
        self, commands: Sequence[Command], *, scripts: bool = True, within: float | None = None
    ) -> list[Any]:
        """Send commands and read their answers, alone on the connection. Raises `BROKEN`.

        `within` in seconds replaces the connection's timeout of an answer (blocking commands).
        """
        preamble = 0
        try:
            if not self._connection.is_connected:
                await self._connection.connect()
                if scripts:
                    preamble = len(LOAD_ALL)
                    commands = (*LOAD_ALL, *commands)
            packed = self._connection.pack_commands(commands)
            await self._connection.send_packed_command(packed, check_health=False)
            answers = [await self._receive(within) for _ in commands]
        except BaseException:
            await self.close()  # answers may be on their way: never read by the next caller
            raise
        return answers[preamble:]

    async def close(self) -> None:
        """Drop the connection; the next command makes a new one."""
        with suppress(RedisError, OSError):
            await self._connection.disconnect(nowait=True)

    async def _receive(self, within: float | None) -> Any:
        try:
            return await self._connection.read_response(timeout=within)
        except ResponseError as error:
            return error

    async def _drain(self) -> None:
        batch: list[tuple[Command, asyncio.Future[Any]]] = []
        try:
            while self._pending:
                batch, self._pending = self._pending[:BATCH], self._pending[BATCH:]
                _answer(batch, await self._exchange([command for command, _ in batch]))
        finally:
            self._pump = None
            lost = QueueUnavailable(f"{self.node}: the connection was closed")
            _answer([*batch, *self._pending], [lost] * (len(batch) + len(self._pending)))
            self._pending = []

    async def _exchange(self, commands: Sequence[Command]) -> list[Any]:
        try:
            return await self.converse(commands)
        except BROKEN as error:
            return [error] * len(commands)


def _answer(batch: Sequence[tuple[Command, asyncio.Future[Any]]], answers: Sequence[Any]) -> None:
    for (_, future), answer in zip(batch, answers, strict=True):
        if not future.done():
            future.set_result(answer)


class AsyncCluster:
    """Used by one event loop. `timeout` in seconds bounds connecting and each answer."""

    def __init__(self, address: QueueAddress, *, timeout: float) -> None:
        self._address = address
        self._timeout = timeout
        self._topology: Topology | None = None
        self._discovery = asyncio.Lock()
        self._lanes: dict[Node, AsyncLane] = {}

    async def call(self, command: Command) -> Any:
        """The answer of `command` from the node that owns its key.

        Raises QueueUnavailable, after which the command may or may not have run, and ResponseError.
        """
        answer: object = None
        for _ in range(_ROUNDS):
            lane = await self._lane_of(key_of(command))
            answer = await lane.submit(command)
            if isinstance(answer, NoScriptError):  # SCRIPT FLUSH: connecting loads them again
                await lane.close()
            elif isinstance(answer, MovedError):
                self._topology = None
            else:
                break
        if isinstance(answer, (*BROKEN, *NOT_NOW, QueueUnavailable)):
            self._topology = None
            raise QueueUnavailable(f"{command[0]!s}: {answer}")
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def wait_for_token(self, lane: "TokenLane", seconds: float) -> bool:
        """Block on the wake list of `lane` for at most `seconds`; whether a token came.

        Raises QueueUnavailable.
        """
        node = (await self.topology()).owner(lane.key)
        if lane.connection is None or lane.connection.node != node:
            await lane.close()
            connection = self._address.connect_async(node, timeout=self._timeout)
            lane.connection = AsyncLane(node, connection)
        command: Command = ("BLPOP", lane.key, f"{seconds:.3f}")
        try:
            (answer,) = await lane.connection.converse(
                [command], scripts=False, within=seconds + self._timeout
            )
        except BROKEN as error:
            answer = error
        if isinstance(answer, Exception):
            self._topology = None
            raise QueueUnavailable(f"{node}: {answer}")
        return answer is not None

    async def topology(self) -> Topology:
        """The current owners of the slots. Raises QueueUnavailable."""
        async with self._discovery:
            if self._topology is None:
                self._topology = await self._discover()
            return self._topology

    async def close(self) -> None:
        """Drop all connections."""
        for lane in self._lanes.values():
            await lane.close()
        self._lanes.clear()
        self._topology = None

    async def _lane_of(self, key: str) -> AsyncLane:
        topology = self._topology or await self.topology()
        node = topology.owner(key)
        if node not in self._lanes:
            connection = self._address.connect_async(node, timeout=self._timeout)
            self._lanes[node] = AsyncLane(node, connection)
        return self._lanes[node]

    async def _discover(self) -> Topology:
        errors: list[str] = []
        for node in dict.fromkeys((*self._address.seeds, *self._lanes)):
            probe = AsyncLane(node, self._address.connect_async(node, timeout=self._timeout))
            try:
                (answer,) = await probe.converse([("CLUSTER", "SLOTS")], scripts=False)
                return await self._adopt(slots_of(answer, node))
            except (*BROKEN, QueueUnavailable) as error:
                errors.append(str(error))
            finally:
                await probe.close()
        raise ClusterUnavailable("no seed of the queue cluster answers: " + "; ".join(errors))

    async def _adopt(self, topology: Topology) -> Topology:
        for node in set(self._lanes) - set(topology.primaries):
            await self._lanes.pop(node).close()
        return topology


class TokenLane:
    """A connection of its own for one shard's wake list, as BLPOP blocks it."""

    def __init__(self, tag: str) -> None:
        self.key = f"{tag}:wake"
        self.connection: AsyncLane | None = None

    async def close(self) -> None:
        """Drop the connection."""
        if self.connection is not None:
            await self.connection.close()
