"""Tasks of the conservation run: short, failing, delayed, unique."""

from __future__ import annotations

import time

from app.taskqueue import task


@task(lease=1.0, max_attempts=50, backoff=0.05)
def nap(seconds: float) -> None:
    """Be busy, so that a kill finds leases."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.002)


@task(lease=1.0, max_attempts=2, backoff=0.02)
def fail() -> None:
    """End as a dead letter."""
    raise ValueError("always")
