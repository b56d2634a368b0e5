"""Slots, announced endpoints, and what a reply of a primary is worth (decision 25)."""

import pytest
from redis.crc import key_slot

from app.taskqueue.connection import Node
from app.taskqueue.topology import (
    Durability,
    Primary,
    QueueUnavailable,
    durability,
    parse_config,
    parse_nodes,
    parse_slots,
)

ASKED = Node("asked.example", 7000)


def test_owners_by_announced_endpoint() -> None:
    topology = parse_slots(
        [
            [8192, 16383, [b"b.example", 7002, b"id"]],
            [0, 8191, [b"10.0.0.1", 7001, b"id"], [b"replica", 7003, b"id"]],
        ],
        ASKED,
    )
    assert topology.primaries == (Node("10.0.0.1", 7001), Node("b.example", 7002))
    assert key_slot(b"{fs:t:a:0}") == 6282
    assert topology.owner("{fs:t:a:0}:task:1") == Node("10.0.0.1", 7001)
    assert key_slot(b"{fs:t:c:0}") > 8191
    assert topology.owner("{fs:t:c:0}:task:1") == Node("b.example", 7002)
    assert topology.owner("{fs:t:default:0}") == topology.owner("{fs:t:default:0}:ready")


@pytest.mark.parametrize("host", [None, b"", b"?"])
def test_node_that_names_no_host_is_the_one_asked(host: bytes | None) -> None:
    topology = parse_slots([[0, 16383, [host, 7009, b"id"]]], ASKED)
    assert topology.owner("x") == Node("asked.example", 7009)


def test_unowned_slot_and_empty_cluster() -> None:
    with pytest.raises(QueueUnavailable, match="no slots"):
        parse_slots([], ASKED)
    topology = parse_slots([[0, 1, [b"a", 1, b"id"]]], ASKED)
    with pytest.raises(QueueUnavailable, match="owns slot"):
        topology.owner("{fs:t:default:0}")


ME = "aaa 10.0.0.1:7001@17001,name myself,master - 0 0 1 connected 0-5460"
OTHER = "bbb 10.0.0.2:7002@17002 master - 0 0 2 connected 5461-16383"
REPLICA = "ccc 10.0.0.3:7003@17003 slave {of} 0 0 1 connected"
DEMOTED = "eee 10.0.0.5:7005@17005 master - 0 0 1 connected"
FAILED = "ddd 10.0.0.4:7004@17004 master,fail - 0 0 1 disconnected"
ALWAYS = {"appendonly": "yes", "appendfsync": "always"}


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([ME, OTHER], Primary(0, cluster_has_replicas=False)),
        ([ME, OTHER, REPLICA.format(of="aaa")], Primary(1, cluster_has_replicas=True)),
        ([ME, OTHER, REPLICA.format(of="bbb")], Primary(0, cluster_has_replicas=True)),
        ([ME, OTHER, FAILED], Primary(0, cluster_has_replicas=True)),
        ([ME, OTHER, DEMOTED], Primary(0, cluster_has_replicas=True)),
    ],
)
def test_replicas_as_a_primary_knows_them(lines: list[str], expected: Primary) -> None:
    assert parse_nodes("\n".join(lines).encode()) == expected


@pytest.mark.parametrize(
    ("primary", "config", "expected"),
    [
        (Primary(1, cluster_has_replicas=True), None, Durability.REPLICA),
        (Primary(0, cluster_has_replicas=False), ALWAYS, Durability.FSYNC),
        (Primary(0, cluster_has_replicas=True), ALWAYS, Durability.FSYNC),
        # right after a failover: the new primary has no replica yet, so rows wait
        (Primary(0, cluster_has_replicas=True), {"appendonly": "yes"}, Durability.HOLD),
        (Primary(0, cluster_has_replicas=False), None, Durability.REPLY),
        (
            Primary(0, cluster_has_replicas=False),
            {"appendonly": "no", "appendfsync": "always"},
            Durability.REPLY,
        ),
    ],
)
def test_worth_of_a_reply(
    primary: Primary, config: dict[str, str] | None, expected: Durability
) -> None:
    assert durability(primary, config) is expected


def test_config_answer() -> None:
    assert parse_config([b"appendonly", b"yes", b"appendfsync", b"always"]) == ALWAYS
