"""The task queue in random order against a reference model: a real Valkey Cluster and PostgreSQL,
the shipped Lua, the product's publisher and relay; all invariants after every step.

    EXAMPLES=500 STEPS=50 SEED=… MUTANTS=0 python -m tests.proofs.tasks_model

Afterwards every planted bug must be seen. SEED repeats a run; a disagreement is printed with the
shortest series of steps that shows it.
"""

from __future__ import annotations

import os
import random
import sys
import time
import traceback
from typing import Any

from tests.proofs.harness import Proof, concluded, counter, explain, say
from tests.proofs.queue_lab import lab

MUTANT_EXAMPLES = 400


def run(queue: Any) -> int:
    """The real product, then the mutants."""
    from tests.taskqueue.modelrun import play

    seed = int(os.environ.get("SEED", random.randrange(10**6)))
    examples = max(1, int(os.environ.get("EXAMPLES", "500")))
    steps = max(1, int(os.environ.get("STEPS", "50")))
    proof = Proof("tasks_model", examples)
    say(f"tasks_model: {examples} examples of {steps} steps, SEED={seed}")
    begin = time.monotonic()
    progress = counter("tasks_model", examples)
    try:
        counts: dict[str, Any] = play(
            queue, examples=examples, steps=steps, seed=seed, on_example=lambda: progress("")
        )
    except Exception as error:  # noqa: BLE001 - whatever differs from the reference
        traceback.print_exc()
        proof.violated(str(error).strip().partition("\n")[0] or type(error).__name__)
        counts = {}
    proof.values |= {"seed": seed, **counts, "seconds": round(time.monotonic() - begin)}
    if os.environ.get("MUTANTS") != "0":
        _mutants(queue, proof, steps, seed)
    return proof.finish()


def _mutants(queue: Any, proof: Proof, steps: int, seed: int) -> None:
    from tests.taskqueue.modelrun import MUTANTS, play

    for name, plant in MUTANTS.items():
        violations = []
        try:
            with plant() as edits:
                play(queue, examples=MUTANT_EXAMPLES, steps=steps, seed=seed, edits=edits)
        except AssertionError as error:
            violations.append(str(error).strip().partition("\n")[0] or "differs from the reference")
        proof.judge_mutant(name, violations)


def main() -> int:
    """The servers, the run, the RESULT line."""
    explain("tasks_model", __doc__)
    with lab() as queue:
        return run(queue)


if __name__ == "__main__":
    sys.exit(concluded("tasks_model", main))
