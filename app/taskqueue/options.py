"""The backend's OPTIONS, checked."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from app.taskqueue.connection import EXAMPLE, QueueAddress, parse

DAY = 86_400

_QUEUE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_CONNECTION = ("url", "password", "ca_file", "prefix")


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendOptions:
    """OPTIONS of one backend; beside these: url, password, ca_file, prefix (see connection.py)."""

    address: QueueAddress
    shards: int = 1  # per queue; may grow, ids name their shard
    database: str = "default"  # the alias whose transactions tasks join
    result_ttl: int = DAY  # seconds a finished task is remembered, its result and its id
    dead_retention: int = 30 * DAY  # seconds a dead task is kept for somebody to look at
    max_payload: int = 262_144  # bytes of one envelope, and of one return value
    # Per queue, for autoscalers: in how many seconds its backlog shall be worked off, and how many
    # of its tasks one worker process runs at a time.
    drain_seconds: Mapping[str, float] = field(default_factory=dict)
    concurrency: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "BackendOptions":
        """From the settings. ImproperlyConfigured names what is wrong."""
        if not options.get("url"):
            raise ImproperlyConfigured(f"TASKS: OPTIONS['url'] is missing (example: {EXAMPLE})")
        own = {item.name for item in fields(cls)} - {"address"}
        unknown = set(options) - own - set(_CONNECTION)
        if unknown:
            raise ImproperlyConfigured(
                f"TASKS: unknown OPTIONS {sorted(unknown)}; known: {sorted({*own, *_CONNECTION})}"
            )
        address = parse(
            options["url"],
            options.get("password") or None,
            options.get("ca_file") or None,
            options.get("prefix") or "fs",
        )
        parsed = cls(address=address, **{name: options[name] for name in own & set(options)})
        if not 1 <= parsed.shards <= 4096:
            raise ImproperlyConfigured("TASKS: OPTIONS['shards'] must be between 1 and 4096")
        if parsed.result_ttl < 60:
            raise ImproperlyConfigured(
                "TASKS: OPTIONS['result_ttl'] must be at least 60 seconds: a task pushed again "
                "after its memory ended would run again"
            )
        if parsed.dead_retention < parsed.result_ttl:
            raise ImproperlyConfigured(
                "TASKS: OPTIONS['dead_retention'] must be at least result_ttl: a dead task is no "
                "less worth than a finished one"
            )
        _check_numbers("drain_seconds", parsed.drain_seconds)
        _check_numbers("concurrency", parsed.concurrency)
        return parsed


def _check_numbers(name: str, values: Mapping[str, float]) -> None:
    bad = {queue: value for queue, value in values.items() if not value > 0}
    if bad:
        raise ImproperlyConfigured(f"TASKS: OPTIONS['{name}'] must be above 0 per queue; got {bad}")


def check_queues(queues: Iterable[str]) -> None:
    """Queue names are part of keys and of shell lists. ImproperlyConfigured otherwise."""
    names = list(queues)
    bad = [name for name in names if not _QUEUE.fullmatch(name)]
    if bad or not names:
        raise ImproperlyConfigured(
            "TASKS: QUEUES must list names of letters, digits, '_', '.' and '-', "
            f"at most 64 long; got {bad or names}"
        )
