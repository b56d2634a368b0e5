"""A shop of a proof: its own database and queue prefix on the proof's stack, its processes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any, LiteralString

import psycopg

from devstack.ports import HOST, find_free
from devstack.process import Command, Process, launch
from devstack.stack import Stack
from tests.proofs.buyer import Buyer
from tests.proofs.harness import ROOT, say

TEMPLATE = "proof_template"

# Variants with exactly `units` pieces, priced, and with the ledger row of goods received.
_NEW_VARIANTS: LiteralString = """
WITH model AS (
    SELECT v.product_id, v.seller_id, p.currency, p.amount_minor, s.warehouse_id
    FROM inventory_variant v JOIN inventory_price p ON p.variant_id = v.id AND p.currency = 'NGN'
    JOIN inventory_stocklevel s ON s.variant_id = v.id
    JOIN inventory_product d ON d.id = v.product_id AND d.status = 'active'
    ORDER BY v.id LIMIT 1),
made AS (
    INSERT INTO inventory_variant (public_id, product_id, seller_id, sku, options, position)
    SELECT uuidv7(), product_id, seller_id, %(sku)s || n, '{}', 1000 + n
    FROM model, generate_series(1, %(count)s) n RETURNING id, public_id),
priced AS (
    INSERT INTO inventory_price (variant_id, currency, amount_minor)
    SELECT made.id, currency, amount_minor FROM made, model),
stocked AS (
    INSERT INTO inventory_stocklevel
        (seller_id, warehouse_id, variant_id, on_hand, reserved, version)
    SELECT seller_id, warehouse_id, made.id, %(units)s, 0, 1 FROM made, model RETURNING id),
moved AS (
    INSERT INTO inventory_stockmovement
        (stock_id, kind, on_hand_delta, reserved_delta, reference, created_at)
    SELECT id, 'received', %(units)s, 0, 'proof', now() FROM stocked)
SELECT public_id FROM made ORDER BY id
"""

# Invariant I1 (commerce page, section 4): each of these must find nothing.
BOOKKEEPING: dict[str, LiteralString] = {
    "counters differ from the ledger": """
        SELECT s.id FROM inventory_stocklevel s
        LEFT JOIN inventory_stockmovement m ON m.stock_id = s.id GROUP BY s.id
        HAVING s.on_hand <> coalesce(sum(m.on_hand_delta), 0)
            OR s.reserved <> coalesce(sum(m.reserved_delta), 0)""",
    "reserved differs from the live reservations": """
        SELECT s.id FROM inventory_stocklevel s
        LEFT JOIN inventory_reservationline l ON l.stock_id = s.id
        LEFT JOIN inventory_reservation r ON r.id = l.reservation_id
        GROUP BY s.id HAVING s.reserved <> coalesce(
            sum(l.quantity) FILTER (WHERE r.state IN ('held', 'committed')), 0)""",
    "more reserved than on hand": """
        SELECT id FROM inventory_stocklevel WHERE reserved > on_hand OR reserved < 0""",
    "an order without its reservation": """
        SELECT o.id FROM orders_order o WHERE NOT EXISTS (
            SELECT 1 FROM inventory_reservation r WHERE r.reference = o.reservation_reference)""",
}


@dataclass
class Shop:
    """A seeded database, a queue prefix, and the processes that work on them."""

    stack: Stack
    name: str
    env: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        dsn = self.stack.create_database(self.name, template=TEMPLATE)
        self.env = self.stack.env(DATABASE_URL=dsn, QUEUE_PREFIX=self.name)

    def spawn(self, command: list[str], name: str, *, change: str = "", **env: str) -> Process:
        """Start a process of the app, or of the app with a planted change (`mutant_app`)."""
        whole = {**self.env, **env}
        if not change:
            return self.stack.spawn(command, env=whole, name=f"{self.name}-{name}")
        port = str(find_free(1)[0])
        words = [port if word == "0" else word for word in command]
        argv = [sys.executable, "-m", "tests.proofs.mutant_app", change, *words]
        log = self.stack.state_dir / "log" / f"{self.name}-{name}.log"
        process = launch(
            Command(
                name=log.stem, argv=argv, log=log, env=whole, cwd=ROOT, url=f"http://{HOST}:{port}"
            )
        )
        self.stack.children.append(process)
        return process

    def serve(self, name: str = "web", *, change: str = "", **env: str) -> Process:
        """A web process that answers."""
        process = self.spawn(["serve", "--port", "0"], name, change=change, **env)
        process.wait_for("/readyz", 60)
        return process

    def new_variants(self, count: int, units: int, sku: str = "LAST-") -> list[str]:
        """Public ids of new variants with so many pieces each."""
        from app.common.ids import encode

        rows = self.sql(_NEW_VARIANTS, {"count": count, "units": units, "sku": sku})
        return [encode("var", row[0]) for row in rows]

    def sql(self, query: LiteralString, values: Any = None) -> list[Any]:
        """Rows of one statement, as the app's role."""
        with psycopg.connect(self.env["DATABASE_URL"], autocommit=True) as connection:
            cursor = connection.execute(query, values)
            return cursor.fetchall() if cursor.description else []

    def number(self, query: LiteralString, values: Any = None) -> int:
        """The one number that a query gives."""
        return int(self.sql(query, values)[0][0])

    def bookkeeping(self) -> list[str]:
        """What does not add up."""
        found = ((what, len(self.sql(query))) for what, query in BOOKKEEPING.items())
        return [f"{what} ({count} rows)" for what, count in found if count]


def buyer(process: Process) -> Buyer:
    """A customer of that web process."""
    return Buyer(process.url)


def make_template(stack: Stack, products: int = 10) -> None:
    """Migrate and seed once; every shop is a copy."""
    dsn = stack.create_database(TEMPLATE)
    env = stack.env(DATABASE_URL=dsn)
    for command in (["migrate", "--verbosity", "0"], ["seed", "--products", str(products)]):
        run_app(command, env)


def run_app(command: list[str], env: dict[str, str]) -> None:
    """Run a command of the app to its end; RuntimeError with its output when it fails."""
    run([sys.executable, "-m", "app", *command], env)


def run(command: list[str], env: dict[str, str]) -> None:
    """Run a command to its end, quietly; RuntimeError after showing its output when it fails."""
    done = subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=180, check=False
    )
    if done.returncode:
        say(done.stdout[-2000:] + done.stderr[-4000:])
        message = f"{' '.join(command[1:4])} ended with {done.returncode}"
        raise RuntimeError(message)
