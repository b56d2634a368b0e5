"""Size and content of the committed files."""

import re

import pytest

from tests.architecture.tree import ROOT, python_files, texts, tracked

# One letter of each stands in brackets, so that this file does not match itself.
FOREIGN = {
    "path of one machine": re.compile(r"(?<![\w.])/(?:wor[k]/|roo[t]/(?!\.cache/)|hom[e]/\w+/)"),
    "package registry": re.compile(
        r"pyp[i]\.org|pythonhoste[d]\.org|npmj[s]\.(?:org|com)|proxy\.golan[g]\.org"
        r"|deb\.debia[n]\.org|repo1?\.mave[n]\.(?:org|apache\.org)|crate[s]\.io|index-ur[l]"
    ),
}


def test_python_files_stay_short() -> None:
    lengths = {str(path): len((ROOT / path).read_text().splitlines()) for path in python_files()}
    assert {path: n for path, n in lengths.items() if n > 400} == {}
    assert lengths["app/config/settings.py"] <= 250


def foreign(kind: str, text: str) -> list[str]:
    return [match.group() for match in FOREIGN[kind].finditer(text)]


@pytest.mark.parametrize("kind", FOREIGN)
def test_no_file_names_a(kind: str) -> None:
    found = {str(path): foreign(kind, text) for path, text in texts()}
    assert {path: hits for path, hits in found.items() if hits} == {}


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("path of one machine", "cd /wor" + "k/main"),
        ("path of one machine", "PATH=/roo" + "t/.local/bin"),
        ("path of one machine", "file:///hom" + "e/ada/x"),
        ("package registry", "https://pyp" + "i.org/simple"),
        ("package registry", "https://registry.npmj" + "s.org/x"),
    ],
)
def test_planted_name_is_found(kind: str, text: str) -> None:
    assert foreign(kind, text) != []


def test_no_lock_names_a_download_host() -> None:
    assert [path for path in tracked() if path.name in {"uv.lock", "poetry.lock"}] == []


def test_scripts_can_be_run_by_hand() -> None:
    scripts = [path for path, text in texts() if text.startswith("#!/")]
    assert [str(path) for path in scripts if not (ROOT / path).stat().st_mode & 0o111] == []
