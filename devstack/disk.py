"""Enough room for a database, checked before half of it is written."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from devstack.errors import DevstackError

NEEDED_MB = 500


def require_space(directory: Path) -> None:
    """DevstackError when the disk under `directory` has less than 500 MB (FS_MIN_FREE_MB) left."""
    existing = next(path for path in (directory, *directory.resolve().parents) if path.exists())
    free = shutil.disk_usage(existing).free // 1_000_000
    needed = int(os.environ.get("FS_MIN_FREE_MB", NEEDED_MB))
    if free < needed:
        raise DevstackError(
            f"Only {free} MB are free under {directory} and {needed} MB are needed: "
            "delete something, or set FS_STATE to a directory on another disk."
        )
