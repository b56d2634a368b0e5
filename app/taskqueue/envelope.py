"""What travels: one JSON object per task, written once at enqueue and read by every worker."""

import json
import math
import re
from datetime import datetime
from typing import Any, NotRequired, TypedDict

VERSION = 1

DELIVERIES = ("dispatched", "until_finished")

LONGEST_BACKOFF = 900.0  # seconds

_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")  # an escaped NUL, not an escaped backslash before it


class Envelope(TypedDict):
    """Version 1. Times are milliseconds of the epoch, durations seconds."""

    v: int
    id: str
    path: str
    queue: str
    args: list[Any]
    kwargs: dict[str, Any]
    h: dict[str, str]  # headers of the enqueuer: traceparent, x-request-id, …
    priority: int
    enqueued_at: int
    run_after: int | None
    max_attempts: int
    lease: float
    timeout: NotRequired[float]
    backoff: NotRequired[float | list[float]]
    unique_key: NotRequired[str]


class Unserialisable(TypeError):
    """An argument or return value that JSON or PostgreSQL's jsonb cannot hold."""


class TooLarge(ValueError):
    """A task whose envelope, or a return value that, is above the limit."""


def milliseconds(moment: datetime) -> int:
    """Milliseconds of the epoch, rounded up: a task is never early."""
    return math.ceil(moment.timestamp() * 1000)


def dumps(value: object, *, what: str, limit: int) -> str:
    """Compact JSON of at most `limit` bytes. `what` names the thing in the error."""
    try:
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        size = len(text.encode())
    except (TypeError, ValueError) as error:
        raise Unserialisable(f"{what}: {error}; pass ids, numbers and text") from error
    if "\\u0000" in text and _NUL.search(text):
        raise Unserialisable(f"{what}: a NUL character, which PostgreSQL cannot store in jsonb")
    if size > limit:
        raise TooLarge(f"{what}: {size} bytes of JSON, allowed are {limit}; pass an id instead")
    return text


def loads(text: str | bytes) -> Envelope:
    """The envelope in a stored JSON text."""
    envelope: Envelope = json.loads(text)
    return envelope


def retry_delay(backoff: float | list[float], attempt: int) -> float:
    """Seconds to wait after failed attempt number `attempt` (1, 2, …): the base, doubled each time
    up to a quarter of an hour, or the delays as listed, the last one repeated.
    """
    if isinstance(backoff, list):
        return backoff[min(attempt, len(backoff)) - 1]
    return min(backoff * 2.0 ** min(attempt - 1, 30), LONGEST_BACKOFF)
