"""`logs`: all log files as one stream, each line with the coloured name of its process."""

from __future__ import annotations

import time
from pathlib import Path
from typing import BinaryIO

from devstack.console import paint, say
from devstack.errors import DevstackError

_COLOURS = ("36", "35", "33", "32", "34", "96", "95", "93")
_LAST = 10  # lines of each file to begin with


def follow(directory: Path, *, once: bool) -> int:
    """Print the last lines of each log, then new ones until Ctrl-C; with `once` return."""
    if not any(directory.glob("*.log")):
        raise DevstackError("There are no logs yet: `make up` starts the devstack.")
    files: dict[Path, BinaryIO] = {}
    try:
        while True:
            for path in sorted(directory.glob("*.log")):
                if path not in files or _replaced(path, files[path]):
                    files[path] = path.open("rb")
                    _print(path, files[path].read().splitlines()[-_LAST:])
                _print(path, _new_lines(files[path]))
            if once:
                return 0
            time.sleep(0.2)
    except KeyboardInterrupt:
        return 0
    finally:
        for file in files.values():
            file.close()


def _new_lines(file: BinaryIO) -> list[bytes]:
    """Whole lines only; the beginning of one stays for the next time."""
    start = file.tell()
    data = file.read()
    whole = data.rfind(b"\n") + 1
    file.seek(start + whole)
    return data[:whole].splitlines()


def _replaced(path: Path, file: BinaryIO) -> bool:
    """Whether another `up` has begun the log anew."""
    try:
        return path.stat().st_size < file.tell()
    except FileNotFoundError:
        return False


def _print(path: Path, lines: list[bytes]) -> None:
    prefix = paint(f"{path.stem:>12} |", _COLOURS[sum(path.stem.encode()) % len(_COLOURS)])
    for line in lines:
        say(f"{prefix} {line.decode(errors='replace')}")
