"""`make check` and `.ci/run` hide no failure, say what they skip, and leave nothing running.

The real scripts run on a tree of stand-ins: a Makefile whose targets end as told.
"""

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT

TARGETS = ["setup", "lint", "types", "contracts", "chart", "hops", "prove", "cluster-test", "test"]
STUB = "#!/bin/sh\nexit 0\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The two scripts among stand-ins."""
    root = tmp_path / "main"
    for name in ["devstack/check.sh", ".ci/run"]:
        (root / name).parent.mkdir(parents=True)
        shutil.copy(ROOT / name, root / name)
    for name in ["python", "pre-commit", "shellcheck"]:
        stub = root / ".venv/bin" / name
        stub.parent.mkdir(parents=True, exist_ok=True)
        stub.write_text(STUB)
        stub.chmod(0o755)
    rules = [
        f"{target}:\n\t@echo {target} ran; sleep $${{SLEEP_{name}:-0}}; exit $${{CODE_{name}:-0}}"
        for target in TARGETS
        for name in [target.replace("-", "_")]
    ]
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    (root / "Makefile").write_text("\n".join([*rules, "check:\n\t@bash devstack/check.sh", ""]))
    return root


def run(root: Path, script: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", script],
        cwd=root,
        env={"PATH": os.environ["PATH"], "SHARED": str(root.parent / "shared"), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )


def results(output: str) -> dict[str, str]:
    """The table of steps."""
    table = output.rpartition("step         result")[2]
    return dict(re.findall(r"^(\w+) +(ok|FAILED \(\d+\)) +\d+$", table, re.MULTILINE))


def test_green_run_ends_with_the_tests(tree: Path) -> None:
    done = run(tree, "devstack/check.sh")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "test ran"
    assert list(results(done.stdout).values()) == ["ok"] * 11


@pytest.mark.parametrize("target", ["lint", "chart", "prove"])
def test_failed_step_fails_the_check_and_the_rest_still_runs(tree: Path, target: str) -> None:
    done = run(tree, "devstack/check.sh", **{f"CODE_{target}": "3"})
    name = {"prove": "proofs"}.get(target, target)
    assert done.returncode == 1
    assert results(done.stdout)[name] == "FAILED (2)"  # make's own code for a failed recipe
    assert "\ntest ran\n" in done.stdout
    assert done.stdout.splitlines()[-1] == f"make check: FAILED: {name}"


def test_failed_tests_fail_the_check(tree: Path) -> None:
    assert run(tree, "devstack/check.sh", CODE_test="1").returncode != 0


def test_ci_without_a_cluster_says_so_and_ends_with_the_tests(tree: Path) -> None:
    done = run(tree, ".ci/run")
    assert done.returncode == 0
    assert "SKIPPED cluster-test: no cluster here" in done.stdout
    assert "cluster-test ran" not in done.stdout
    assert done.stdout.splitlines()[-1] == "test ran"


def test_ci_runs_the_cluster_test_first_and_reports_its_failure_last(tree: Path) -> None:
    done = run(tree, ".ci/run", KUBECONFIG="/dev/null")
    assert done.returncode == 0
    assert done.stdout.index("cluster-test ran") < done.stdout.index("lint ran")
    done = run(tree, ".ci/run", KUBECONFIG="/dev/null", CODE_cluster_test="1")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == ".ci/run: FAILED: cluster-test"


@pytest.mark.parametrize("code", [("CODE_setup", "1"), ("CODE_test", "1"), ("CODE_types", "1")])
def test_ci_hides_no_failure(tree: Path, code: tuple[str, str]) -> None:
    assert run(tree, ".ci/run", **dict([code])).returncode != 0


@pytest.mark.parametrize("script", ["devstack/check.sh", ".ci/run"])
def test_stopped_run_leaves_nothing_behind(tree: Path, script: str) -> None:
    with subprocess.Popen(
        ["bash", script],
        cwd=tree,
        env={"PATH": os.environ["PATH"], "SHARED": "/nonexistent", "SLEEP_lint": "86399"},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line == "lint ran\n":
                break
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 143
    deadline = time.monotonic() + 10
    while sleepers(tree) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert sleepers(tree) == []


def sleepers(root: Path) -> list[str]:
    """Processes that still work in the tree."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() == root:
                found.append((process / "cmdline").read_text())
        except OSError:
            continue
    return found
