"""The queues as a process that is asked sees them: read at most once a second, by any thread."""

import threading
import time

from app.taskqueue.backend import ClusterBackend
from app.taskqueue.cluster import Cluster
from app.taskqueue.hooks import hooks
from app.taskqueue.stats import QueueReport, read_stats
from app.taskqueue.topology import QueueUnavailable

TIMEOUT = 1.0  # seconds for connecting and for each answer; autoscalers wait three
FRESH = 1.0  # seconds for which an answer serves everybody


class Fleet:
    """Answers about the queues of `backend` over a connection of its own: it works while the
    relay's loop is stuck or PostgreSQL is away.
    """

    def __init__(self, backend: ClusterBackend) -> None:
        self.queues = frozenset(backend.queues)
        self._backend = backend
        self._cluster = Cluster(backend.settings.address, timeout=TIMEOUT)
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, QueueReport]] = {}

    def reports(self) -> list[QueueReport]:
        """All queues, by name. Raises QueueUnavailable when one of them cannot be read."""
        return [self._ask(queue) for queue in sorted(self.queues)]

    def report(self, queue: str) -> QueueReport:
        """One queue; that another one cannot be read does not matter. Raises QueueUnavailable."""
        return self._ask(queue)

    def _ask(self, queue: str) -> QueueReport:
        if not self._lock.acquire(timeout=2 * TIMEOUT):
            raise QueueUnavailable("the queue cluster is slow: other questions wait")
        try:
            known = self._known.get(queue)
            if known is not None and time.monotonic() - known[0] < FRESH:
                return known[1]
            with hooks.quiet():
                report = read_stats(self._backend, self._cluster, [queue])[queue]
            self._known[queue] = (time.monotonic(), report)
            return report
        finally:
            self._lock.release()
