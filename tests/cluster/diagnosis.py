"""What a person wants to see at 3 a.m.: states, events, and the logs of whatever is not well."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.cluster.release import Release, statuses
from tests.proofs.harness import say

LINES = 40


def show(release: Release) -> None:
    """Print it to stderr; never raises."""
    try:
        for title, arguments in (
            ("pods", ["get", "pods,jobs,persistentvolumeclaims", "--output", "wide"]),
            ("events", ["get", "events", "--sort-by=.lastTimestamp"]),
        ):
            _section(title, release.kubectl(*arguments, check=False))
        for pod in release.get("pods"):
            for container, why in _unwell(pod):
                name = pod["metadata"]["name"]
                _section(f"{name}/{container}: {why}", _logs(release, name, container))
    except (RuntimeError, KeyError, ValueError) as error:
        say(f"cluster-test: no diagnosis: {error}")


def _section(title: str, text: str) -> None:
    lines = text.strip().splitlines()
    say(f"--- {title}")
    for line in lines[-LINES:]:
        say(f"    {line[:300]}")


def _logs(release: Release, pod: str, container: str) -> str:
    """Of the run before, if there was one, and of this one."""
    found = []
    for which in ("--previous=true", "--previous=false"):
        try:
            found.append(
                release.kubectl("logs", pod, "--container", container, f"--tail={LINES}", which)
            )
        except RuntimeError as error:
            if "previous terminated container" not in str(error):
                found.append(str(error))
    return "\n".join(found)


def _unwell(pod: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Every container but those that have ended well: the cause is often in one that runs."""
    for entry in statuses(pod):
        [(state, detail)] = entry["state"].items() or [("unknown", {})]
        if state == "terminated" and not detail.get("exitCode"):
            continue  # it has done its work
        last = entry.get("lastState", {}).get("terminated", {})
        before = f", before: {last['reason']} code {last['exitCode']}" if last else ""
        reason = detail.get("reason", "")
        yield entry["name"], f"{state} {reason} restarts={entry['restartCount']}{before}"
