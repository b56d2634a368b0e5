"""The last line of a proof, and the same as JSON in `.devstack/reports/`."""

from __future__ import annotations

import json

from devstack import state
from devstack.console import say


def result(name: str, *, ok: bool, **facts: object) -> int:
    """Print `RESULT <name> ok|FAIL key=value …`, write the report, return the exit code."""
    verdict = "ok" if ok else "FAIL"
    reports = state.default_directory() / "reports"
    reports.mkdir(parents=True, exist_ok=True)
    report = {"name": name, "verdict": verdict} | facts
    (reports / f"{name}.json").write_text(json.dumps(report, default=str, indent=2) + "\n")
    words = " ".join(f"{key}={_word(value)}" for key, value in facts.items())
    say(f"\nRESULT {name} {verdict} {words}".rstrip())
    return 0 if ok else 1


def _word(value: object) -> str:
    text = str(value)
    return json.dumps(text) if " " in text else text
