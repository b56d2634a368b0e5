"""The servers as the machine meets them: scripts on its clock, a courier in its hand, a look at all
keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

from app.taskqueue import relay
from app.taskqueue.backend import ClusterBackend
from app.taskqueue.hooks import hooks
from app.taskqueue.lua import Command, Script
from app.taskqueue.relay import Relay
from tests.taskqueue.reference import Task
from tests.taskqueue.shifted import Edit, scripts
from tests.taskqueue.support import Queue

SETS = ("ready", "age", "delayed", "leases", "dead")


class RelayKilled(Exception):
    """Between its pushes and its commit."""


class Courier:
    """Instead of the process's link to the cluster: holds the pushes until a step delivers them."""

    def __init__(self) -> None:
        self.pushes: list[Command] = []

    def push(self, command: Command, _done: Any) -> None:
        self.pushes.append(command)

    def close(self) -> None:
        """The link's end."""


@dataclass(slots=True)
class World:
    """What outlives one example: servers, scripts, and counts for the report."""

    queue: Queue
    scripts: dict[str, Script]
    courier: Courier
    relay: Relay
    counts: dict[str, int] = field(default_factory=dict)
    kill: bool = False
    on_example: Callable[[], None] = lambda: None

    def count(self, what: str, by: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + by


@contextmanager
def world(queue: Queue, edits: tuple[Edit, ...] = ()) -> Iterator[World]:
    """The queue of a test with shifted scripts and a courier."""

    @contextmanager
    def sending(_path: str, _queue: str, task_id: str) -> Iterator[dict[str, str]]:
        yield {"token": task_id}

    courier = Courier()
    with (
        scripts(edits) as copies,
        mock.patch.object(ClusterBackend, "link", courier),
        mock.patch.object(hooks, "sending", sending),
    ):
        queue.cluster.close()  # a new connection loads the copies
        made = World(queue, copies, courier, queue.relay())

        def failpoint(name: str) -> None:
            if made.kill and name == "relay.pushed_before_confirm":
                raise RelayKilled

        with mock.patch.object(relay, "failpoint", failpoint):
            yield made
        queue.cluster.close()


@dataclass(slots=True)
class Published:
    """A committed task."""

    priority: int
    run_after: int
    most: int
    lease: int
    unique: str
    delivery: str
    far: bool
    confirmed: bool = False
    settled: bool = False  # done, cancelled, dropped or merged: nobody owes it a run
    excused: bool = False  # lost with the whole cluster, and only "dispatched"

    def task(self, task_id: str) -> Task:
        return Task(
            *(task_id, "new", 0, self.priority, self.most, self.lease, self.unique),
        )


@dataclass(slots=True)
class Seen:
    """What is in the shard now."""

    sets: dict[str, dict[str, int]]
    hashes: dict[str, dict[str, str]]
    ttls: dict[str, int]
    holders: dict[str, str]
    seq: int
    wake: int
    paused: bool
    runs: list[int]
    foreign: list[bytes]


def look(queue: Queue) -> Seen:
    """Everything in the cluster that belongs to this test."""
    tag = queue.tag
    keys: list[bytes] = []
    for node in queue.cluster.topology().primaries:
        keys += queue.cluster.ask(node, ("KEYS", f"*{queue.prefix}*"))[0]
    start = f"{tag}:task:".encode()
    ids = [key.removeprefix(start).decode() for key in keys if key.startswith(start)]
    uniques = [key.decode() for key in keys if key.startswith(f"{tag}:unique:".encode())]
    reads: list[Command] = [("ZRANGE", f"{tag}:{n}", 0, -1, "WITHSCORES") for n in SETS]
    reads += [("GET", f"{tag}:seq"), ("LLEN", f"{tag}:wake"), ("EXISTS", f"{tag}:paused")]
    reads += [("LRANGE", f"{tag}:runs", 0, -1)]
    reads += [("GET", key) for key in uniques]
    reads += [("HGETALL", f"{tag}:task:{task_id}") for task_id in ids]
    reads += [("PTTL", f"{tag}:task:{task_id}") for task_id in ids]
    answers = iter([reply.result() for reply in queue.cluster.run(reads)])
    return Seen(
        sets={name: _scores(next(answers)) for name in SETS},
        seq=int(next(answers) or 0),
        wake=next(answers),
        paused=bool(next(answers)),
        runs=[int(ms) for ms in next(answers)],
        holders={key.rpartition(":")[2]: next(answers).decode() for key in uniques},
        hashes={task_id: _hash(next(answers)) for task_id in ids},
        ttls={task_id: next(answers) for task_id in ids},
        foreign=[key for key in keys if not key.startswith(f"{tag}:".encode())],
    )


def _scores(flat: list[bytes]) -> dict[str, int]:
    return {i.decode(): int(float(s)) for i, s in zip(flat[::2], flat[1::2], strict=True)}


def _hash(flat: list[bytes]) -> dict[str, str]:
    return {k.decode(): v.decode() for k, v in zip(flat[::2], flat[1::2], strict=True)}
