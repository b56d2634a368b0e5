"""All Prometheus metrics, declared once; `observability/catalogue.yaml` describes the same set.

Labels are bounded: no ids, raw paths, SQL or messages. Metrics are served on their own port by a
thread, so a scrape never waits behind a request and never leaves through the ingress.
"""

import platform
import time
from bisect import bisect_left
from collections.abc import Collection, Sequence
from itertools import product

import django
from opentelemetry.trace import Span
from prometheus_client import Counter, Gauge, Histogram

from app.telemetry.internal import Respond, serve

DURATION_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Seconds. 0.5 and 1 are latency objectives, so they are boundaries."""

RUN_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Seconds of a task attempt."""
OUTCOMES = ("succeeded", "failed", "retried", "dead", "reaped", "lease_lost", "released")
"""What a worker does with a task."""
LIMIT_RESULTS = ("allowed", "refused", "exempt", "failed_open")
"""What a rate limit says to a request."""

http_duration = Histogram(
    "http_server_request_duration_seconds",
    "Time from the first byte of the request to the last byte of the answer.",
    ["http_route", "http_request_method", "http_status_class"],
    buckets=DURATION_BUCKETS,
)
http_active = Gauge("http_server_active_requests", "Requests being answered now.")
http_disconnects = Counter(
    "fashionistar_http_client_disconnects",
    "Requests whose client hung up before the answer began (logged as 499).",
    ["http_route"],
)
http_unhandled = Counter(
    "fashionistar_http_unhandled_exceptions",
    "Requests that ended in an exception nobody foresaw (answered with 500).",
    ["http_route"],
)
threads_busy = Gauge(
    "fashionistar_threadpool_busy", "Request threads that belong to a request now."
)
threads_waiting = Gauge("fashionistar_threadpool_queue", "Requests that wait for a request thread.")
tasks_enqueued = Counter(
    "fashionistar_tasks_enqueued", "Tasks written to the outbox or pushed.", ["queue", "task"]
)
tasks_pushed = Counter(
    "fashionistar_tasks_pushed",
    "Pushes to the queue cluster by who pushed (publisher, relay) and outcome (ok, failed).",
    ["source", "outcome"],
)
task_wait = Histogram(
    "fashionistar_task_wait_seconds",
    "Time from enqueue (or run_after) to the start of the run.",
    ["queue"],
    buckets=(0.01, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900),
)
task_run = Histogram(
    "fashionistar_task_run_seconds",
    "Run time of a task attempt by outcome (succeeded, failed).",
    ["queue", "task", "outcome"],
    buckets=RUN_BUCKETS,
)
task_outcomes = Counter(
    "fashionistar_task_outcomes",
    "Moves of tasks by the worker: succeeded, failed, retried, dead, reaped, lease_lost, released.",
    ["queue", "outcome"],
)
periodic_ticks = Counter(
    "fashionistar_periodic_ticks",
    "Ticks of periodic tasks that the relay enqueued, or skipped because they were missed.",
    ["task", "outcome"],
)
# Of the fleet: set by each relay, never by workers. Read with max, never with sum.
tasks_ready = Gauge("fashionistar_tasks_ready", "Tasks that are due and wait.", ["queue"])
tasks_delayed = Gauge(
    "fashionistar_tasks_delayed",
    "Tasks that are due within minutes or wait to be retried.",
    ["queue"],
)
tasks_running = Gauge("fashionistar_tasks_running", "Tasks that a worker holds.", ["queue"])
tasks_dead = Gauge(
    "fashionistar_tasks_dead", "Tasks that failed for good and wait for somebody.", ["queue"]
)
tasks_oldest_ready = Gauge(
    "fashionistar_tasks_oldest_ready_seconds",
    "Age of the oldest task that is ready to run.",
    ["queue"],
)
tasks_backlog = Gauge(
    "fashionistar_tasks_backlog_seconds",
    "Time one worker process would need for the ready and the running tasks.",
    ["queue"],
)
outbox_rows = Gauge(
    "fashionistar_outbox_unconfirmed_rows", "Outbox rows the cluster has not confirmed yet."
)
outbox_oldest = Gauge(
    "fashionistar_outbox_oldest_seconds", "Age of the oldest unconfirmed outbox row that is due."
)
worker_beat = Gauge(
    "fashionistar_worker_last_beat_timestamp_seconds",
    "Unix time of the process's last turn of its loop.",
    ["process"],
)
cache_ops = Counter(
    "fashionistar_cache_ops",
    "Cache operations per key by result; all but hit, miss and ok mean: done without the cache.",
    ["cache", "op", "result"],
)
rate_limits = Counter(
    "fashionistar_rate_limit_checks",
    "Requests checked against a rate limit; failed_open means the cluster did not answer.",
    ["bucket", "result"],
)
build_info = Gauge(
    "fashionistar_build_info",
    "Always 1; the labels say what runs.",
    ["version", "python", "django"],
)


def start(
    port: int,
    *,
    version: str,
    queues: Collection[str],
    respond: Respond,
    buckets: Collection[str] = (),
) -> None:
    """Serve metrics on `port` (all addresses; 0 serves none), and what `respond` answers.

    Raises OSError when the port is taken.

    Children of bounded labels exist from the start: a first failure is then a rise from 0.
    """
    build_info.labels(version, platform.python_version(), django.get_version()).set(1)
    for source, outcome in product(("publisher", "relay"), ("ok", "failed")):
        tasks_pushed.labels(source, outcome)
    for queue, outcome in product(queues, OUTCOMES):
        task_outcomes.labels(queue, outcome)
    for bucket, result in product(buckets, LIMIT_RESULTS):
        rate_limits.labels(bucket, result)
    if port:
        serve(port, respond)


class ExemplarGate:
    """At most one exemplar per bucket and second: only those traces must be kept by a sampler."""

    def __init__(self, buckets: Sequence[float] = DURATION_BUCKETS) -> None:
        self._buckets = buckets
        self._last: dict[tuple[object, int], int] = {}

    def exemplar(self, span: Span, child: object, seconds: float) -> dict[str, str] | None:
        """The exemplar for this observation, if it may carry one; its span is marked then."""
        if not span.is_recording():
            return None
        key = (child, bisect_left(self._buckets, seconds))
        second = int(time.time())
        if self._last.get(key) == second:
            return None
        self._last[key] = second
        span.set_attributes({"exemplar": True})
        context = span.get_span_context()
        return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}
