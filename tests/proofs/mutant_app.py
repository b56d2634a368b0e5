"""`python -m tests.proofs.mutant_app <mutant> <command…>`: the app with one planted bug.

The bugs replace a line of the real code in memory and then run the real entry point, so everything
around the bug is the product. A bug whose line is no longer there stops with AssertionError.
"""

from __future__ import annotations

import os
import sys
from typing import LiteralString

NO_WHERE_GUARD = "no_where_guard"
NO_ROW_LOCK = "no_row_lock"

DROP_CHECK: LiteralString = (
    "ALTER TABLE inventory_stocklevel DROP CONSTRAINT inventory_stocklevel_reserved_on_hand"
)
"""Both bugs meet a second defence, which their database must not have."""


def plant(mutant: str) -> None:
    """Change the loaded code of this process."""
    import django

    django.setup()
    from app.inventory.services import stock

    if mutant == NO_WHERE_GUARD:
        assert "reserved" in stock.enough()
        stock.enough = lambda: "TRUE"
        return
    assert mutant == NO_ROW_LOCK
    assert "FOR UPDATE OF stock" in stock._TAKE
    stock._TAKE = stock._TAKE.replace("FOR UPDATE OF stock", "")


def main() -> None:
    """Plant, then be `python -m app`."""
    mutant = sys.argv.pop(1)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "app.config.settings")
    plant(mutant)
    from app.__main__ import main as run

    run()


if __name__ == "__main__":
    main()
