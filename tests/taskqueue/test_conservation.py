"""The conservation run in few rounds (`make conservation`)."""

from __future__ import annotations

import random

import pytest

from tests.taskqueue.conservation import MUTANTS, Chaos
from tests.taskqueue.support import Queue


def test_nothing_is_lost_or_doubled_while_processes_die(queue: Queue) -> None:
    chaos = Chaos(queue, random.Random(3))
    chaos.begin()
    for _ in range(4):
        chaos.round()
    chaos.end()
    assert chaos.violations == []
    assert (chaos.quiet_points, chaos.kills > 0) == (4, True)
    assert chaos.missed() == []


def test_a_planted_bug_needs_something_to_lose(queue: Queue) -> None:
    with pytest.raises(LookupError):
        MUTANTS["lose_a_hash"](Chaos(queue, random.Random(3)))
