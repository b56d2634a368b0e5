"""Tasks are neither lost nor doubled: counted while publishers publish and workers and relays are
killed with SIGKILL.

    ROUNDS=50 SEED=… MUTANTS=0 python -m tests.proofs.conservation

Each round publishes, looks at the shards at random moments (one script each, exact), kills a
process in every second one, and ends in a quiet point: outbox and cluster together hold exactly the
committed ids. Afterwards planted losses must be seen.
"""

from __future__ import annotations

import os
import random
import sys
import time
from typing import Any

from tests.proofs.harness import Proof, concluded, counter, explain, say
from tests.proofs.queue_lab import lab


def run(queue: Any) -> int:
    """All rounds, the end, the mutants."""
    from tests.taskqueue.conservation import MUTANTS, Chaos

    seed = int(os.environ.get("SEED", random.randrange(10**6)))
    proof = Proof("conservation", max(1, int(os.environ.get("ROUNDS", "50"))))
    say(f"conservation: {proof.rounds} rounds, SEED={seed}")
    begin = time.monotonic()
    chaos = Chaos(queue, random.Random(seed))
    chaos.begin()
    progress = counter("conservation", proof.rounds)
    for _ in range(proof.rounds):
        chaos.round()
        progress(f"{len(chaos.committed)} tasks, {chaos.kills} kills")
    chaos.end()
    for violation in chaos.violations:
        proof.violated(violation)
    proof.values |= {
        "seed": seed,
        "tasks": len(chaos.committed),
        "shard_looks": chaos.looks,
        "quiet_points": chaos.quiet_points,
        "kills": chaos.kills,
        "worker_kills_while_tasks_ran": chaos.kills_with_leases,
        "lost": 0 if not chaos.violations else "see_violations",
        "seconds": round(time.monotonic() - begin),
    }
    if os.environ.get("MUTANTS") != "0":
        missed = chaos.missed()
        for name in MUTANTS:
            proof.judge_mutant(name, [] if name in missed else ["seen"])
    return proof.finish()


def main() -> int:
    """The servers, the run, the RESULT line."""
    explain("conservation", __doc__)
    with lab() as queue:
        return run(queue)


if __name__ == "__main__":
    sys.exit(concluded("conservation", main))
