"""Waiting for a condition, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until[T](condition: Callable[[], T], *, timeout: float = 10.0, what: str = "") -> T:
    """Poll `condition` until it is true and return its value; AssertionError after `timeout`
    seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(
                f"not within {timeout:g} s: {what or condition}; last value: {value!r}"
            )
        time.sleep(0.01)
