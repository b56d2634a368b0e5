"""`python -m tests.platform`: fetch helm if need be, run the tests, end with a RESULT line."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from tests.platform import helm
from tests.proofs.harness import finish


class Counts:
    """Counts outcomes while pytest runs."""

    def __init__(self) -> None:
        self.passed = self.failed = self.skipped = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One phase of one test has ended."""
        self.failed += report.failed
        self.skipped += report.skipped
        self.passed += report.when == "call" and report.passed


def main() -> int:
    """Run them; the exit code."""
    begin = time.monotonic()
    found = helm.fetch()
    version = helm.run("version", "--short").stdout.strip().partition("+")[0]
    print(f"helm {version}", file=sys.stderr)
    counts = Counts()
    # No conftest: these tests need no database, no Valkey and no settings.
    code = pytest.main(["--noconftest", "-q", str(Path(__file__).parent)], [counts])
    bad = bool(code or counts.failed or not counts.passed)
    values = {
        "passed": counts.passed,
        "failed": counts.failed,
        "skipped": counts.skipped,
        "seconds": round(time.monotonic() - begin, 1),
        "helm": version or Path(found).name,
    }
    return finish("platform", "FAIL" if bad else "ok", values, details={})


if __name__ == "__main__":
    sys.exit(main())
