"""The race for the last unit, in few rounds: none is sold twice, and the planted bug is seen."""

from __future__ import annotations

import pytest

from tests.proofs import last_unit, mutant_app
from tests.proofs.failpoint import Failpoint
from tests.proofs.harness import Proof
from tests.proofs.shop import Shop, run_app
from tests.support.database import copy_of_template
from tests.support.session import Lane


def _shop(lane: Lane, name: str) -> Shop:
    """A seeded shop on the stack of this test run."""
    name = f"{lane.database}_{name}"
    dsn = copy_of_template(lane.stack, name)
    run_app(["seed", "--products", "5"], lane.env(DATABASE_URL=dsn))
    return Shop(lane.stack, name)


def test_the_last_unit_is_sold_once(lane: Lane) -> None:
    proof = Proof("last_unit", 12)
    assert last_unit.race(_shop(lane, "race"), proof, "", 12) == []
    assert proof.values["orders"] == 12


def test_a_lost_where_guard_is_seen(lane: Lane) -> None:
    proof = Proof("last_unit", 4)
    violations = last_unit.race(
        _shop(lane, "guard"), proof, mutant_app.NO_WHERE_GUARD, 4, servers=1
    )
    assert "4 units were sold twice" in violations
    assert "more reserved than on hand (4 rows)" in violations


def test_a_mutant_that_nobody_sees_makes_the_proof_fail(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FS_STATE", str(tmp_path))
    proof = Proof("planted", 1, violations=[])
    proof.judge_mutant("seen", ["sold twice"])
    assert proof.finish() == 0
    proof.judge_mutant("unseen", [])
    assert proof.finish() == 1
    assert capsys.readouterr().out.splitlines() == [
        "RESULT planted ok mutants_caught=1/1",
        "RESULT planted FAIL mutants_caught=1/2 violations=0 first=mutant_unseen_not_caught",
    ]


def test_a_kill_counts_only_at_the_failpoint(lane: Lane, tmp_path: object) -> None:
    """A process that dies of something else is no evidence."""
    point = Failpoint("worker.mid_task", lane.stack.state_dir / f"{lane.database}.armed")
    point.arm()
    process = lane.stack.spawn(["check"], env=lane.env(), name=f"{lane.database}-check")
    process.kill9()
    assert point.killed(process, 1) == f"{process.name} ended with -9, failpoint hits 0/1"
