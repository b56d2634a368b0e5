"""Facts that happened, recorded in the transaction that made them true."""

from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils.module_loading import import_string

from app.common.ids import uuid7


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of all events: past participles with JSON-safe fields (ids, whole numbers, text)."""

    event_id: str = field(default_factory=lambda: str(uuid7()))


@cache
def _handlers() -> dict[type[Event], list[Any]]:
    """The event map, loaded once by name: publishers and handlers never import each other."""
    handlers: dict[type[Event], list[Any]] = import_string(settings.EVENT_HANDLERS)
    return handlers


def publish(event: Event) -> None:
    """Make `event` part of the surrounding transaction: one outbox row for each handler.

    Commit makes them durable, rollback removes them. Delivery is at least once and unordered, so
    handlers are idempotent. Raises RuntimeError outside a transaction.
    """
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError(
            f"publish {type(event).__name__} inside the transaction that made it true"
        )
    for handler in _handlers().get(type(event), []):
        handler.enqueue(**asdict(event))
