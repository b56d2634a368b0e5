"""The Lua scripts on a real cluster: order, leases, fences, retries, one slot per shard."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from redis.crc import key_slot

from app.taskqueue.ids import new_id, shard_of
from app.taskqueue.lua import (
    CLAIM,
    ENQUEUE,
    FINISH,
    HEARTBEAT,
    RELEASE,
    RETRY,
    REVIVE,
    SHOW,
    STATS,
)
from app.taskqueue.results import shown
from tests.support.waiting import wait_until
from tests.taskqueue.support import Queue

TTL = 60_000


class Shard:
    """The scripts by name, with the arguments that rarely matter filled in."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue

    def enqueue(
        self,
        task_id: str,
        *,
        priority: int = 0,
        run_after: int = 0,
        attempts: int = 3,
        lease: int = 30_000,
        unique: str = "",
    ) -> bytes:
        arguments = (task_id, priority, run_after, attempts, lease, unique, TTL, f"<{task_id}>")
        answer: bytes = self.queue.run(ENQUEUE, *arguments)
        return answer

    def claim(self, wanted: int = 1, worker: str = "w1") -> Claim:
        return Claim(self.queue.run(CLAIM, wanted, worker, 100))

    def claim_when_there(self) -> Claim:
        claims = [Claim([0, 0, [], []])]

        def claimed() -> bool:
            claims.append(self.claim())
            return bool(claims[-1].ids)

        wait_until(claimed, timeout=5, what="a task to claim")
        return claims[-1]

    def finish(self, task_id: str, fence: int) -> Any:
        return self.queue.run(FINISH, task_id, fence, "null", TTL)

    def retry(self, task_id: str, fence: int, *, delay: int = 0, final: int = 0) -> Any:
        error = json.dumps(["builtins.ValueError", "trace"])
        return self.queue.run(RETRY, task_id, fence, error, delay, final)

    def task(self, task_id: str) -> dict[str, str]:
        return shown(self.queue.run(SHOW, task_id)) or {}

    def places(self, task_id: str) -> set[str]:
        """In which of the shard's sets a task is."""
        sets = ("ready", "age", "delayed", "leases", "dead")
        keys = [(name, f"{self.queue.tag}:{name}") for name in sets]
        return {
            name for name, key in keys if self.queue.command(("ZSCORE", key, task_id)) is not None
        }

    def end_lease(self, task_id: str) -> None:
        """As if the lease's time were over."""
        self.queue.command(("ZADD", f"{self.queue.tag}:leases", 1, task_id))


class Claim:
    """An answer of claim.lua."""

    def __init__(self, answer: list[Any]) -> None:
        self.next_due, self.taken_back, died, rows = answer
        self.died = [task_id.decode() for task_id in died]
        self.rows = [row[0].decode().split(" ") for row in rows]
        self.envelopes = [row[1].decode() for row in rows]

    @property
    def ids(self) -> list[str]:
        return [row[0] for row in self.rows]

    @property
    def fences(self) -> list[int]:
        return [int(row[1]) for row in self.rows]

    @property
    def attempts(self) -> list[int]:
        return [int(row[2]) for row in self.rows]


@pytest.fixture
def shard(queue: Queue) -> Shard:
    return Shard(queue)


def now_ms(queue: Queue) -> int:
    node = queue.cluster.topology().owner(queue.tag)
    (seconds, micros) = queue.cluster.ask(node, ("TIME",))[0]
    return int(seconds) * 1000 + int(micros) // 1000


def test_enqueue_is_idempotent_for_ever(shard: Shard) -> None:
    assert shard.enqueue("a") == b"new"
    assert shard.enqueue("a") == b"ready"
    claim = shard.claim(5)
    assert (claim.ids, claim.envelopes, claim.attempts) == (["a"], ["<a>"], [1])
    assert shard.enqueue("a") == b"leased"
    assert shard.finish("a", claim.fences[0]) == 1
    assert shard.enqueue("a") == b"done"
    assert shard.claim(5).ids == []
    assert shard.places("a") == set()


def test_priority_first_then_fifo(shard: Shard) -> None:
    priorities = [0, -5, 100, 0, 10, 100, -100, 0]
    for number, priority in enumerate(priorities):
        shard.enqueue(f"t{number}", priority=priority)
    order = shard.claim(3).ids + shard.claim(99).ids
    assert order == ["t2", "t5", "t4", "t0", "t3", "t7", "t1", "t6"]


