"""Thread hops per route, exact (`make hops`): the table of tests/architecture/routes.toml, counted.

A hop costs more than the query of a hot read, and one stock middleware brings two. So the count is
a test: every route is called in the real application on a real database, and each call that leaves
the event loop is counted. Planted hops (a stock middleware, a DRF Response, to_thread, a new
thread) must be seen by the same program.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from devstack.stack import Stack
from tests.proofs import hop_mutants
from tests.proofs.harness import concluded, options, scratch
from tests.proofs.shop import run, run_app

COLUMNS = ("method", "route", "framework", "case", "expected", "counted", "how")


def main() -> int:
    """Run the proof; the exit code."""
    proof = options("hops", __doc__ or "", rounds=1, mutants=hop_mutants.MUTANTS)
    with scratch("hops") as state, Stack.start(state) as stack:
        env = stack.env(RATE_LIMIT_CHECKOUT="1000")  # the limiter counts, too
        prepare(env)
        rows = probe(env, state, proof.only or "")
        print(table(rows))
        for row in rows:
            if not row["ok"]:
                proof.violated(describe(row))
        for mutant in () if proof.only else proof.mutants:
            bad = [row for row in probe(env, state, mutant) if not row["ok"]]
            proof.judge_mutant(mutant, [describe(row) for row in bad])
    proof.values["routes"] = len({(row["method"], row["route"]) for row in rows})
    proof.values["cases"] = len(rows)
    return proof.finish()


def prepare(env: dict[str, str]) -> None:
    """Tables and a few products."""
    for command in (["migrate", "--verbosity", "0"], ["seed", "--products", "20"]):
        run_app(command, env)


def probe(env: dict[str, str], state: Path, mutant: str = "") -> list[dict[str, Any]]:
    """Count in a process of its own, because patches and mutants cannot be taken back."""
    output = state / "hops.json"
    output.unlink(missing_ok=True)
    run([sys.executable, "-m", "tests.proofs.hops_probe", str(output), mutant], env)
    rows: list[dict[str, Any]] = json.loads(output.read_text())
    return rows


def describe(row: dict[str, Any]) -> str:
    """One wrong row in words."""
    counted = "/".join(str(number) for number in sorted(set(row["counted"])))
    statuses = "/".join(str(status) for status in sorted(set(row["statuses"])))
    where = f"{row['method']} {row['route']} ({row['case']})"
    return f"{where}: {counted} hops instead of {row['expected']}, status {statuses}"


def table(rows: list[dict[str, Any]]) -> str:
    """The counts for people."""
    lines: list[tuple[str, ...]] = [COLUMNS]
    for row in rows:
        kinds = " ".join(f"{kind}={n}" for kind, n in row["kinds"].items() if n) or "-"
        counted = "/".join(str(number) for number in sorted(set(row["counted"])))
        facts = [str(row[name]) for name in COLUMNS[:5]]
        lines.append((*facts, counted + ("" if row["ok"] else "  WRONG"), kinds))
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


if __name__ == "__main__":
    sys.exit(concluded("hops", main))
