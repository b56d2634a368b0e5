"""The state directory: who uses it, and how it goes away."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from pathlib import Path

from devstack.errors import DevstackError
from devstack.paths import ROOT

_held: dict[Path, int] = {}


def default_directory() -> Path:
    """`.devstack/` in the repository, or FS_STATE."""
    return Path(os.environ.get("FS_STATE", ROOT / ".devstack")).resolve()


def lock(directory: Path) -> None:
    """Claim `directory` for this process until it ends, however it ends; DevstackError when it is
    taken.

    The kernel releases the lock of a killed process, so a pid file that was left behind cannot
    mislead.
    """
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        pid = holder(directory)
        raise DevstackError(
            f"The devstack in {directory} is already running (pid {pid}): "
            "`make status` shows it, `make down` stops it."
        ) from None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode())
    _held[directory.resolve()] = descriptor


def unlock(directory: Path) -> None:
    """Give `directory` back."""
    descriptor = _held.pop(directory.resolve(), None)
    if descriptor is not None:
        os.close(descriptor)


def is_locked(directory: Path) -> bool:
    """Whether a living process uses `directory`."""
    try:
        descriptor = os.open(directory / "lock", os.O_RDWR)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def holder(directory: Path) -> int:
    """The pid that claimed `directory` last (it may have ended, see `is_locked`), or 0."""
    try:
        return int((directory / "lock").read_text() or "0")
    except (FileNotFoundError, ValueError):
        return 0


def remove(directory: Path, *, keep: tuple[str, ...] = ()) -> None:
    """Delete `directory`, also database files that lie elsewhere, except the entries named in
    `keep`.
    """
    if not directory.is_dir():
        directory.unlink(missing_ok=True)
        return
    outside = directory / "postgres"
    if outside.is_symlink():
        shutil.rmtree(outside.resolve(), ignore_errors=True)
        outside.unlink()
    # The lock last: while it is held, nobody else clears this directory away.
    for entry in sorted(directory.iterdir(), key=lambda entry: entry.name == "lock"):
        if entry.name in keep:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    unlock(directory)
    if not keep:
        # Between the lock and here another run may have been faster.
        with contextlib.suppress(FileNotFoundError):
            directory.rmdir()
