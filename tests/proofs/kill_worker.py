"""Kill -9 of the worker in the middle of an e-mail task (`make prove`): the task still runs, and
exactly one e-mail leaves.

Two workers run. Each round arms the failpoint `worker.mid_task`, posts a checkout and sees one of
them die while it holds the lease of the task (looked up in Valkey). The other takes the task back
when the lease ends and sends the e-mail: two attempts by two workers, one message. The lease of the
task is short here (LEASE_SECONDS); nothing else differs from the product.

Planted bugs: `no_taking_back` (ended leases stay) and `no_lease` (a claim leaves no trace).
"""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from redis.cluster import RedisCluster

from app.taskqueue.ids import tag
from devstack.process import Process
from devstack.stack import Stack
from tests.proofs import mails, mutant_app
from tests.proofs.buyer import order
from tests.proofs.failpoint import Failpoint
from tests.proofs.harness import Proof, concluded, counter, judge, options, scratch, waited
from tests.proofs.shop import Shop, buyer, make_template
from tests.support.mailbox import Mailbox
from tests.support.waiting import wait_until

MUTANTS = (mutant_app.NO_TAKING_BACK, mutant_app.NO_LEASE)
MUTANT_ROUNDS = 2
LEASE_SECONDS = 2.0
MAIL_SECONDS = 30.0
MUTANT_MAIL_SECONDS = 6 * LEASE_SECONDS
QUEUE = "emails"


class Round:
    """What a shop needs for many kills: a web and a relay that stay, workers that die."""

    def __init__(self, stack: Stack, mutant: str, rounds: int) -> None:
        self.shop = Shop(stack, f"kill_worker_{mutant or 'real'}")
        self.mutant = mutant
        self.mailbox = Mailbox(stack.sink_url)
        self.mail_seconds = MUTANT_MAIL_SECONDS if mutant else MAIL_SECONDS
        self.point = Failpoint("worker.mid_task", stack.state_dir / f"{self.shop.name}.armed")
        self.shop.sql(mails.LOG)
        (self.variant,) = self.shop.new_variants(1, units=rounds + 10)
        self.web = self.shop.serve(change=mutant_app.SHORT_LEASE, PROOF_LEASE=str(LEASE_SECONDS))
        self.shop.spawn(["run_relay"], "relay")
        seed = urlsplit(stack.queue_url.split(",", 1)[0])
        self.valkey = RedisCluster(
            host=str(seed.hostname), port=int(seed.port or 6379), decode_responses=True
        )
        self.tag = tag(self.shop.name, QUEUE, 0)
        self.waits: list[float] = []
        self.buyers: list[str] = []
        self.started = 0
        self.workers = [self.worker(), self.worker()]

    def worker(self) -> Process:
        """A worker that dies when the failpoint is armed; not waited for."""
        self.started += 1
        command = ["run_worker", "--queues", f"{QUEUE},default"]
        return self.shop.spawn(
            command, f"worker-{self.started}", change=self.mutant, FAILPOINTS=self.point.setting
        )

    def buy(self, name: str) -> str:
        """One order; what was wrong."""
        self.buyers.append(name + mails.domain(self.shop))
        reply = buyer(self.web).send(
            "POST", "/api/v1/checkout", order(self.variant, self.buyers[-1])
        )
        return "" if reply.status == 201 else f"checkout got {reply.status} {reply.code}"

    def kill(self, number: int) -> list[str]:
        """Buy, and see a worker die on the task while it holds its lease; another one starts."""
        for worker in self.workers:
            worker.wait_for("worker.started", 60)
        self.point.arm()
        wrong = [self.buy(f"buyer-{number}")]
        (dead,) = wait_until(self._dead, timeout=self.mail_seconds, what="a worker's death")
        wrong.append(self.point.killed(dead, number + 1))
        leases = int(self.valkey.zcard(f"{self.tag}:leases"))
        if leases != 1:
            wrong.append(f"{leases} leases held after the kill instead of 1")
        if self.mailbox.messages(to=self.buyers[-1]):
            wrong.append("an e-mail left before the kill: nothing was in flight")
        self.workers.remove(dead)
        self.workers.append(self.worker())
        return [each for each in wrong if each]

    def confirmed(self) -> list[str]:
        """The e-mail of the last buyer arrives."""
        begin = time.monotonic()
        try:
            self.mailbox.wait_for(1, to=self.buyers[-1], timeout=self.mail_seconds)
        except AssertionError:
            return [f"no e-mail to {self.buyers[-1]} within {self.mail_seconds:g} s"]
        self.waits.append(time.monotonic() - begin)
        return []

    def settle(self) -> list[str]:
        """One undisturbed purchase after all kills, then count everything."""
        kills = len(self.buyers)
        wrong = [self.buy("last")]
        wrong += self.confirmed()
        wait_until(self._all_done, timeout=self.mail_seconds, what="all tasks done")
        attempts = sorted(int(task["a"]) for task in self._tasks())
        workers = [task["w"].count(",") + 1 for task in self._tasks()]
        if attempts != [1] + [2] * kills or sorted(workers) != attempts:
            wrong.append(f"attempts {attempts} by {workers} workers instead of 2 for each kill")
        return [each for each in wrong if each] + mails.judge(self.shop, self.mailbox, self.buyers)

    def _dead(self) -> list[Process]:
        return [worker for worker in self.workers if not worker.alive]

    def _all_done(self) -> bool:
        return all(task.get("s") == "done" for task in self._tasks())

    def _tasks(self) -> list[Any]:
        ids = [row[0] for row in self.shop.sql("SELECT id FROM proof_outbox")]
        return [self.valkey.hgetall(f"{self.tag}:task:{number}") for number in ids]


def main() -> int:
    """Run the proof; the exit code."""
    proof = options("kill_worker", __doc__ or "", rounds=20, mutants=MUTANTS)
    with scratch(proof.name) as state, Stack.start(state) as stack:
        make_template(stack)
        judge(proof, partial(kills, stack, proof), mutant_rounds=MUTANT_ROUNDS)
    return proof.finish()


def kills(stack: Stack, proof: Proof, mutant: str, rounds: int) -> list[str]:
    """So many kills on a new database; what went wrong (a mutant stops at the first)."""
    run = Round(stack, mutant, rounds)
    step = counter(f"kill_worker {mutant}".strip(), rounds)
    violations: list[str] = []
    for number in range(rounds):
        violations += run.kill(number)
        violations += run.confirmed()
        if mutant and violations:
            return violations
        step(f"hits: {len(run.point.hits())} wrong: {len(violations)}")
    violations += run.settle()
    if not mutant:
        hits = len(run.point.hits())
        proof.values |= {"rounds": rounds, "kills": hits, "emails": len(run.waits) - 1}
        proof.values |= {"lease_s": LEASE_SECONDS, **waited(run.waits)}
    return violations


if __name__ == "__main__":
    sys.exit(concluded("kill_worker", main))
