"""The composition root as a Django app: schema version, commands, and telemetry for the queue."""

from contextlib import AbstractContextManager

from django.apps import AppConfig

from app.common import hotquery
from app.config import process
from app.taskqueue.envelope import Envelope
from app.taskqueue.hooks import hooks
from app.telemetry import logging, tasks, tracing


class Config(AppConfig):
    """Fills the hooks that `app.taskqueue` leaves open; it imports nothing of the project."""

    name = "app.config"
    label = "config"

    def ready(self) -> None:
        """Called once per process by Django."""
        hooks.sending = tasks.sending
        hooks.running = _running
        hooks.observe = tasks.observe
        hooks.tick = tasks.tick
        hooks.start = process.start
        hooks.stop = process.stop
        hooks.async_pool = hotquery.current_pool
        hooks.quiet = tracing.quiet
        hooks.traceback = logging.traceback_of


def _running(envelope: Envelope, attempt: int, wait_seconds: float) -> AbstractContextManager[None]:
    """The queue's envelope as plain values for telemetry."""
    return tasks.running(
        path=envelope["path"],
        queue=envelope["queue"],
        task_id=envelope["id"],
        headers=envelope["h"],
        attempt=attempt,
        wait=wait_seconds,
    )
