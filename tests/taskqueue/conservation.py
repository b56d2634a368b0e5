"""No task is ever in two places or in none: counted while workers and relays are killed.

Per shard (here: per queue) one script counts the hashes by state and compares them with the sets:
exact at any moment. Over all shards, with the outbox, the ids are those that were committed: exact
whenever nobody publishes.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha1
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from app.taskqueue.operations import Shards
from devstack.process import Process
from tests.support.waiting import wait_until
from tests.taskqueue.chaosjobs import fail, nap
from tests.taskqueue.support import Queue, outbox_rows

QUEUES = ("default", "emails", "sms")  # one shard each, on different nodes
WORKER = ("run_worker", "--queues", ",".join(QUEUES))
SAMPLES = 8  # per round
PER_ROUND = 40

COUNT = """
local T, counts, wrong, ids = KEYS[1], {}, {}, {}
local sets = { ready = { 'ready', 'age' }, delayed = { 'delayed' }, leased = { 'leases' },
  dead = { 'dead' } }
local start = string.len(T .. ':task:') + 1
for _, name in ipairs(redis.call('KEYS', T .. ':task:*')) do
  local id, state = string.sub(name, start), redis.call('HGET', name, 's')
  counts[state] = (counts[state] or 0) + 1
  ids[#ids + 1] = id
  for _, set in ipairs(sets[state] or {}) do
    if not redis.call('ZSCORE', T .. ':' .. set, id) then
      wrong[#wrong + 1] = id .. ' is ' .. state .. ' and not in ' .. set
    end
  end
end
for state, names in pairs(sets) do
  for _, set in ipairs(names) do
    local card = redis.call('ZCARD', T .. ':' .. set)
    if card ~= (counts[state] or 0) then
      wrong[#wrong + 1] = set .. ' holds ' .. card .. ', not the ' .. (counts[state] or 0)
    end
  end
end
return { wrong, ids, cjson.encode(counts) }
"""
SHA = sha1(COUNT.encode(), usedforsecurity=False).hexdigest()


@dataclass(slots=True)
class Chaos:
    """A run: what was committed, what was found."""

    queue: Queue
    random: random.Random
    committed: set[str] = field(default_factory=set)
    violations: list[str] = field(default_factory=list)
    looks: int = 0
    quiet_points: int = 0
    kills: int = 0
    kills_with_leases: int = 0
    processes: list[Process] = field(default_factory=list)

    def begin(self) -> None:
        """Two relays and two workers."""
        for node in self.queue.cluster.topology().primaries:
            self.queue.cluster.ask(node, ("SCRIPT", "LOAD", COUNT))
        for command in (("run_relay",), ("run_relay",), WORKER, WORKER):
            self.processes.append(self.queue.spawn(*command))

    def round(self) -> None:
        """Publish, look at random moments, kill somebody, be quiet and count."""
        looks = set(self.random.sample(range(PER_ROUND), SAMPLES))
        for number in range(PER_ROUND):
            self._publish()
            if number in looks:
                self.look()
        if self.random.random() < 0.5:
            self._kill()
        self.look()
        self.count()

    def look(self) -> set[str]:
        """Compare each shard with itself; returns the ids of all."""
        shards = Shards(self.queue.backend, self.queue.cluster, QUEUES)
        found: set[str] = set()
        for _, tag in shards:
            wrong, ids, _ = shards.run(("EVALSHA", SHA, 1, tag))[0]
            self.violations += [text.decode() for text in wrong]
            found |= {task_id.decode() for task_id in ids}
            self.looks += 1
        return found

    def count(self) -> None:
        """Compare cluster and outbox with what was committed: at once, and when all is pushed."""
        rows = self._rows()  # before the cluster: a row may move there, never back
        self._compare(rows | self.look(), "outbox and cluster")
        wait_until(lambda: outbox_rows("confirmed_at IS NULL") == 0, timeout=60, what="the relays")
        self._compare(self.look(), "cluster")
        self.quiet_points += 1

    def end(self) -> None:
        """Wait until all tasks have ended, one way or the other."""

        def over() -> bool:
            stats = [self.queue.stats(name) for name in QUEUES]
            return not sum(one.ready + one.delayed + one.running for one in stats)

        wait_until(over, timeout=120, what="the end of all tasks")
        self._compare(self.look(), "cluster at the end")

    def missed(self) -> list[str]:
        """Plant each bug into what is there now; returns those that `count` does not see."""
        before, unseen = list(self.violations), []
        for name, plant in MUTANTS.items():
            self.violations.clear()
            plant(self)
            self.count()
            if not self.violations:
                unseen.append(name)
            self.committed = self.look()
        self.violations = before
        return unseen

    def _publish(self) -> None:
        task = nap.using(queue_name=self.random.choice(QUEUES))
        kind: Callable[[], Any] = self.random.choice(
            [
                lambda: task.enqueue(0.005),
                lambda: task.using(priority=50, delivery="until_finished").enqueue(0.01),
                lambda: task.using(unique_key=f"k{self.random.randrange(3)}").enqueue(0.05),
                lambda: task.using(run_after=timezone.now() + timedelta(seconds=0.3)).enqueue(0.0),
                fail.using(queue_name=task.queue_name).enqueue,
            ]
        )
        rolled_back = self.random.random() < 0.1
        with transaction.atomic():
            task_id = kind().id
            transaction.set_rollback(rolled_back)
        if not rolled_back:
            self.committed.add(task_id)

    def _kill(self) -> None:
        at = self.random.randrange(len(self.processes))
        victim = self.processes[at]
        leases = sum(self.queue.stats(name).running for name in QUEUES)
        victim.kill9()
        self.kills += 1
        is_worker = at >= 2
        self.kills_with_leases += bool(is_worker and leases)
        self.processes[at] = self.queue.spawn(*(WORKER if is_worker else ("run_relay",)))

    def _rows(self) -> set[str]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT id FROM taskqueue_outbox")
            return {task_id for (task_id,) in cursor.fetchall()}

    def _compare(self, found: set[str], where: str) -> None:
        lost, extra = self.committed - found, found - self.committed
        if lost:
            self.violations.append(f"{where}: {len(lost)} tasks are lost")
        if extra:
            self.violations.append(f"{where}: {len(extra)} tasks were never committed")


def lose_a_hash(chaos: Chaos) -> None:
    """A planted bug: some shard forgets a task that has ended."""
    _forget(chaos, "")


def lose_a_place(chaos: Chaos) -> None:
    """A planted bug: a dead task is in no set."""
    _forget(chaos, "dead")


def invent_a_task(chaos: Chaos) -> None:
    """A planted bug: a task nobody committed."""
    chaos.committed.discard(next(iter(chaos.committed)))


def _forget(chaos: Chaos, suffix: str) -> None:
    shards = Shards(chaos.queue.backend, chaos.queue.cluster, QUEUES)
    for _, tag in shards:
        (ids,) = shards.run(("ZRANGE", f"{tag}:dead", 0, 0))
        if ids:
            if not suffix:
                shards.run(("DEL", f"{tag}:task:{ids[0].decode()}"))
            shards.run(("ZREM", f"{tag}:dead", ids[0]))
            return
    raise LookupError("no dead task to lose")


MUTANTS: dict[str, Callable[[Chaos], None]] = {
    "lose_a_hash": lose_a_hash,
    "lose_a_place": lose_a_place,
    "invent_a_task": invent_a_task,
}