def test_all_201_priorities_in_exact_order(shard: Shard) -> None:
    priorities = [(n * 37) % 201 - 100 for n in range(201)]
    commands = [
        ENQUEUE.call(shard.queue.tag, f"p{p}", p, 0, 1, 1000, "", TTL, "e") for p in priorities
    ]
    assert [r.result() for r in shard.queue.cluster.run(commands)] == [b"new"] * 201
    order = [task for _ in range(3) for task in shard.claim(100).ids]
    assert order == [f"p{p}" for p in range(100, -101, -1)]


def test_ended_lease_runs_again_and_the_old_one_is_fenced(shard: Shard) -> None:
    shard.enqueue("a")
    first = shard.claim()
    assert shard.claim().ids == []
    shard.end_lease("a")
    second = shard.claim(worker="w2")
    assert (second.ids, second.taken_back, second.attempts) == (["a"], 1, [2])
    assert second.fences[0] > first.fences[0]
    stale = first.fences[0]
    assert shard.finish("a", stale) == 0
    assert shard.retry("a", stale) == 0
    assert shard.queue.run(HEARTBEAT, "a", stale) == [0]
    assert shard.queue.run(RELEASE, "a", stale) == 0
    assert shard.places("a") == {"leases"}
    assert shard.finish("a", second.fences[0]) == 1
    assert shard.finish("a", second.fences[0]) == 1  # a repeated call says the same
    assert shard.task("a")["w"] == "w1,w2"


def test_heartbeat_renews(shard: Shard) -> None:
    shard.enqueue("a", lease=30_000)
    fence = shard.claim().fences[0]
    shard.end_lease("a")  # over, but not yet taken back
    assert shard.queue.run(HEARTBEAT, "a", fence, "unknown", 1) == [1, 0]
    assert shard.claim().ids == []
    assert shard.finish("a", fence) == 1


def test_lease_ends_by_server_time(shard: Shard) -> None:
    shard.enqueue("a", lease=60)
    shard.claim()
    started = time.monotonic()
    claim = shard.claim_when_there()
    assert claim.attempts == [2]
    assert time.monotonic() - started >= 0.03


def test_worker_that_dies_with_every_attempt_leaves_a_dead_letter(shard: Shard) -> None:
    shard.enqueue("poison", attempts=2)
    for _ in range(2):
        assert shard.claim().ids == ["poison"]
        shard.end_lease("poison")
    claim = shard.claim()
    assert (claim.ids, claim.died) == ([], ["poison"])
    assert shard.places("poison") == {"dead"}
    stored = shard.task("poison")
    assert (stored["s"], stored["a"]) == ("dead", "2")
    assert json.loads(stored["err:2"])[0] == "app.taskqueue.worker.WorkerLost"


def test_retries_wait_and_end_in_a_dead_letter_with_all_errors(shard: Shard) -> None:
    shard.enqueue("a", attempts=2)
    fence = shard.claim().fences[0]
    assert shard.retry("a", fence, delay=20) == b"delayed"
    assert shard.retry("a", fence, delay=20) == b"delayed"  # repeated
    assert shard.places("a") == {"delayed"}
    claim = shard.claim_when_there()
    assert claim.attempts == [2]
    assert shard.retry("a", claim.fences[0]) == b"dead"
    assert shard.retry("a", claim.fences[0]) == b"dead"
    assert shard.places("a") == {"dead"}
    assert {"err:1", "err:2"} <= set(shard.task("a"))


def test_final_error_needs_no_more_attempts(shard: Shard) -> None:
    shard.enqueue("a", attempts=5)
    assert shard.retry("a", shard.claim().fences[0], final=1) == b"dead"


def test_dead_letters_come_back_with_all_attempts(shard: Shard) -> None:
    shard.enqueue("a", attempts=1, unique="k")
    assert shard.retry("a", shard.claim().fences[0]) == b"dead"
    assert shard.queue.run(REVIVE, "a", "unknown") == 1
    claim = shard.claim()
    assert (claim.ids, claim.attempts) == (["a"], [1])
    assert "err:1" not in shard.task("a")
    assert shard.finish("a", claim.fences[0]) == 1


def test_released_lease_costs_no_attempt_and_keeps_its_place(shard: Shard) -> None:
    for name in ("a", "b"):
        shard.enqueue(name)
    first = shard.claim()
    assert shard.queue.run(RELEASE, "a", first.fences[0]) == 1
    second = shard.claim(2)
    assert (second.ids, second.attempts) == (["a", "b"], [1, 1])
    assert shard.finish("a", first.fences[0]) == 0  # the fence moved on
    assert shard.task("a")["w"] == "w1"


def test_delayed_task_is_never_early_and_says_when_it_is_due(shard: Shard) -> None:
    due = now_ms(shard.queue) + 80
    shard.enqueue("later", run_after=due)
    claim = shard.claim()
    assert claim.ids == []
    assert 0 <= claim.next_due <= 80
    wait_until(lambda: shard.claim().ids == ["later"], timeout=5)
    assert int(shard.task("later")["la"]) >= due
    assert shard.claim().next_due == -1


