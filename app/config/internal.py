"""What the metrics port answers beside `/metrics`: on a relay, the queues for autoscalers.

    GET /internal/queues         {"queues": [...]}
    GET /internal/queues/emails  {"queue": "emails", "backlog_seconds": 12.5, ...}

503 when the cluster cannot be read: an autoscaler then keeps its last size, or its fallback.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from http import HTTPStatus
from typing import Any

from django.tasks import task_backends

from app.common.errors import document
from app.taskqueue.backend import ClusterBackend
from app.taskqueue.fleet import Fleet
from app.taskqueue.topology import QueueUnavailable
from app.telemetry.internal import Answer, Respond

QUEUES = "/internal/queues"
PREFIX = f"{QUEUES}/"


def of(process: str) -> Respond:
    """The answers of that process (`web`, `worker`, `relay`)."""
    backend = task_backends["default"]
    if process == "relay" and isinstance(backend, ClusterBackend):
        return queues(Fleet(backend))
    return _nothing_here


def queues(fleet: Fleet) -> Respond:
    """Answers about the queues of `fleet`."""

    def respond(method: str, path: str) -> Answer:
        if method not in {"GET", "HEAD"}:
            return _problem(HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", "Use GET, HEAD.")
        if path == QUEUES:
            return _read(lambda: {"queues": [asdict(report) for report in fleet.reports()]})
        if not path.startswith(PREFIX):
            return _nothing_here(method, path)
        queue = path.removeprefix(PREFIX)
        if queue not in fleet.queues:
            known = ", ".join(sorted(fleet.queues))
            return _problem(HTTPStatus.NOT_FOUND, "not_found", f"The queues are: {known}.")
        return _read(lambda: asdict(fleet.report(queue)))

    return respond


def _read(answer: Callable[[], Mapping[str, Any]]) -> Answer:
    try:
        return HTTPStatus.OK, answer()
    except QueueUnavailable as error:
        return _problem(HTTPStatus.SERVICE_UNAVAILABLE, "queue_unavailable", f"{error}.")


def _nothing_here(_method: str, _path: str) -> Answer:
    return _problem(HTTPStatus.NOT_FOUND, "not_found", "There is nothing at this address.")


def _problem(status: HTTPStatus, code: str, detail: str) -> Answer:
    return status, document(status=status, code=code, detail=detail)
