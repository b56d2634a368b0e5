"""Numbers of the fleet, read from the cluster: one script per shard, summed per queue."""

from collections.abc import Iterator
from dataclasses import dataclass, fields

from app.taskqueue.backend import ClusterBackend
from app.taskqueue.cluster import Cluster
from app.taskqueue.ids import tag
from app.taskqueue.lua import STATS


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStats:
    """One queue, over all its shards (the order is that of scripts/stats.lua)."""

    ready: int = 0
    delayed: int = 0
    due: int = 0
    running: int = 0
    lease_ended: int = 0
    dead: int = 0
    oldest_ready_ms: int = 0
    paused: int = 0  # shards

    def __add__(self, other: "QueueStats") -> "QueueStats":
        values = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)}
        values["oldest_ready_ms"] = max(self.oldest_ready_ms, other.oldest_ready_ms)
        return QueueStats(**values)

    def gauges(self) -> Iterator[tuple[str, float]]:
        """Events for `hooks.observe`."""
        yield "queue_ready", self.ready
        yield "queue_delayed", self.delayed
        yield "queue_running", self.running
        yield "queue_dead", self.dead
        yield "oldest_ready_seconds", self.oldest_ready_ms / 1000


def read_stats(backend: ClusterBackend, cluster: Cluster) -> dict[str, QueueStats]:
    """The numbers of each queue. Raises QueueUnavailable."""
    settings = backend.settings
    shards = [(q, n) for q in sorted(backend.queues) for n in range(settings.shards)]
    replies = cluster.run([STATS.call(tag(settings.address.prefix, q, n)) for q, n in shards])
    names = [field.name for field in fields(QueueStats)]
    total = dict.fromkeys(sorted(backend.queues), QueueStats())
    for (queue, _), reply in zip(shards, replies, strict=True):
        total[queue] += QueueStats(**dict(zip(names, reply.result(), strict=True)))
    return total
