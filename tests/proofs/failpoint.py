"""Arms a named failpoint (app/taskqueue/failpoints.py) and reads who died there."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path

from devstack.process import Process

KILLED = -signal.SIGKILL


@dataclass(frozen=True, slots=True)
class Failpoint:
    """One name, armed by a file that the dying process removes."""

    name: str
    file: Path

    @property
    def setting(self) -> str:
        """FAILPOINTS of the process that shall die."""
        return f"{self.name}={self.file}"

    def arm(self) -> None:
        """The next process that passes dies."""
        self.file.touch()

    def hits(self) -> list[int]:
        """The process ids that died here, in order."""
        try:
            lines = Path(f"{self.file}.hits").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [int(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(self.name)]

    def killed(self, process: Process, round_number: int, seconds: float = 20.0) -> str:
        """Wait for the death of `process` at this point; what is wrong about it, or nothing."""
        code = process.wait(seconds)
        hits = self.hits()
        if code != KILLED or hits[-1:] != [process.pid] or len(hits) != round_number:
            return f"{process.name} ended with {code}, failpoint hits {len(hits)}/{round_number}"
        return ""
