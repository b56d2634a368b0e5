"""What the documents point at exists, and what they list is complete."""

import ast
import re
from pathlib import Path

import pytest
import yaml

from tests.architecture import rules
from tests.architecture.tree import ROOT, parse, python_files, tracked
from tests.architecture.yaml_files import load_all

LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
VERB = re.compile(r"\bmake ([a-z][a-z-]*)")
TARGET = re.compile(r"^([a-z][a-z0-9 -]*):(?!=)", re.MULTILINE)
SETTING = re.compile(r"^\| `([A-Z][A-Z0-9_]+)`", re.MULTILINE)

DOCUMENTS = [path for path in tracked() if path.suffix == ".md"]


def slug(heading: str) -> str:
    """The anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def dead_links(document: Path, text: str) -> list[str]:
    """Relative targets that are not in the tree, and anchors without a heading."""
    found = []
    for match in LINK.finditer(text):
        target = match[1] or match[2]
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (ROOT / document.parent / name) if name else ROOT / document
        if not file.exists():
            found.append(target)
        elif anchor and file.suffix == ".md":
            content = text if not name else file.read_text()
            headings = re.findall(r"^#+ (.*)$", content, re.MULTILINE)
            if anchor not in {slug(heading) for heading in headings}:
                found.append(target)
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_links_resolve(document: Path) -> None:
    assert dead_links(document, (ROOT / document).read_text()) == []


def test_planted_dead_link_is_found() -> None:
    text = "# A title\n[a](nowhere.md) [b](#a-title) [c](#missing) [d](https://example.com/x)"
    assert dead_links(Path("README.md"), text) == ["nowhere.md", "#missing"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_make_verbs_exist(document: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = {name for line in TARGET.findall(makefile) for name in line.split()}
    in_code = "\n".join(
        re.findall(r"```.*?```|`[^`\n]+`", (ROOT / document).read_text(), re.DOTALL)
    )
    assert sorted(set(VERB.findall(in_code)) - targets) == []


def test_adrs_are_numbered_without_gaps_and_have_the_four_parts() -> None:
    adrs = sorted(path for path in tracked() if path.parent == Path("docs/adr"))
    assert [path.name[:5] for path in adrs] == [f"{n:04}-" for n in range(1, len(adrs) + 1)]
    for path in adrs:
        text = (ROOT / path).read_text()
        parts = ["Status: accepted", "## Context", "## Decision", "## Consequences"]
        assert [part for part in parts if part not in text] == [], path
        assert len(text.splitlines()) <= 60, path


def test_readme_lists_every_setting() -> None:
    listed = set(SETTING.findall((ROOT / "README.md").read_text()))
    standard = {name for name in listed if name.startswith("OTEL_")} - settings_read()
    assert listed - standard == settings_read()
    tracing = (ROOT / "app/telemetry/tracing.py").read_text()
    assert [name for name in sorted(standard) if f'"{name}"' not in tracing] == []


def settings_read() -> set[str]:
    """The variables of our own that are read: upper-case text given to a reading call."""
    names: set[str] = set()
    for path in {"app/config/settings.py"} | rules.ENVIRONMENT - {"app/telemetry/tracing.py"}:
        for node in ast.walk(parse(Path(path))):
            if not isinstance(node, ast.Call) or ast.unparse(node.func).endswith(".setdefault"):
                continue
            value = getattr(node.args[0], "value", None) if node.args else None
            if isinstance(value, str) and re.fullmatch(r"[A-Z][A-Z0-9_]{3,}", value):
                names.add(value)
    return names


def test_yaml_files_load() -> None:
    files = [
        path
        for path in tracked()
        if path.suffix in {".yaml", ".yml"} and not {"charts", "templates"} <= set(path.parts)
    ]
    for path in files:
        load_all((ROOT / path).read_text())


def test_planted_double_key_is_refused() -> None:
    with pytest.raises(yaml.YAMLError, match="key twice: a"):
        load_all("a: 1\na: 2\n")


def test_public_modules_say_what_they_are_for() -> None:
    silent = [
        str(path)
        for path in python_files("app")
        if path.name != "__init__.py" and ast.get_docstring(parse(path)) is None
    ]
    assert silent == []
