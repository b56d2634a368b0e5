"""Tasks for the tests of the queue. What they did is counted in a table, never inferred."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

from django.db import connection
from django.tasks import TaskContext

from app.taskqueue import task


def note(name: str, value: str = "") -> None:
    """Record an effect, committed at once."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO taskqueue_effects (name, value, pid, at) VALUES (%s, %s, %s, %s)",
            [name, value, os.getpid(), time.time()],
        )


def wait_for_file(path: str, seconds: float = 20.0) -> None:
    """Block until a test creates `path`."""
    deadline = time.monotonic() + seconds
    while not Path(path).exists() and time.monotonic() < deadline:
        time.sleep(0.005)


@task
def add(left: int, right: int) -> int:
    """Return a sum."""
    return left + right


@task
async def async_add(left: int, right: int) -> int:
    """Return a sum from the event loop."""
    await asyncio.sleep(0)
    return left + right


@task
def record(name: str, value: str = "") -> None:
    """Leave one row."""
    note(name, value)


@task(lease=1.0)
def hold(name: str, gate: str) -> None:
    """Say that it started, wait for a file, leave a row."""
    note(f"{name}:started")
    wait_for_file(gate)
    note(f"{name}:ended")


@task(lease=1.0)
async def async_hold(gate: str) -> str:
    """Wait for a file without a thread."""
    while not Path(gate).exists():  # noqa: ASYNC110, ASYNC240 - a test's gate
        await asyncio.sleep(0.005)
    return "ended"


@task(max_attempts=3, backoff=(0.01, 0.02))
def fail_until(name: str, successes_from: int) -> int:
    """Raise until it has been tried often enough."""
    note(name)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM taskqueue_effects WHERE name = %s", [name])
        tries: int = cursor.fetchone()[0]
    if tries < successes_from:
        raise ValueError(f"try {tries}")
    return tries


@task(timeout=0.05, max_attempts=1)
def too_slow(gate: str) -> str:
    """Take longer than allowed, in a thread."""
    wait_for_file(gate)
    return "late"


@task(timeout=0.05, max_attempts=1)
async def async_too_slow() -> None:
    """Take longer than allowed, on the loop."""
    await asyncio.sleep(30)


@task(takes_context=True, max_attempts=2, backoff=0.01)
def attempt_number(context: TaskContext[Any, Any]) -> int:
    """Succeed the second time and return the attempt."""
    if context.attempt == 1:
        raise RuntimeError("first")
    return context.attempt


@task
def returns_object() -> object:
    """Return what no JSON can hold."""
    return object()


@task
def enqueues_another(name: str) -> None:
    """A task that enqueues a task."""
    record.enqueue(name, "from a task")


@task
async def async_enqueues_another(name: str) -> None:
    """A coroutine that enqueues a task."""
    await record.aenqueue(name, "from a coroutine")


@task
def noop() -> None:
    """Nothing."""


@task
async def async_noop() -> None:
    """Nothing, on the loop."""
