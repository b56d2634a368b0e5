"""The Dockerfiles: small, pinned by hash, without a root user, equal where they should be."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.platform.helm import ROOT

FILES = (ROOT / "Dockerfile", ROOT / "docker" / "fakes" / "Dockerfile")


def _bases(path: Path) -> list[str]:
    return re.findall(r"^FROM (\S+)", path.read_text(), re.MULTILINE)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.parent.name)
def test_dockerfile(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("# syntax=docker/dockerfile:1\n")
    assert _bases(path)[-1] == "python:3.13-slim-trixie"
    assert re.search(r"^USER 10001:10001$", text, re.MULTILINE)
    assert re.search(r'^ENTRYPOINT \["python", "-m", "', text, re.MULTILINE)
    assert "--require-hashes" in text
    assert "amd64" not in text
    final = text.rpartition("\nFROM ")[2]
    assert "pip install" not in final
    assert "apt-get" not in text


def test_both_images_share_their_bases() -> None:
    assert _bases(FILES[0]) == _bases(FILES[1])


def test_the_fakes_need_one_package() -> None:
    lock = (ROOT / "docker" / "fakes" / "requirements.txt").read_text()
    names = set(re.findall(r"^([a-z0-9-]+)==", lock, re.MULTILINE))
    assert names == {"aiosmtpd", "atpublic", "attrs"}
    assert lock.count("--hash=sha256:") >= len(names)


def test_the_build_context_is_an_allow_list() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert [r for r in rules if r.startswith("!")] == [
        "!app",
        "!fakes",
        "!requirements/app.txt",
        "!docker/fakes/requirements.txt",
    ]
