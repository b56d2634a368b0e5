"""What autoscalers are told: from recorded states, from a real cluster, and over HTTP."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import pytest

from app.taskqueue.demand import Demand, backlog_seconds, median_seconds
from app.taskqueue.lua import CLAIM, ENQUEUE, FINISH, RETRY
from app.taskqueue.stats import QueueReport, QueueStats, read_stats
from devstack.ports import find_free
from tests.support.waiting import wait_until
from tests.taskqueue.support import Queue

TTL = 60_000

# (ready and due, running, paused, median seconds, concurrency) -> backlog in seconds
RECORDED = {
    "empty": ((0, 0, False, 0.2, 8), 0.0),
    "a burst of e-mails": ((500, 8, False, 1.0, 8), 63.5),
    "the last long tasks still run": ((0, 4, False, 120.0, 2), 240.0),
    "paused: only what runs": ((500, 4, True, 1.0, 8), 0.5),
    "a million no-ops are work": ((1_000_000, 0, False, median_seconds([0, 0, 0]), 8), 125.0),
    "nothing has ended yet": ((16, 0, False, median_seconds([]), 8), 2.0),
}


@pytest.mark.parametrize("name", RECORDED)
def test_backlog_of_recorded_states(name: str) -> None:
    (ready, running, paused, task_seconds, concurrency), expected = RECORDED[name]
    demand = Demand(
        ready=ready,
        running=running,
        paused=paused,
        task_seconds=task_seconds,
        concurrency=concurrency,
    )
    assert backlog_seconds(demand) == pytest.approx(expected)


def test_median_is_of_seconds_and_never_zero() -> None:
    assert median_seconds([100, 300, 90_000]) == 0.3
    assert median_seconds([0]) == 0.001


def test_shards_are_added_up() -> None:
    one = QueueStats.of([1, 2, 1, 3, 0, 4, 50, 0, [b"5"]])
    both = one + QueueStats.of([1, 0, 0, 1, 1, 0, 70, 1, [b"7", b"9"]])
    assert (both.ready, both.running, both.oldest_ready_ms) == (2, 4, 70)
    assert both.run_ms == (5, 7, 9)


def put(queue: Queue, task_id: str, *, run_after: int = 0, priority: int = 0) -> None:
    queue.run(ENQUEUE, task_id, priority, run_after, 3, 30_000, "", TTL, "<envelope>")


def claim(queue: Queue) -> tuple[str, int]:
    _, _, _, rows = queue.run(CLAIM, 1, "w1", 100)
    task_id, fence, *_ = rows[0][0].decode().split(" ")
    return task_id, int(fence)


def report(queue: Queue) -> QueueReport:
    return read_stats(queue.backend, queue.cluster)["default"]


def test_how_long_attempts_took_is_remembered_failed_ones_too(queue: Queue) -> None:
    assert report(queue).median_task_seconds == 1.0
    for name in ("a", "b", "c"):
        put(queue, name)
    queue.run(FINISH, *claim(queue), "null", TTL)
    slow, fence = claim(queue)
    wait_until(lambda: queue.run(FINISH, slow, fence, "null", TTL) == 1, what="the end")
    queue.run(RETRY, *claim(queue), '["E",""]', 0, 1)
    assert len(queue.stats().run_ms) == 3
    assert report(queue).median_task_seconds < 1.0


def test_only_so_many_durations_are_kept(queue: Queue) -> None:
    for number in range(205):
        queue.run(ENQUEUE, f"t{number}", 0, 0, 3, 30_000, "", TTL, "e")
        queue.run(FINISH, *claim(queue), "null", TTL)
    assert queue.command(("LLEN", f"{queue.tag}:runs")) in range(100, 201)
    assert len(queue.stats().run_ms) == 100


def test_what_is_due_counts_as_ready_before_any_worker_looks(queue: Queue) -> None:
    now = int(time.time() * 1000)
    put(queue, "soon", run_after=now + 30)
    put(queue, "later", run_after=now + 600_000)
    wait_until(lambda: report(queue).ready == 1, what="the first to be due")
    found = report(queue)
    assert (found.delayed, found.running) == (1, 0)
    assert found.backlog_seconds == pytest.approx(1 / 8)
    wait_until(lambda: report(queue).oldest_ready_age_seconds > 0, what="its age")


def test_goal_and_concurrency_come_from_the_options(queue_with: Any) -> None:
    with queue_with(drain_seconds={"default": 12}, concurrency={"default": 2}) as queue:
        put(queue, "a")
        found = report(queue)
        assert (found.drain_goal_seconds, found.concurrency) == (12.0, 2)
        assert found.backlog_seconds == 0.5
        assert read_stats(queue.backend, queue.cluster)["emails"].drain_goal_seconds == 60.0


def test_a_relay_serves_queues_and_gauges(queue: Queue) -> None:
    (port,) = find_free(1)
    queue.spawn("run_relay", METRICS_PORT=str(port), QUEUE_CONCURRENCY="default=4")
    put(queue, "a")
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        wait_until(lambda: _answers(client), what="the relay's port", timeout=30)
        one = client.get("/internal/queues/default")
        assert (one.status_code, one.headers["content-type"]) == (200, "application/json")
        assert one.json() == {
            "queue": "default",
            "ready": 1,
            "delayed": 0,
            "running": 0,
            "dead": 0,
            "oldest_ready_age_seconds": one.json()["oldest_ready_age_seconds"],
            "backlog_seconds": 0.25,
            "drain_goal_seconds": 60.0,
            "concurrency": 4,
            "median_task_seconds": 1.0,
            "paused": False,
        }
        empty = client.get("/internal/queues/emails").json()
        assert (empty["backlog_seconds"], empty["drain_goal_seconds"]) == (0.0, 30.0)
        names = [row["queue"] for row in client.get("/internal/queues").json()["queues"]]
        assert names == sorted(queue.backend.queues)
        unknown = client.get("/internal/queues/nowhere")
        assert unknown.status_code == 404
        assert unknown.headers["content-type"] == "application/problem+json"
        assert "emails" in unknown.json()["detail"]
        assert client.get("/elsewhere").json()["code"] == "not_found"
        assert client.post("/internal/queues").status_code == 405
        sample = 'fashionistar_tasks_backlog_seconds{queue="default"} 0.25'
        wait_until(lambda: sample in client.get("/metrics").text, what="the gauge", timeout=10)
        assert 'fashionistar_tasks_ready{queue="default"} 1.0' in client.get("/metrics").text


def test_a_cluster_that_is_away_is_a_503_problem(queue: Queue) -> None:
    port, nobody = find_free(2)
    queue.spawn("run_relay", METRICS_PORT=str(port), QUEUE_URL=f"valkey://127.0.0.1:{nobody}")
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        wait_until(lambda: _answers(client), what="the relay's port", timeout=30)
        for path in ("/internal/queues", "/internal/queues/default"):
            answer = client.get(path)
            assert answer.status_code == 503
            assert json.loads(answer.text)["code"] == "queue_unavailable"
        assert client.get("/metrics").status_code == 200


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/metrics").status_code == 200
    except httpx.TransportError:
        return False
