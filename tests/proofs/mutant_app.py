"""`python -m tests.proofs.mutant_app <change> <command…>`: the app with one planted change.

The changes replace a line of the real code in memory and then run the real entry point, so that
everything around is the product. A change whose line is no longer there stops with AssertionError.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import LiteralString

NO_WHERE_GUARD = "no_where_guard"
NO_ROW_LOCK = "no_row_lock"
NO_TAKING_BACK = "no_taking_back"
NO_LEASE = "no_lease"
SHORT_LEASE = "short_lease"
"""No bug: the e-mail task's lease is PROOF_LEASE seconds, so that a proof need not wait for 30."""

DROP_CHECK: LiteralString = (
    "ALTER TABLE inventory_stocklevel DROP CONSTRAINT inventory_stocklevel_reserved_on_hand"
)
"""Stock bugs meet a second defence, which their database must not have."""


def plant(change: str) -> None:
    """Change the code of this process."""
    if change in _SCRIPT_LINES:
        _edit_script("claim.lua", *_SCRIPT_LINES[change])
        return
    import django

    django.setup()
    if change == SHORT_LEASE:
        _shorten_lease(float(os.environ["PROOF_LEASE"]))
    else:
        _break_stock(change)


def _break_stock(change: str) -> None:
    from app.inventory.services import stock

    if change == NO_WHERE_GUARD:
        assert "reserved" in stock.enough()
        stock.enough = lambda: "TRUE"
        return
    assert change == NO_ROW_LOCK
    assert "FOR UPDATE OF stock" in stock._TAKE
    stock._TAKE = stock._TAKE.replace("FOR UPDATE OF stock", "")


def _shorten_lease(seconds: float) -> None:
    from app.config.subscriptions import HANDLERS
    from app.orders.events import OrderPlaced

    HANDLERS[OrderPlaced] = [task.using(lease=seconds) for task in HANDLERS[OrderPlaced]]


_SCRIPT_LINES = {
    # Ended leases stay where they are: what a dead worker held is never run again.
    NO_TAKING_BACK: ("'ZRANGEBYSCORE', LEASES, '-inf', int(t)", "'ZRANGEBYSCORE', LEASES, 1, 0"),
    # A claim leaves no trace: at most once, as a plain list would do it.
    NO_LEASE: ("redis.call('ZADD', LEASES, int(t + tonumber(f[3])), id)", ""),
}


def _edit_script(file: str, line: str, instead: str) -> None:
    """Load the Lua scripts with one line replaced."""
    read = Path.read_text

    def edited(path: Path) -> str:
        text = read(path)
        if path.name != file:
            return text
        assert text.count(line) == 1
        return text.replace(line, instead)

    Path.read_text = edited  # type: ignore[assignment,method-assign]
    try:
        importlib.import_module("app.taskqueue.lua")
    finally:
        Path.read_text = read  # type: ignore[method-assign]


def main() -> None:
    """Plant, then be `python -m app`."""
    change = sys.argv.pop(1)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "app.config.settings")
    plant(change)
    from app.__main__ import main as run

    run()


if __name__ == "__main__":
    main()
