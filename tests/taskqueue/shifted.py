"""The shipped scripts on a clock that a test moves.

`now()` of common.lua asks the server for its TIME; here that one expression reads the key `:clock`
of the shard instead. The change is made in the test's copy of the text: what is shipped has no
switch for it, so nothing in a production cluster can shift its time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha1
from unittest import mock

from app.taskqueue import cluster, lua, operations, outbox
from app.taskqueue.lua import Script

TIME = "redis.call('TIME')"
CLOCK = "(function() local c = redis.call('GET', T .. ':clock') " + (
    "return { math.floor(c / 1000), (c % 1000) * 1000 } end)()"
)

Edit = tuple[str, str, str]  # script, shipped text, what stands there instead


def shifted(script: Script, edits: tuple[Edit, ...] = ()) -> Script:
    """A copy of `script` on the test's clock, with planted bugs if any are given."""
    assert script.text.count(TIME) == 1
    text = script.text.replace(TIME, CLOCK)
    for name, old, new in edits:
        if name == script.name:
            assert text.count(old) == 1, (name, old)
            text = text.replace(old, new)
    return Script(script.name, text, sha1(text.encode(), usedforsecurity=False).hexdigest())


@contextmanager
def scripts(edits: tuple[Edit, ...] = ()) -> Iterator[dict[str, Script]]:
    """All scripts, shifted, by name. New connections load them; outbox and operations use them."""
    copies = {script.name: shifted(script, edits) for script in lua.ALL}
    loads = (*lua.LOAD_ALL, *(("SCRIPT", "LOAD", copy.text) for copy in copies.values()))
    with (
        mock.patch.object(cluster, "LOAD_ALL", loads),
        mock.patch.object(outbox, "ENQUEUE", copies["enqueue"]),
        mock.patch.multiple(operations, CANCEL=copies["cancel"], REVIVE=copies["revive"]),
    ):
        yield copies
