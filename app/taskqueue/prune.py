"""What would pile up: dead letters that nobody has looked at for a month.

All else ends by itself: outbox rows are deleted when the cluster has confirmed them (or the task
has succeeded), results and tombstones have a time to live, and the relay forgets removed periodic
tasks.
"""

import time
from collections.abc import Sequence
from typing import Any

from django.db import connections

from app.taskqueue.backend import ClusterBackend
from app.taskqueue.cluster import Cluster
from app.taskqueue.ids import tag
from app.taskqueue.lua import PRUNE, Command

BATCH = 100

_IN_OUTBOX = "SELECT id FROM taskqueue_outbox WHERE id = ANY(%s)"


def prune_dead(backend: ClusterBackend, cluster: Cluster) -> int:
    """Forget tasks that died more than `dead_retention` ago; returns how many.

    A task with a row in the outbox stays (class "until_finished"): its row would bring it back as a
    new one. Raises QueueUnavailable.
    """
    before = int((time.time() - backend.settings.dead_retention) * 1000)
    return sum(
        _prune_shard(backend, cluster, tag(backend.settings.address.prefix, queue, shard), before)
        for queue in sorted(backend.queues)
        for shard in range(backend.settings.shards)
    )


def _prune_shard(backend: ClusterBackend, cluster: Cluster, shard: str, before: int) -> int:
    gone, kept = 0, 0
    while True:
        listed = _run(
            cluster, ("ZRANGEBYSCORE", f"{shard}:dead", "-inf", before, "LIMIT", kept, BATCH)
        )
        ids = [item.decode() for item in listed]
        unneeded = sorted(set(ids) - _in_outbox(backend, ids))
        kept += len(ids) - len(unneeded)
        if unneeded:
            gone += _run(cluster, PRUNE.call(shard, before, *unneeded))
        if len(ids) < BATCH:
            return gone


def _in_outbox(backend: ClusterBackend, ids: Sequence[str]) -> set[str]:
    with connections[backend.settings.database].cursor() as cursor:
        cursor.execute(_IN_OUTBOX, [list(ids)])
        return {task_id for (task_id,) in cursor.fetchall()}


def _run(cluster: Cluster, command: Command) -> Any:
    return cluster.run([command])[0].result()
