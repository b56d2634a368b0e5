"""Runs the machine, as shipped or with a planted bug."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from unittest import mock

import hypothesis
from django.db import transaction
from hypothesis import HealthCheck, Phase
from hypothesis.stateful import run_state_machine_as_test

from app.taskqueue import outbox
from app.taskqueue.relay import Relay
from tests.taskqueue.machine import machine_of
from tests.taskqueue.modelworld import world
from tests.taskqueue.shifted import Edit
from tests.taskqueue.support import Queue

Edits = tuple[Edit, ...]


def play(
    queue: Queue,
    *,
    examples: int,
    steps: int,
    seed: int,
    edits: Edits = (),
    on_example: Callable[[], None] = lambda: None,
) -> dict[str, int]:
    """Run that many examples; returns counts. Raises the first disagreement, made small when the
    scripts are as shipped.
    """
    phases = [Phase.generate] if edits else [Phase.generate, Phase.shrink]
    settings = hypothesis.settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=phases,
        print_blob=False,
    )
    with world(queue, edits) as made:
        made.on_example = on_example
        machine = hypothesis.seed(seed)(machine_of(made))
        run_state_machine_as_test(machine, settings=settings, _min_steps=steps)
        return made.counts


def _lua(*edits: Edit) -> Callable[[], AbstractContextManager[Edits]]:
    return lambda: nullcontext(edits)


def _python(target: Any, name: str, new: Any) -> Callable[[], AbstractContextManager[Edits]]:
    @contextmanager
    def plant() -> Iterator[Edits]:
        with mock.patch.object(target, name, new):
            yield (("none", "", ""),)

    return plant


def _at_once(function: Callable[[], None], **_: Any) -> None:
    function()


MUTANTS: dict[str, Callable[[], AbstractContextManager[Edits]]] = {
    "enqueue_forgets_done": _lua(
        ("enqueue", "if known then", "if known and known ~= 'done' then"),
    ),
    "finish_without_fence": _lua(("finish", "if not holds(id, fence) then", "if false then")),
    "fence_not_compared": _lua(
        ("heartbeat", "f[1] == 'leased' and f[2] == fence", "f[1] == 'leased'")
    ),
    "no_end_of_attempts": _lua(("claim", "tonumber(f[1]) >= tonumber(f[2])", "false")),
    "early": _lua(
        ("claim", "DELAYED, '-inf', int(t), 'LIMIT'", "DELAYED, '-inf', int(t + 1), 'LIMIT'")
    ),
    "lease_taken_too_early": _lua(
        ("claim", "LEASES, '-inf', int(t), 'LIMIT'", "LEASES, '-inf', int(t + 1), 'LIMIT'")
    ),
    "priority_upside_down": _lua(("enqueue", "(100 - priority)", "(100 + priority)")),
    "release_loses_its_place": _lua(
        ("release", "make_ready(id, f[4], t)", "make_ready(id, order(0), t)")
    ),
    "retry_stays_leased": _lua(("retry", "redis.call('ZREM', LEASES, id)\n", "")),
    "sweep_without_bound": _lua(
        ("claim", "LEASES, '-inf', int(t), 'LIMIT', 0, limit", "LEASES, '-inf', int(t)")
    ),
    "unique_kept_by_the_dead": _lua(
        ("retry", "'s', 'dead', 'f', int(t))\n  release_unique(id)", "'s', 'dead', 'f', int(t))")
    ),
    "no_tombstone": _lua(
        ("finish", "forget_after(id, ARGV[4])", "redis.call('DEL', key(id), body(id))")
    ),
    "cancel_keeps_the_lease": _lua(
        ("cancel", "READY, AGE, DELAYED, LEASES", "READY, AGE, DELAYED")
    ),
    "push_before_commit": _python(transaction, "on_commit", _at_once),
    "row_gone_before_it_ended": _python(Relay, "_fate", lambda *_: outbox.DELETE),
}
