"""The queue under test: real cluster, real PostgreSQL, a key prefix for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from devstack.ports import find_free
from devstack.valkey import Node, ValkeyCluster
from tests.support.session import Lane
from tests.taskqueue.support import EFFECTS, Queue, queue_on


@pytest.fixture(scope="session")
def _effects_table(django_db_setup: None, django_db_blocker: Any) -> None:
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute(EFFECTS)
        connection.close()


@pytest.fixture
def queue(
    _effects_table: None, committed_db: None, lane: Lane, request: pytest.FixtureRequest
) -> Iterator[Queue]:
    """An empty queue on committed data."""
    with queue_on(lane, lane.stack.queue_url) as queue:
        yield queue


@pytest.fixture
def queue_with(_effects_table: None, committed_db: None, lane: Lane) -> Callable[..., Any]:
    """`with queue_with(url=..., shards=3) as queue`: a queue with other options."""

    def make(url: str = "", **options: Any) -> Any:
        return queue_on(lane, url or lane.stack.queue_url, **options)

    return make


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[ValkeyCluster]:
    """One Valkey in cluster mode that the test may stop and start."""
    ports = find_free(2)
    cluster = ValkeyCluster(tmp_path, [Node(ports[0], ports[1])])
    cluster.launch()
    try:
        cluster.wait_ready()
        yield cluster
    finally:
        cluster.stop()
