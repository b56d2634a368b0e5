"""Words for people: steps with their time, colours only on a terminal."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator

GREEN, RED, YELLOW, DIM, BOLD = "32", "31", "33", "2", "1"


def say(text: str = "") -> None:
    """One line, at once."""
    print(text, flush=True)


def paint(text: str, colour: str) -> str:
    """`text` in an ANSI colour, if the output is a terminal and NO_COLOR is not set."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    return f"\x1b[{colour}m{text}\x1b[0m"


@contextlib.contextmanager
def step(title: str) -> Iterator[None]:
    """Say that `title` is done and how long it took; nothing when it fails."""
    start = time.monotonic()
    yield
    seconds = time.monotonic() - start
    say(f"  {paint('ok', GREEN)}  {title:<52} {paint(f'{seconds:5.1f} s', DIM)}")
