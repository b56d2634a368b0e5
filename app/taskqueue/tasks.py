"""The queue's own periodic task. Runs on queue "default", which a project with it has to serve."""

import logging

from django.tasks import task_backends

from app.taskqueue.backend import ClusterBackend
from app.taskqueue.cluster import Cluster
from app.taskqueue.cron import periodic
from app.taskqueue.durable import task
from app.taskqueue.prune import prune_dead

TIMEOUT = 3.0  # seconds for each answer of the cluster

log = logging.getLogger("taskqueue")


@periodic(cron="17 3 * * *")
@task(priority=-50, unique_key="taskqueue.prune")
def prune() -> int:
    """Forget dead tasks after `dead_retention`; returns how many, over all backends."""
    backends = [task_backends[alias] for alias in task_backends.settings]
    gone = sum(_pruned(backend) for backend in backends if isinstance(backend, ClusterBackend))
    log.info("dead.pruned tasks=%d", gone)
    return gone


def _pruned(backend: ClusterBackend) -> int:
    cluster = Cluster(backend.settings.address, timeout=TIMEOUT)
    try:
        return prune_dead(backend, cluster)
    finally:
        cluster.close()
