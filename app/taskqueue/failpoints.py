"""Named points at which a test may kill this process. No-ops unless FAILPOINTS is set.

FAILPOINTS="name=/path/file,..." arms a name while its file exists: whoever removes the file first
(one process, atomically) appends "<name> <pid>" to `<file>.hits` and dies by SIGKILL.
"""

import os
import signal
from pathlib import Path


def _armed() -> dict[str, Path]:
    pairs = (item.partition("=") for item in os.environ.get("FAILPOINTS", "").split(",") if item)
    return {name.strip(): Path(path.strip()) for name, _, path in pairs}


_FILES = _armed()  # the environment of the start; never read again on a hot path


def failpoint(name: str) -> None:
    """Die here by SIGKILL when `name` is armed."""
    if not _FILES or name not in _FILES:
        return
    file = _FILES[name]
    try:
        file.unlink()
    except FileNotFoundError:
        return
    with Path(f"{file}.hits").open("a") as hits:
        hits.write(f"{name} {os.getpid()}\n")
    os.kill(os.getpid(), signal.SIGKILL)
