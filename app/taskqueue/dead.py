"""Dead letters: list them, look at one, bring them back."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from app.taskqueue.backend import ClusterBackend
from app.taskqueue.cluster import Cluster
from app.taskqueue.envelope import loads
from app.taskqueue.ids import tag
from app.taskqueue.lua import REVIVE, SHOW, Command
from app.taskqueue.results import moment, shown

BATCH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A task that will not be tried again by itself. `error` is the last line of its last error."""

    id: str
    queue: str
    path: str
    attempts: int
    died_at: str
    error: str


def dead_letters(
    backend: ClusterBackend, cluster: Cluster, queues: Sequence[str], limit: int
) -> list[DeadLetter]:
    """The latest dead letters of the queues, latest first. Raises QueueUnavailable."""
    found = [
        letter
        for shard, queue in _shards(backend, queues)
        for letter in _of_shard(cluster, shard, queue, limit)
    ]
    return sorted(found, key=lambda letter: letter.died_at, reverse=True)[:limit]


def revive(backend: ClusterBackend, cluster: Cluster, ids: Sequence[str]) -> int:
    """Bring dead tasks back, with all their attempts; returns how many came back."""
    return sum(
        _run(cluster, REVIVE.call(shard, *ids)) for shard, _ in _shards(backend, backend.queues)
    )


def revive_all(backend: ClusterBackend, cluster: Cluster, queues: Sequence[str]) -> int:
    """Bring back all tasks that are dead now."""
    revived = 0
    for shard, _ in _shards(backend, queues):
        ids = [item.decode() for item in _run(cluster, ("ZRANGE", f"{shard}:dead", 0, -1))]
        for start in range(0, len(ids), BATCH):
            revived += _run(cluster, REVIVE.call(shard, *ids[start : start + BATCH]))
    return revived


def _shards(backend: ClusterBackend, queues: Sequence[str] | set[str]) -> Iterator[tuple[str, str]]:
    for queue in sorted(queues):
        for shard in range(backend.settings.shards):
            yield tag(backend.settings.address.prefix, queue, shard), queue


def _of_shard(cluster: Cluster, shard: str, queue: str, limit: int) -> Iterator[DeadLetter]:
    ids = _run(cluster, ("ZREVRANGE", f"{shard}:dead", 0, limit - 1))
    for reply in cluster.run([SHOW.call(shard, item.decode()) for item in ids]):
        fields = shown(reply.result())
        if fields is None:
            continue  # revived and finished since
        yield DeadLetter(
            id=loads(fields["body"])["id"],
            queue=queue,
            path=loads(fields["body"])["path"],
            attempts=int(fields["a"]),
            died_at=moment(fields["f"]).isoformat(timespec="seconds"),
            error=_last_error(fields),
        )


def _last_error(fields: dict[str, str]) -> str:
    numbers = [int(name[4:]) for name in fields if name.startswith("err:")]
    if not numbers:
        return ""
    _, traceback = json.loads(fields[f"err:{max(numbers)}"])
    lines: list[str] = traceback.strip().splitlines() or [""]
    return lines[-1]


def _run(cluster: Cluster, command: Command) -> Any:
    return cluster.run([command])[0].result()
