"""Are requirements/*.txt compiled from this pyproject.toml? Offline, no resolver needed.

uv writes under each pin who asked for it. So a lock is current when the packages that the project
itself asked for are exactly the declared ones, at versions that the declarations allow.
"""

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.architecture.tree import ROOT

PIN = re.compile(r"^(?P<name>[A-Za-z0-9_.-]+)(?:\[[^\]]*\])?==(?P<version>[^\s;]+)")


def declared(project: dict[str, Any], group: str | None) -> list[Requirement]:
    """The runtime dependencies and, with a group, that group with everything it includes."""
    found = [Requirement(text) for text in project["project"]["dependencies"]]
    pending = [group] if group else []
    while pending:
        for entry in project["dependency-groups"][pending.pop()]:
            if isinstance(entry, dict):
                pending.append(entry["include-group"])
            else:
                found.append(Requirement(entry))
    return found


def pinned(lock: str) -> dict[str, tuple[str, str]]:
    """Package name -> version and the rest of its entry (hashes, who asked for it)."""
    pins: dict[str, tuple[str, str]] = {}
    for entry in re.split(r"\n(?=\S)(?!\s*#)", lock):
        if match := PIN.match(entry):
            pins[canonicalize_name(match["name"])] = (match["version"], entry)
    return pins


def differences(requirements: list[Requirement], lock: str) -> list[str]:
    """What recompiling would change among the direct dependencies, one sentence each."""
    pins = pinned(lock)
    wanted = {canonicalize_name(requirement.name): requirement for requirement in requirements}
    direct = {name for name, (_, entry) in pins.items() if "(pyproject.toml" in entry}
    found = [f"{name} is declared and not locked" for name in sorted(wanted.keys() - pins.keys())]
    found += [f"{name} is locked and no longer declared" for name in sorted(direct - wanted.keys())]
    found += [
        f"{name} {pins[name][0]} is locked, {requirement.specifier} is declared"
        for name, requirement in sorted(wanted.items())
        if name in pins and not requirement.specifier.contains(pins[name][0], prereleases=True)
    ]
    return found + [
        f"{name} has no hash" for name, (_, entry) in pins.items() if "--hash=sha256:" not in entry
    ]


def check(root: Path = ROOT) -> list[str]:
    """Every difference between pyproject.toml and the two lock files."""
    project = tomllib.loads((root / "pyproject.toml").read_text())
    app, dev = (root / "requirements" / name for name in ("app.txt", "dev.txt"))
    runtime, everything = pinned(app.read_text()), pinned(dev.read_text())
    found = [
        f"{app.name}: {line}" for line in differences(declared(project, None), app.read_text())
    ]
    found += [
        f"{dev.name}: {line}" for line in differences(declared(project, "dev"), dev.read_text())
    ]
    return found + [
        f"{name} is {version} in {app.name} and another version in {dev.name}"
        for name, (version, _) in runtime.items()
        if everything.get(name, ("", ""))[0] != version
    ]


if __name__ == "__main__":
    problems = check()
    print("\n".join([*problems, "run `make lock`"] if problems else ["locks match pyproject.toml"]))
    sys.exit(bool(problems))
