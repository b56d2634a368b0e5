"""One primary with one replica: rows wait for the replica, and everybody follows a failover."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from django.utils import timezone

from app.taskqueue.models import OutboxTask
from app.taskqueue.topology import Durability, QueueUnavailable
from devstack.ports import find_free
from devstack.valkey import SLOTS, Node, ValkeyCluster
from tests.support.waiting import wait_until
from tests.taskqueue.jobs import record
from tests.taskqueue.support import Queue, effects, finished, outbox_rows


@dataclass(slots=True)
class Pair:
    """A primary (node 0) and its replica (node 1)."""

    servers: ValkeyCluster

    def signal_replica(self, number: signal.Signals) -> None:
        self.servers.processes[1].popen.send_signal(number)

    def fail_over(self) -> None:
        """The replica takes over; the old primary is gone without a word."""
        self.servers.processes[0].kill9()
        self.servers.nodes[1].call("CLUSTER", "FAILOVER", "TAKEOVER")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    ports = find_free(4)
    primary, replica = (Node(ports[n], ports[n + 2]) for n in (0, 1))
    servers = ValkeyCluster(tmp_path, [primary, replica])
    servers.launch()
    try:
        wait_until(lambda: _answer(primary) and _answer(replica), timeout=30, what="both servers")
        primary.call("CLUSTER", "ADDSLOTSRANGE", 0, SLOTS - 1)
        for node in (primary, replica):
            node.call("CONFIG", "SET", "appendfsync", "everysec")
        primary.call("CONFIG", "SET", "repl-diskless-sync-delay", 0)
        primary.call("CLUSTER", "MEET", "127.0.0.1", replica.port, replica.bus_port)
        identity = primary.call("CLUSTER", "MYID")
        wait_until(
            lambda: identity in replica.call("CLUSTER", "NODES"), timeout=20, what="the meeting"
        )
        replica.call("CLUSTER", "REPLICATE", identity)
        wait_until(lambda: _linked(primary), timeout=30, what="the replication")
        yield Pair(servers)
    finally:
        for process in servers.processes:
            process.popen.send_signal(signal.SIGCONT)
        servers.stop()


def _answer(node: Node) -> bool:
    with suppress(redis.RedisError, OSError):
        return bool(node.call("PING"))
    return False


def _linked(primary: Node) -> bool:
    return (
        bool(primary.call("ROLE")[2])
        and " slave " in primary.call("CLUSTER", "NODES")
        and "cluster_state:ok" in primary.call("CLUSTER", "INFO")
    )


def test_rows_wait_for_the_replica_and_survive_the_failover(
    queue_with: Callable[..., Any], pair: Pair
) -> None:
    with queue_with(url=pair.servers.url) as queue:
        relay = queue.relay()
        node = queue.cluster.topology().primaries[0]
        assert relay._confirmation._of(node) is Durability.REPLICA

        record.enqueue("replicated")
        assert relay.move() == 1
        assert outbox_rows() == 0

        pair.signal_replica(signal.SIGSTOP)
        lost = [record.enqueue("acknowledged by the primary only") for _ in range(20)]
        wait_until(lambda: queue.stats().ready == 21, what="the pushes")
        assert relay.move() == 20
        assert outbox_rows("attempts = 1") == 20  # WAIT 1 was not answered
        pair.servers.processes[0].kill9()  # with 20 tasks that nobody else has
        pair.signal_replica(signal.SIGCONT)
        pair.servers.nodes[1].call("CLUSTER", "FAILOVER", "TAKEOVER")

        with queue.worker():
            _drain_into(queue)
            for result in lost:
                finished(result)
        assert effects("replicated") == 1
        assert effects("acknowledged by the primary only") == 20


def _drain_into(queue: Queue) -> None:
    """The new primary has no replica: its answers alone do not confirm."""
    relay = queue.relay()

    def pushed() -> bool:
        OutboxTask.objects.update(pushed_at=timezone.now() - timedelta(minutes=1))
        with suppress(QueueUnavailable):
            relay.move()
        return outbox_rows("attempts >= 2") == 20

    wait_until(pushed, timeout=20, what="the second push of 20 rows")


def test_worker_follows_a_failover(queue_with: Callable[..., Any], pair: Pair) -> None:
    with queue_with(url=pair.servers.url) as queue, queue.worker():
        finished(record.enqueue("before"))
        pair.fail_over()
        result = record.using(lease=1.0).enqueue("after")
        _push(queue)
        finished(result, timeout=30)
    assert (effects("before"), effects("after")) == (1, 1)


def _push(queue: Queue) -> None:
    relay = queue.relay()

    def pushed() -> bool:
        OutboxTask.objects.update(pushed_at=None)
        with suppress(QueueUnavailable):
            return relay.move() == 2  # the row of "before" is still there, too
        return False

    wait_until(pushed, timeout=30, what="a push to the new primary")
