"""The queue in random order against its reference, in few examples (`make prove-tasks-model`)."""

from __future__ import annotations

import pytest

from app.taskqueue import lua
from tests.taskqueue.modelrun import MUTANTS, play
from tests.taskqueue.shifted import CLOCK, TIME, shifted
from tests.taskqueue.support import Queue


def test_the_queue_agrees_with_its_reference(queue: Queue) -> None:
    counts = play(queue, examples=30, steps=40, seed=1)
    assert counts["steps"] >= 30 * 20
    assert counts["leases"] > 30


@pytest.mark.parametrize("mutant", ["finish_without_fence", "push_before_commit"])
def test_a_planted_bug_is_seen(queue: Queue, mutant: str) -> None:
    with pytest.raises(AssertionError), MUTANTS[mutant]() as edits:
        play(queue, examples=60, steps=30, seed=1, edits=edits)


@pytest.mark.parametrize("script", lua.ALL, ids=lambda script: script.name)
def test_only_the_test_can_move_the_clock(script: lua.Script) -> None:
    assert ":clock" not in script.text
    assert shifted(script).text.replace(CLOCK, TIME) == script.text
