"""A queue for a proof that runs in this process: own servers, own database, Django set up."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support import session
from tests.support.database import copy_of_template


@contextmanager
def lab() -> Iterator[Any]:
    """An empty `tests.taskqueue.support.Queue`; imports of the product come after this."""
    lane = session.begin()
    os.environ["DJANGO_SETTINGS_MODULE"] = "app.config.settings"
    try:
        from django.db import connection

        from tests.taskqueue.support import EFFECTS, queue_on

        copy_of_template(lane.stack, lane.database)
        with connection.cursor() as cursor:
            cursor.execute(EFFECTS)
        with queue_on(lane, lane.stack.queue_url) as queue:
            yield queue
    finally:
        session.end(lane, keep_logs=False)
