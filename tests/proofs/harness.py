"""What every proof shares: its options, its progress on stderr, its report and its RESULT line."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from devstack import state

ROOT = Path(__file__).resolve().parents[2]


@dataclass(slots=True)
class Proof:
    """One run of a proof: how much to do, and what it found so far."""

    name: str
    rounds: int
    mutants: tuple[str, ...] = ()
    only: str | None = None
    values: dict[str, Any] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    caught: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    def violated(self, what: str) -> None:
        """Note a broken promise of the real product; the proof ends as FAIL."""
        self.violations.append(what)
        say(f"{self.name}: VIOLATION {what}")

    def judge_mutant(self, mutant: str, violations: Sequence[str]) -> None:
        """A planted bug must be seen; one that stays unseen makes the proof itself FAIL."""
        (self.caught if violations else self.missed).append(mutant)
        seen = f"caught: {'; '.join(violations[:3])}" if violations else "NOT caught"
        say(f"{self.name}: mutant {mutant} {seen}")

    def finish(self) -> int:
        """Write the report, print the RESULT line; the exit code."""
        bad = bool(self.violations or self.missed)
        values = dict(self.values)
        if self.caught or self.missed:
            total = len(self.caught) + len(self.missed)
            values["mutants_caught"] = f"{len(self.caught)}/{total}"
        if bad:
            values["violations"] = len(self.violations)
            values["first"] = (self.violations or [f"mutant_{self.missed[0]}_not_caught"])[0]
        details = {"violation_list": self.violations, "caught": self.caught, "missed": self.missed}
        return finish(self.name, "FAIL" if bad else "ok", values, details=details)


def options(name: str, doc: str, *, rounds: int, mutants: Sequence[str]) -> Proof:
    """Read ROUNDS and MUTANTS from the command line or the environment.

    MUTANTS=1 is the default and runs every planted bug after the real product; MUTANTS=0 leaves
    them out; `--mutant NAME` runs only that one and fails as it would on a broken product.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m tests.proofs.{name}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    given = int(os.environ.get("ROUNDS", str(rounds)))
    parser.add_argument("--rounds", type=int, default=given, help=f"default: ROUNDS, else {rounds}")
    parser.add_argument("--no-mutants", action="store_true", help="only the real product")
    parser.add_argument("--mutant", choices=mutants, help="only this planted bug: must FAIL")
    found = parser.parse_args()
    planted = () if found.no_mutants or os.environ.get("MUTANTS") == "0" else tuple(mutants)
    return Proof(name, max(1, found.rounds), planted, found.mutant)


def judge(proof: Proof, play: Callable[[str, int], list[str]], *, mutant_rounds: int) -> None:
    """Play the real product (or the one mutant asked for), then every planted bug.

    `play(mutant, rounds)` returns the violations it saw; mutant "" is the real product.
    """
    for violation in play(proof.only or "", proof.rounds):
        proof.violated(violation)
    for mutant in () if proof.only else proof.mutants:
        proof.judge_mutant(mutant, play(mutant, mutant_rounds))


def explain(name: str, doc: str | None) -> None:
    """`--help` for a proof that reads everything else from the environment."""
    argparse.ArgumentParser(
        prog=f"python -m tests.proofs.{name}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()


def say(text: str) -> None:
    """One line of progress."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def counter(name: str, total: int) -> Callable[[str], None]:
    """A progress line that counts to `total`: rewritten on a terminal, every tenth elsewhere."""
    terminal = sys.stderr.isatty()
    begin = time.monotonic()
    done = 0

    def step(text: str) -> None:
        nonlocal done
        done += 1
        line = f"{name} {done}/{total}  {time.monotonic() - begin:.0f} s  {text}"
        if terminal:
            sys.stderr.write(f"\r\x1b[K{line}" + ("\n" if done == total else ""))
        elif done == total or done % max(1, total // 10) == 0:
            sys.stderr.write(line + "\n")
        sys.stderr.flush()

    return step


@contextmanager
def scratch(name: str) -> Iterator[Path]:
    """A state directory for one run. The logs of a run that raised stay until the next run."""
    home = state.default_directory() / "proofs"
    for old in home.glob(f"{name}-*"):
        if not state.is_locked(old):
            state.remove(old)
    path = home / f"{name}-{os.getpid()}"
    state.lock(path)
    try:
        yield path
    except BaseException:
        say(f"{name}: the logs are kept in {short(path)}/log")
        state.remove(path, keep=("log",))
        raise
    state.remove(path)


def waited(seconds: Sequence[float]) -> dict[str, float]:
    """Waiting times for the report."""
    if not seconds:
        return {}
    return {"median_s": round(median(seconds), 2), "slowest_s": round(max(seconds), 2)}


def concluded(name: str, main: Callable[[], int]) -> int:
    """Run `main`; an error that it does not expect ends in a RESULT line, too."""
    try:
        return main()
    except Exception as error:  # noqa: BLE001 - whatever it is, the last line must say FAIL
        traceback.print_exc()
        return finish(name, "FAIL", {"error": type(error).__name__}, details={"text": str(error)})


def finish(name: str, result: str, values: dict[str, Any], *, details: dict[str, Any]) -> int:
    """Write `.devstack/reports/<name>.json`, print the RESULT line last; the exit code."""
    reports = state.default_directory() / "reports"
    reports.mkdir(parents=True, exist_ok=True)
    report = {"result": result, **values, **details}
    (reports / f"{name}.json").write_text(json.dumps(report, indent=2) + "\n")
    fields = "".join(f" {key}={_word(value)}" for key, value in values.items())
    sys.stderr.flush()
    print(f"RESULT {name} {result}{fields}", flush=True)
    return {"ok": 0, "SKIPPED": 77}.get(result, 1)


def short(path: Path) -> str:
    """The path as a person in the repository would type it."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def _word(value: Any) -> str:
    return str(value).replace(" ", "_")
