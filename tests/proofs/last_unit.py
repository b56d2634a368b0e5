"""Two buyers, one unit, two server processes (`make prove`): never two orders.

Each round puts one piece on sale. Two customers, on keep-alive connections to two `serve`
processes, have sent all but the last byte of their checkout; then both last bytes go out. Exactly
one gets 201, the other 409 out_of_stock; at the end the counters equal the ledger and the live
reservations, and only the orders that were placed have a task.

Planted bugs, each in its own database without the CHECK constraint: `no_where_guard` (the UPDATE
lost its condition) and `no_row_lock` (availability is read without a lock, then written without the
condition: right for one buyer, wrong for two at once).
"""

from __future__ import annotations

import sys
from collections import Counter

from devstack.stack import Stack
from tests.proofs import mutant_app
from tests.proofs.buyer import Buyer, Reply, order
from tests.proofs.harness import Proof, concluded, counter, judge, options, scratch
from tests.proofs.shop import Shop, buyer, make_template

MUTANTS = (mutant_app.NO_WHERE_GUARD, mutant_app.NO_ROW_LOCK)
MUTANT_ROUNDS = 40


def main() -> int:
    """Run the proof; the exit code."""
    proof = options("last_unit", __doc__ or "", rounds=200, mutants=MUTANTS)
    with scratch(proof.name) as state, Stack.start(state) as stack:
        make_template(stack)

        def play(mutant: str, rounds: int) -> list[str]:
            return race(Shop(stack, f"last_unit_{mutant or 'real'}"), proof, mutant, rounds)

        judge(proof, play, mutant_rounds=min(MUTANT_ROUNDS, proof.rounds))
    return proof.finish()


def race(shop: Shop, proof: Proof, mutant: str, rounds: int, servers: int = 2) -> list[str]:
    """So many rounds; what went wrong. Two buyers, on as many servers as there are."""
    if mutant:
        shop.sql(mutant_app.DROP_CHECK)
    command = ["serve", "--port", "0"]
    webs = [shop.spawn(command, f"web-{number}", change=mutant) for number in range(servers)]
    for web in webs:
        web.wait_for("/readyz", 60)
    buyers = [buyer(webs[number % servers]) for number in range(2)]
    step = counter(f"last_unit {mutant}".strip(), rounds)
    outcomes: Counter[str] = Counter()
    for number, variant in enumerate(shop.new_variants(rounds, units=1)):
        replies = _compete(buyers, variant, number)
        outcomes["+".join(sorted(_outcome(reply) for reply in replies))] += 1
        step(" ".join(f"{name}: {count}" for name, count in sorted(outcomes.items())))
    violations = _judge(shop, outcomes, rounds)
    for each in buyers:
        each.close()
    for web in webs:
        web.stop()
    if not mutant:
        proof.values |= {"rounds": rounds, "orders": _orders(shop), "servers": len(webs)}
    if mutant == mutant_app.NO_ROW_LOCK:
        # How often both were inside at once: the power of this race, not a promise.
        proof.values["raced"] = f"{outcomes['201+201']}/{rounds}"
    return violations


def _compete(buyers: list[Buyer], variant: str, number: int) -> list[Reply]:
    """Both requests wait inside their servers; then they go on, in turns as to who is first."""
    for index, each in enumerate(buyers):
        each.prepare("POST", "/api/v1/checkout", order(variant, f"{index}-{number}@proof.example"))
    for each in buyers if number % 2 else reversed(buyers):
        each.fire()
    return [each.answer() for each in buyers]


def _outcome(reply: Reply) -> str:
    return f"{reply.status} {reply.code}".strip()


def _orders(shop: Shop) -> int:
    return shop.number("SELECT count(*) FROM orders_order")


def _judge(shop: Shop, outcomes: Counter[str], rounds: int) -> list[str]:
    violations = [
        f"{count} rounds ended with {name}"
        for name, count in outcomes.items()
        if name != "201+409 out_of_stock"
    ]
    sold = shop.number(
        "SELECT count(*) FROM (SELECT variant_public_id FROM orders_orderline"
        " GROUP BY 1 HAVING sum(quantity) > 1) twice"
    )
    if sold:
        violations.append(f"{sold} units were sold twice")
    if _orders(shop) != rounds:
        violations.append(f"{_orders(shop)} orders for {rounds} units")
    tasks = shop.number("SELECT count(*) FROM taskqueue_outbox")  # no relay runs: all are here
    if tasks != _orders(shop):
        violations.append(f"{tasks} e-mail tasks for {_orders(shop)} orders")
    return violations + shop.bookkeeping()


if __name__ == "__main__":
    sys.exit(concluded("last_unit", main))