def test_due_in_the_past_is_ready_at_once(shard: Shard) -> None:
    assert shard.enqueue("a", run_after=1) == b"new"
    assert shard.places("a") == {"ready", "age"}


def test_unique_key_merges_while_the_first_is_unfinished(shard: Shard) -> None:
    assert shard.enqueue("a", unique="cart:1") == b"new"
    assert shard.enqueue("b", unique="cart:1") == b"merged"
    assert shard.enqueue("b", unique="cart:1") == b"merged"
    assert shard.enqueue("c", unique="cart:2") == b"new"
    assert shard.task("b")["into"] == "a"
    claim = shard.claim(5)
    assert claim.ids == ["a", "c"]
    assert shard.finish("a", claim.fences[0]) == 1
    assert shard.enqueue("d", unique="cart:1") == b"new"


def test_wake_list_holds_one_token(shard: Shard) -> None:
    wake = ("LLEN", f"{shard.queue.tag}:wake")
    for name in ("a", "b", "c"):
        shard.enqueue(name)
    assert shard.queue.command(wake) == 1
    shard.queue.command(("DEL", f"{shard.queue.tag}:wake"))
    shard.claim()
    assert shard.queue.command(wake) == 1  # two more tasks: the next worker is woken
    shard.queue.command(("DEL", f"{shard.queue.tag}:wake"))
    shard.claim(5)
    assert shard.queue.command(wake) == 0


def test_paused_shard_gives_nothing_out(shard: Shard) -> None:
    shard.enqueue("a")
    shard.queue.command(("SET", f"{shard.queue.tag}:paused", "1"))
    assert shard.claim().ids == []
    assert shard.queue.run(STATS)[7] == 1
    shard.queue.command(("DEL", f"{shard.queue.tag}:paused"))
    assert shard.claim().ids == ["a"]


def test_stats_count_every_task_once(shard: Shard) -> None:
    for name in ("ready1", "ready2", "leased", "dead"):
        shard.enqueue(name, priority=int(name in {"leased", "dead"}))
    shard.enqueue("later", run_after=now_ms(shard.queue) + 60_000)
    claim = shard.claim(2)
    shard.retry("dead", claim.fences[claim.ids.index("dead")], final=1)
    ready, delayed, due, leased, ended, dead, oldest, paused, _ = shard.queue.run(STATS)
    assert (ready, delayed, due, leased, ended, dead, paused) == (2, 1, 0, 1, 0, 1, 0)
    assert oldest >= 0


def test_every_key_lies_in_the_slot_of_its_tag(shard: Shard) -> None:
    for number in range(5):
        shard.enqueue(f"t{number}", unique=f"u{number}", run_after=number % 2 * 10**13)
    claim = shard.claim(3)
    shard.retry(claim.ids[0], claim.fences[0], final=1)
    shard.finish(claim.ids[1], claim.fences[1])
    keys: set[bytes] = set()
    for node in shard.queue.cluster.topology().primaries:
        pattern = f"*{shard.queue.prefix}*"
        keys |= set(shard.queue.cluster.ask(node, ("KEYS", pattern))[0])
    assert len(keys) > 10
    assert {key_slot(key) for key in keys} == {key_slot(shard.queue.tag.encode())}


def test_finished_task_is_forgotten_after_its_time(shard: Shard) -> None:
    shard.enqueue("a")
    shard.finish("a", shard.claim().fences[0])
    for part in ("task", "body"):
        ttl = shard.queue.command(("PTTL", f"{shard.queue.tag}:{part}:a"))
        assert 0 < ttl <= TTL


def test_memory_of_a_task_outlasts_the_pushing_of_its_row(shard: Shard) -> None:
    shard.enqueue("a")
    shard.finish("a", shard.claim().fences[0])
    shard.queue.command(("PEXPIRE", f"{shard.queue.tag}:task:a", 5000))
    assert shard.enqueue("a") == b"done"
    assert shard.queue.command(("PTTL", f"{shard.queue.tag}:task:a")) > 5000


def test_script_flush_is_survived(shard: Shard) -> None:
    shard.enqueue("a")
    for node in shard.queue.cluster.topology().primaries:
        shard.queue.cluster.ask(node, ("SCRIPT", "FLUSH"))
    assert shard.claim().ids == ["a"]


def test_new_ids_fit_the_scripts(shard: Shard) -> None:
    task_id = new_id(1)
    assert shard_of(task_id) == 0
    assert shard.enqueue(task_id) == b"new"
    assert shard.claim().ids == [task_id]
