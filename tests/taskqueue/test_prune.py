"""Dead letters end after their retention; nothing else is touched."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from app.taskqueue.lua import CLAIM, RETRY
from app.taskqueue.models import OutboxTask
from app.taskqueue.options import BackendOptions
from app.taskqueue.prune import prune_dead
from app.taskqueue.tasks import prune
from tests.taskqueue.jobs import noop
from tests.taskqueue.support import Queue, finished


def died(queue: Queue, count: int, *, days_ago: int, **options: Any) -> list[str]:
    """Tasks that are dead since so many days."""
    ids = [noop.using(**options).enqueue().id for _ in range(count)]
    while queue.relay().move():
        pass
    leased = [row for _ in range(count) for row in queue.run(CLAIM, 100, "test", 100)[3]]
    for task_id, fence, *_ in (row[0].decode().split(" ") for row in leased):
        assert queue.run(RETRY, task_id, fence, '["E","t"]', 0, 1) == b"dead"
    died_at = int((time.time() - days_ago * 86_400) * 1000)
    for task_id in ids:
        queue.command(("ZADD", f"{queue.tag}:dead", "XX", died_at, task_id))
    return ids


def dead(queue: Queue) -> set[str]:
    return {item.decode() for item in queue.command(("ZRANGE", f"{queue.tag}:dead", 0, -1))}


def test_old_ones_go_with_all_their_keys(queue: Queue) -> None:
    old = died(queue, 250, days_ago=31)
    young = died(queue, 3, days_ago=29)
    assert (len(dead(queue)), prune_dead(queue.backend, queue.cluster)) == (253, 250)
    assert dead(queue) == set(young)
    for task_id in (old[0], old[-1]):
        for kind in ("task", "body"):
            assert queue.command(("EXISTS", f"{queue.tag}:{kind}:{task_id}")) == 0
    assert queue.command(("EXISTS", f"{queue.tag}:task:{young[0]}")) == 1
    assert prune_dead(queue.backend, queue.cluster) == 0


def test_those_with_a_row_in_the_outbox_stay(queue: Queue) -> None:
    """The relay would take a forgotten one for lost and run it again."""
    kept = died(queue, 120, days_ago=40, delivery="until_finished")
    died(queue, 5, days_ago=35)
    assert OutboxTask.objects.count() == 120
    assert prune_dead(queue.backend, queue.cluster) == 5
    assert dead(queue) == set(kept)


def test_as_a_task(queue: Queue) -> None:
    died(queue, 2, days_ago=31)
    with queue.worker():
        assert finished(prune.enqueue()).return_value == 2


def test_retention_is_checked() -> None:
    options = {"url": "valkey://127.0.0.1:7000", "result_ttl": 3600, "dead_retention": 60}
    with pytest.raises(ImproperlyConfigured, match="dead_retention"):
        BackendOptions.of(options)
