"""What a person wants to see at 3 a.m.: states, events, and the logs of whatever is not well."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.cluster.release import Release
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
    arguments = ["logs", pod, "--container", container, f"--tail={LINES}"]
    before = release.kubectl(*arguments, "--previous", check=False)
    return f"{before}\n{release.kubectl(*arguments, check=False)}"


def _unwell(pod: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Containers that wait, failed, restarted or are not ready; of healthy releases, the app's."""
    status = pod["status"]
    statuses = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
    for entry in statuses:
        [(state, detail)] = entry["state"].items() or [("unknown", {})]
        if state == "terminated" and not detail.get("exitCode"):
            continue
        reason = detail.get("reason", "")
        yield entry["name"], f"{state} {reason} restarts={entry['restartCount']}"
