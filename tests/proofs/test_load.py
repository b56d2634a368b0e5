"""`make load` counts exactly and ends with exit code 1 on a planted fault (against a fake shop)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.proofs.fake_shop import FakeShop, serving

ROOT = Path(__file__).resolve().parents[2]


def _load(state: Path, host: str) -> tuple[int, str, dict[str, object]]:
    command = [sys.executable, "-m", "loadtests", "--seconds", "40", "--users", "6"]
    command += ["--checkouts", "8"]
    env = {**os.environ, "FS_STATE": str(state), "HOST": host, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    counts = json.loads((state / "reports" / "load.json").read_text())
    return done.returncode, done.stdout.splitlines()[-1], counts


def test_a_good_run_counts_every_order_and_its_reading_back(tmp_path: Path) -> None:
    shop = FakeShop()
    with serving(shop) as host:
        code, last_line, counts = _load(tmp_path, host)
    assert code == 0
    assert last_line.startswith("RESULT load ok requests=")
    assert counts["requests"] == shop.requests
    assert counts["bought"] == counts["read_back"] == len(shop.orders) > 0
    assert counts["failures"] == 0
    assert "<html" in (tmp_path / "reports" / "load.html").read_text().lower()


def test_one_planted_500_makes_it_fail(tmp_path: Path) -> None:
    shop = FakeShop(fail_on=17)
    with serving(shop) as host:
        code, last_line, counts = _load(tmp_path, host)
    assert code == 1
    assert last_line.startswith("RESULT load FAIL reason=requests_failed")
    assert counts["failures"] == 1


@pytest.mark.parametrize("fault", ["forget", "rewrite"])
def test_an_order_that_cannot_be_read_back_makes_it_fail(tmp_path: Path, fault: str) -> None:
    shop = FakeShop(forget=fault == "forget", rewrite=fault == "rewrite")
    with serving(shop) as host:
        code, _, counts = _load(tmp_path, host)
    assert code == 1
    assert counts["read_back"] == 0
    assert counts["failures"] == counts["bought"] == len(shop.orders)


def test_sold_out_is_an_answer_and_not_a_failure(tmp_path: Path) -> None:
    shop = FakeShop(pieces=3)
    with serving(shop) as host:
        code, _, counts = _load(tmp_path, host)
    assert code == 0
    assert counts["bought"] == counts["read_back"] == 3
    assert counts["out_of_stock"] == shop.refused > 0
    assert counts["failures"] == 0


@pytest.mark.parametrize("host", ["", "shop.example", "http://127.0.0.1:1"])
def test_without_a_server_it_says_what_to_do(tmp_path: Path, host: str) -> None:
    """No devstack, a HOST that a shell exports as its machine's name, a dead server."""
    code, last_line, counts = _load(tmp_path, host)
    assert code == 1
    assert last_line == "RESULT load FAIL reason=no_target"
    assert counts["reason"] == "no_target"
