"""Kill -9 of the web process after the commit of an order and before its task is pushed
(`make prove`): the e-mail task still runs, exactly once.

Each round arms the failpoint `outbox.committed_before_push`, posts a checkout and sees the server
die without an answer. The order is there; the relay finds the outbox row, the worker sends one
e-mail. In every second round the relay is stopped meanwhile, so that the row can be looked at.
Rollback: each round also sends a checkout that is refused (409) and one whose transaction fails at
its COMMIT (a planted deferred trigger): neither leaves an order, a task or an e-mail.

Planted bugs: `no_outbox` (the row is taken away in its own transaction: push on commit only) and
`no_relay`.
"""

from __future__ import annotations

import signal
import sys
import time
from functools import partial
from typing import LiteralString

from devstack.process import Process
from devstack.stack import Stack
from tests.proofs import mails
from tests.proofs.buyer import Reply, order
from tests.proofs.failpoint import Failpoint
from tests.proofs.harness import Proof, concluded, counter, judge, options, scratch, waited
from tests.proofs.shop import Shop, buyer, make_template
from tests.support.mailbox import Mailbox
from tests.support.waiting import wait_until

NO_OUTBOX, NO_RELAY = "no_outbox", "no_relay"
MUTANT_ROUNDS = 2
MAIL_SECONDS = 20.0
MUTANT_MAIL_SECONDS = 4.0

_TAKE_AWAY: LiteralString = """
CREATE FUNCTION proof_take_away() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN DELETE FROM taskqueue_outbox WHERE id = NEW.id; RETURN NULL; END $$;
CREATE TRIGGER proof_take_away AFTER INSERT ON taskqueue_outbox
    FOR EACH ROW EXECUTE FUNCTION proof_take_away()"""


class Round:
    """What a shop needs for many kills: a relay and a worker that stay, web processes that die."""

    def __init__(self, stack: Stack, mutant: str, rounds: int) -> None:
        self.shop = Shop(stack, f"kill_web_{mutant or 'real'}")
        self.mutant = mutant
        self.mailbox = Mailbox(stack.sink_url)
        self.mail_seconds = MUTANT_MAIL_SECONDS if mutant else MAIL_SECONDS
        self.point = Failpoint(
            "outbox.committed_before_push", stack.state_dir / f"{self.shop.name}.armed"
        )
        self.shop.sql(mails.LOG)
        self.shop.sql(mails.FAIL_AT_COMMIT)
        if mutant == NO_OUTBOX:
            self.shop.sql(_TAKE_AWAY)
        (self.variant,) = self.shop.new_variants(1, units=2 * rounds + 10)
        self.relay = None if mutant == NO_RELAY else self.shop.spawn(["run_relay"], "relay")
        self.shop.spawn(["run_worker", "--queues", "emails,default"], "worker")
        self.waits: list[float] = []
        self.buyers: list[str] = []

    def web(self, number: int) -> Process:
        """A server that will die; not waited for."""
        return self.shop.spawn(
            ["serve", "--port", "0"], f"web-{number}", FAILPOINTS=self.point.setting
        )

    def buy(self, web: Process, who: str, quantity: int = 1) -> Reply:
        """One checkout on a new connection."""
        who += mails.domain(self.shop)
        return buyer(web).send("POST", "/api/v1/checkout", order(self.variant, who, quantity))

    def refuse(self, web: Process, number: int) -> list[str]:
        """The two checkouts of a round that must leave nothing."""
        refused = self.buy(web, f"refused-{number}", quantity=900)
        rolled_back = self.buy(web, f"rollback-{number}")
        wrong = []
        if (refused.status, refused.code) != (409, "out_of_stock"):
            wrong.append(f"a checkout without stock got {refused.status} {refused.code}")
        if rolled_back.status != 500:
            wrong.append(f"a checkout whose commit failed got {rolled_back.status}")
        return wrong

    def kill(self, web: Process, number: int) -> list[str]:
        """Buy, die, be confirmed; what was wrong."""
        frozen = self.relay is not None and number % 2 == 0
        if frozen and self.relay is not None:
            self.relay.popen.send_signal(signal.SIGSTOP)
        self.point.arm()
        name = f"buyer-{number}"
        self.buyers.append(name + mails.domain(self.shop))
        reply = self.buy(web, name)
        wrong = [self.point.killed(web, number + 1)]
        if reply.status:
            wrong.append(f"the killed server answered {reply.status}")
        if frozen and self.relay is not None:
            waiting = self.shop.number("SELECT count(*) FROM taskqueue_outbox")
            self.relay.popen.send_signal(signal.SIGCONT)
            if waiting != 1:
                wrong.append(f"{waiting} outbox rows after the kill instead of 1")
        return [each for each in (*wrong, self._confirmed(self.buyers[-1])) if each]

    def settle(self, web: Process) -> list[str]:
        """One undisturbed purchase after all kills, then count everything."""
        name = "last"
        self.buyers.append(name + mails.domain(self.shop))
        reply = self.buy(web, name)
        if reply.status != 201:
            return [f"an undisturbed checkout got {reply.status}"]
        wrong = [self._confirmed(self.buyers[-1])]
        wait_until(
            lambda: not self.shop.number("SELECT count(*) FROM taskqueue_outbox"),
            timeout=self.mail_seconds,
            what="an empty outbox",
        )
        return [each for each in wrong if each] + mails.judge(self.shop, self.mailbox, self.buyers)

    def _confirmed(self, address: str) -> str:
        begin = time.monotonic()
        try:
            self.mailbox.wait_for(1, to=address, timeout=self.mail_seconds)
        except AssertionError:
            return f"no e-mail to {address} within {self.mail_seconds:g} s"
        self.waits.append(time.monotonic() - begin)
        return ""


def main() -> int:
    """Run the proof; the exit code."""
    proof = options("kill_web", __doc__ or "", rounds=20, mutants=(NO_OUTBOX, NO_RELAY))
    with scratch(proof.name) as state, Stack.start(state) as stack:
        make_template(stack)
        judge(proof, partial(kills, stack, proof), mutant_rounds=MUTANT_ROUNDS)
    return proof.finish()


def kills(stack: Stack, proof: Proof, mutant: str, rounds: int) -> list[str]:
    """So many kills on a new database; what went wrong (a mutant stops at the first)."""
    run = Round(stack, mutant, rounds)
    step = counter(f"kill_web {mutant}".strip(), rounds)
    violations: list[str] = []
    web = run.web(0)
    for number in range(rounds):
        web.wait_for("/readyz", 60)
        violations += run.refuse(web, number)
        violations += run.kill(web, number)
        if mutant and violations:
            return violations
        web = run.web(number + 1)
        step(f"hits: {len(run.point.hits())} wrong: {len(violations)}")
    web.wait_for("/readyz", 60)
    violations += run.settle(web)
    if not mutant:
        hits = len(run.point.hits())
        proof.values |= {"rounds": rounds, "kills": hits, "emails": len(run.waits) - 1}
        proof.values |= {"rolled_back": rounds, "refused": rounds, **waited(run.waits)}
    return violations


if __name__ == "__main__":
    sys.exit(concluded("kill_web", main))
