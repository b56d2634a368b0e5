"""The Lua scripts, as loaded: first line, then common.lua, then the body of the file."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path

Argument = str | int | bytes
Command = tuple[Argument, ...]

_DIRECTORY = Path(__file__).parent / "scripts"


@dataclass(frozen=True, slots=True)
class Script:
    """One script and the digest the servers know it by."""

    name: str
    text: str
    sha: str

    def call(self, tag: str, *arguments: Argument) -> Command:
        """The command that runs this script on the shard of `tag`."""
        return ("EVALSHA", self.sha, 1, tag, *arguments)


def _load(name: str) -> Script:
    first, _, body = (_DIRECTORY / f"{name}.lua").read_text().partition("\n")
    text = "\n".join((first, (_DIRECTORY / "common.lua").read_text(), body))
    return Script(name, text, sha1(text.encode(), usedforsecurity=False).hexdigest())


ENQUEUE = _load("enqueue")
CLAIM = _load("claim")
HEARTBEAT = _load("heartbeat")
FINISH = _load("finish")
RETRY = _load("retry")
RELEASE = _load("release")
PRUNE = _load("prune")
REVIVE = _load("revive")
CANCEL = _load("cancel")
SHOW = _load("show")
STATS = _load("stats")

ALL: Sequence[Script] = (
    *(ENQUEUE, CLAIM, HEARTBEAT, FINISH, RETRY, RELEASE),
    *(PRUNE, REVIVE, CANCEL, SHOW, STATS),
)

LOAD_ALL: Sequence[Command] = tuple(("SCRIPT", "LOAD", script.text) for script in ALL)


def key_of(command: Command) -> str:
    """The key that decides which node gets `command`."""
    return str(command[3] if command[0] == "EVALSHA" else command[1])
