"""Telemetry of tasks: what `app.taskqueue.hooks` is filled with (by `app.config`).

A task's span has the enqueuer's span as parent when it starts within a minute on its first
attempt; a late or repeated run starts a trace of its own that links back, or a reminder would keep
a trace open for days.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import structlog
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import Counter, Gauge

from app.telemetry import metrics
from app.telemetry.context import bind_request_id, request_id

REQUEST_ID = "x-request-id"
PARENT_WITHIN_SECONDS = 60.0

_gate = metrics.ExemplarGate(metrics.RUN_BUCKETS)
_propagator = TraceContextTextMapPropagator()
_tracer = trace.get_tracer("app.telemetry.tasks")
log = structlog.get_logger()


@contextmanager
def sending(path: str, queue: str, task_id: str) -> Iterator[dict[str, str]]:
    """A PRODUCER span around the outbox write; yields the headers that travel with the task."""
    headers: dict[str, str] = {}
    if request_id():
        headers[REQUEST_ID] = request_id()
    attributes = _attributes(path, queue, task_id, "send")
    with _tracer.start_as_current_span(
        f"send {queue}",
        kind=SpanKind.PRODUCER,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ):
        _propagator.inject(headers)
        yield headers


@contextmanager
def running(
    *, path: str, queue: str, task_id: str, headers: Mapping[str, str], attempt: int, wait: float
) -> Iterator[None]:
    """A CONSUMER span around one attempt (`wait` in seconds since it was due), with log line,
    histograms, and the request id of the request that caused it."""
    creator = _propagator.extract(dict(headers), context=Context())
    near = attempt == 1 and wait < PARENT_WITHIN_SECONDS
    origin = trace.get_current_span(creator).get_span_context()
    attributes = _attributes(path, queue, task_id, "process") | {"app.task.attempt": attempt}
    token = otel_context.attach(creator if near else Context())
    bind_request_id(headers.get(REQUEST_ID, ""))
    started = time.perf_counter()
    outcome = "failed"
    try:
        with _tracer.start_as_current_span(
            f"process {queue}",
            kind=SpanKind.CONSUMER,
            attributes=attributes,
            links=[Link(origin)] if origin.is_valid else None,
            set_status_on_exception=False,
            record_exception=False,
        ) as span:
            try:
                yield
                outcome = "succeeded"
            except BaseException as error:
                span.set_attribute("error.type", type(error).__name__)
                span.set_status(Status(StatusCode.ERROR))
                raise
            finally:
                seconds = time.perf_counter() - started
                _measure(span, path, queue, outcome, seconds, wait)
                log.info(
                    "task.ran",
                    outcome=outcome,
                    **{"task": path, "queue": queue, "task.id": task_id, "attempt": attempt},
                    **{"event.duration": int(seconds * 1e9)},
                )
    finally:
        otel_context.detach(token)


def _measure(
    span: trace.Span, path: str, queue: str, outcome: str, seconds: float, wait: float
) -> None:
    metrics.task_wait.labels(queue).observe(max(wait, 0.0))
    child = metrics.task_run.labels(queue, path, outcome)
    child.observe(seconds, _gate.exemplar(span, child, seconds))


def _attributes(path: str, queue: str, task_id: str, operation: str) -> dict[str, str | int]:
    return {
        "messaging.system": "valkey",
        "messaging.operation.type": operation,
        "messaging.operation.name": operation,
        "messaging.destination.name": queue,
        "messaging.message.id": task_id,
        "app.task.name": path,
    }


_COUNTERS: dict[str, Callable[[str, str], Counter]] = {
    "enqueued": metrics.tasks_enqueued.labels,
    "pushed_directly": lambda *_: metrics.tasks_pushed.labels("publisher", "ok"),
    "push_failed": lambda *_: metrics.tasks_pushed.labels("publisher", "failed"),
    "relayed": lambda *_: metrics.tasks_pushed.labels("relay", "ok"),
    "tick_enqueued": lambda _, path: metrics.periodic_ticks.labels(path, "enqueued"),
    "tick_skipped": lambda _, path: metrics.periodic_ticks.labels(path, "skipped"),
    "relay_failed": lambda *_: metrics.tasks_pushed.labels("relay", "failed"),
}
_GAUGES: dict[str, Callable[[str], Gauge]] = {
    "oldest_ready_seconds": metrics.tasks_oldest_ready.labels,
    "backlog_seconds": metrics.tasks_backlog.labels,
    "outbox_unconfirmed": lambda _: metrics.outbox_rows,
    "outbox_oldest_seconds": lambda _: metrics.outbox_oldest,
    "queue_ready": metrics.tasks_ready.labels,
    "queue_delayed": metrics.tasks_delayed.labels,
    "queue_running": metrics.tasks_running.labels,
    "queue_dead": metrics.tasks_dead.labels,
}


def observe(event: str, queue: str, path: str, value: float = 1.0) -> None:
    """Count or set what the queue reports; names as in `app.taskqueue.hooks`."""
    if event in _COUNTERS:
        _COUNTERS[event](queue, path).inc(value)
    elif event in _GAUGES:
        _GAUGES[event](queue).set(value)
    elif event in metrics.OUTCOMES:
        metrics.task_outcomes.labels(queue, event).inc(value)


def tick(process: str, queue: str = "") -> None:
    """The process's loop turned."""
    metrics.worker_beat.labels(process).set_to_current_time()
