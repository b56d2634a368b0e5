"""The composition root as a Django app: schema version, commands, and telemetry for the queue."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

from django.apps import AppConfig


class Config(AppConfig):
    """Fills the hooks that `app.taskqueue` leaves open; it imports nothing of the project."""

    name = "app.config"
    label = "config"

    def ready(self) -> None:
        """Called once per process by Django."""
        from app.config import process
        from app.taskqueue.hooks import hooks
        from app.telemetry import tasks

        hooks.sending = tasks.sending
        hooks.running = _running(tasks.running)
        hooks.observe = tasks.observe
        hooks.tick = tasks.tick
        hooks.start = process.start


def _running[T](run: Callable[..., AbstractContextManager[T]]) -> Callable[..., object]:
    """Translate the queue's envelope into plain values for telemetry."""

    def running(envelope: object, attempt: int, wait_seconds: float) -> AbstractContextManager[T]:
        return partial(run, attempt=attempt, wait=wait_seconds)(
            path=envelope.path,  # type: ignore[attr-defined]
            queue=envelope.queue,  # type: ignore[attr-defined]
            task_id=envelope.id,  # type: ignore[attr-defined]
            headers=envelope.headers,  # type: ignore[attr-defined]
        )

    return running
