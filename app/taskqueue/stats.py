"""Numbers of the fleet, read from the cluster: one script per shard, summed per queue."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

from redis.exceptions import ResponseError

from app.taskqueue.backend import ClusterBackend
from app.taskqueue.cluster import Cluster
from app.taskqueue.demand import Demand, backlog_seconds, median_seconds
from app.taskqueue.ids import tag
from app.taskqueue.lua import STATS
from app.taskqueue.topology import QueueUnavailable

DRAIN_SECONDS = 60.0  # of a queue for which no goal is set
CONCURRENCY = 8  # of a worker for whose queue none is set, as run_worker's


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
    run_ms: tuple[int, ...] = ()  # of the latest attempts of each shard

    def __add__(self, other: "QueueStats") -> "QueueStats":
        values = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)}
        values["oldest_ready_ms"] = max(self.oldest_ready_ms, other.oldest_ready_ms)
        return QueueStats(**values)

    @classmethod
    def of(cls, answer: Sequence[Any]) -> "QueueStats":
        """One shard, from the answer of scripts/stats.lua."""
        *numbers, runs = answer
        names = [field.name for field in fields(cls)][: len(numbers)]
        return cls(**dict(zip(names, numbers, strict=True)), run_ms=tuple(map(int, runs)))


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueReport:
    """A queue as autoscalers, dashboards and people see it. Each task counts in one of the first
    four: one that is due counts as ready although no worker has moved it yet.
    """

    queue: str
    ready: int
    delayed: int
    running: int
    dead: int
    oldest_ready_age_seconds: float
    backlog_seconds: float  # how long one worker process would take for ready and running ones
    drain_goal_seconds: float
    concurrency: int
    median_task_seconds: float
    paused: bool

    def gauges(self) -> Iterator[tuple[str, float]]:
        """Events for `hooks.observe`."""
        yield "queue_ready", self.ready
        yield "queue_delayed", self.delayed
        yield "queue_running", self.running
        yield "queue_dead", self.dead
        yield "oldest_ready_seconds", self.oldest_ready_age_seconds
        yield "backlog_seconds", self.backlog_seconds


def report_of(queue: str, stats: QueueStats, backend: ClusterBackend) -> QueueReport:
    """What the numbers of a queue mean under the backend's drain goal and concurrency."""
    settings = backend.settings
    concurrency = int(settings.concurrency.get(queue, CONCURRENCY))
    demand = Demand(
        ready=stats.ready + stats.due,
        running=stats.running,
        paused=stats.paused >= settings.shards,
        task_seconds=median_seconds(stats.run_ms),
        concurrency=concurrency,
    )
    return QueueReport(
        queue=queue,
        ready=demand.ready,
        delayed=stats.delayed - stats.due,
        running=stats.running,
        dead=stats.dead,
        oldest_ready_age_seconds=stats.oldest_ready_ms / 1000,
        backlog_seconds=round(backlog_seconds(demand), 6),
        drain_goal_seconds=float(settings.drain_seconds.get(queue, DRAIN_SECONDS)),
        concurrency=concurrency,
        median_task_seconds=demand.task_seconds,
        paused=demand.paused,
    )


def read_counts(
    backend: ClusterBackend, cluster: Cluster, queues: Iterable[str] | None = None
) -> dict[str, QueueStats]:
    """The numbers of each queue (None: of all). Raises QueueUnavailable."""
    settings = backend.settings
    names = sorted(backend.queues if queues is None else queues)
    shards = [(q, n) for q in names for n in range(settings.shards)]
    replies = cluster.run([STATS.call(tag(settings.address.prefix, q, n)) for q, n in shards])
    total = dict.fromkeys(names, QueueStats())
    for (queue, _), reply in zip(shards, replies, strict=True):
        try:
            total[queue] += QueueStats.of(reply.result())
        except ResponseError as error:  # busy, no permission: numbers are missing, nothing more
            raise QueueUnavailable(f"no numbers of queue {queue}: {error}") from error
    return total


def read_stats(
    backend: ClusterBackend, cluster: Cluster, queues: Iterable[str] | None = None
) -> dict[str, QueueReport]:
    """The report of each queue (None: of all). Raises QueueUnavailable."""
    found = read_counts(backend, cluster, queues)
    return {queue: report_of(queue, stats, backend) for queue, stats in found.items()}
