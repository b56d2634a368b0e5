"""The queue driven in random order against `reference.Shard`: hypothesis makes the steps up, and
after each one the shard on a real server, the outbox in a real PostgreSQL and the reference agree.

Publishing, relaying and operating is done by the product's own code, claiming and ending tasks by
the shipped scripts; only the clock is the test's (`shifted`) and the courier between a commit and
the cluster, who may deliver late, twice or never.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from django.db import connection, transaction
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from app.taskqueue import operations
from app.taskqueue.lua import Argument, Command
from app.taskqueue.operations import Shards
from tests.taskqueue.invariants import TTL, broken, broken_claim
from tests.taskqueue.jobs import noop
from tests.taskqueue.modelworld import SETS, Published, RelayKilled, World, look
from tests.taskqueue.reference import Leased, Shard

HORIZON = 900_000  # ms; what is due later stays in PostgreSQL
MANY = 100

ORDERS = st.fixed_dictionaries(
    {
        "priority": st.sampled_from([-100, -1, 0, 0, 5, 100]),
        "due": st.sampled_from([None, None, None, -1000, 1, 900, 5000, 60_000, 3_000_000]),
        "most": st.integers(1, 3),
        "lease": st.sampled_from([1000, 30_000]),
        "unique": st.sampled_from(["", "", "", "k1", "k2"]),
        "delivery": st.sampled_from(["dispatched", "until_finished"]),
        "fate": st.sampled_from(["pushed", "pushed", "pushed", "held", "rolled back"]),
    }
)
NUMBER = st.integers(0, MANY)
NUMBERS = st.lists(NUMBER, min_size=1, max_size=3)
SOMETIMES = st.sampled_from([False, False, False, True])
STEPS = (
    *("publish", "publish", "push", "relay", "relay"),
    *("claim", "claim", "claim", "finish", "finish", "retry", "heartbeat", "release"),
    *("time", "time", "kill", "disaster", "operate"),
)


class Machine(RuleBasedStateMachine):
    """One example: an empty queue, and steps until hypothesis has enough."""

    world: World

    def __init__(self) -> None:
        super().__init__()
        self.queue = self.world.queue
        self.shard = Shard(now=int(time.time() * 1000))
        self.rows: dict[str, Published] = {}  # what must be in the outbox
        self.published: dict[str, Published] = {}
        self.rolled_back: list[str] = []
        self.leases: list[tuple[str, int]] = []  # all that were ever given: the dead speak, too
        self.shards = Shards(self.queue.backend, self.queue.cluster, ["default"])
        self.world.courier.pushes.clear()
        self.queue.forget()
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM taskqueue_outbox")
        self._set_clock()
        self.world.count("examples")
        self.world.on_example()

    @initialize(orders=st.lists(ORDERS, min_size=1, max_size=4))
    def begin(self, orders: list[dict[str, Any]]) -> None:
        for order in orders:
            self._publish(**order)

    @rule(name=st.sampled_from(STEPS), data=st.data())
    def step(self, name: str, data: st.DataObject) -> None:
        """One rule and not one per step: hypothesis would switch some off in each example."""
        getattr(self, f"_step_{name}")(data.draw)

    # --- publisher and relay ---------------------------------------------------------------------

    def _step_publish(self, draw: Any) -> None:
        for order in draw(st.lists(ORDERS, min_size=1, max_size=2)):
            self._publish(**order)

    def _publish(self, *, due: int | None, fate: str, **options: Any) -> None:
        run_after = 0 if due is None else self.shard.now + due
        published = Published(
            run_after=run_after, far=run_after > time.time() * 1000 + HORIZON, **options
        )
        task = noop.using(
            priority=published.priority,
            max_attempts=published.most,
            lease=published.lease / 1000,
            unique_key=published.unique or None,
            delivery=published.delivery,  # type: ignore[arg-type]
            run_after=datetime.fromtimestamp(run_after / 1000, tz=UTC) if run_after else None,
        )
        with transaction.atomic():
            task_id = task.enqueue().id
            transaction.set_rollback(fate == "rolled back")
        if fate == "rolled back":
            self.rolled_back.append(task_id)
            return
        self.published[task_id] = self.rows[task_id] = published
        if fate == "pushed" and not published.far:
            self._deliver(self.world.courier.pushes.pop())

    def _step_push(self, draw: Any) -> None:
        pushes = self.world.courier.pushes
        fate = draw(st.sampled_from(["arrives", "arrives and stays", "is lost"]))
        for number in draw(NUMBERS)[: len(pushes)]:
            at = number % len(pushes)
            command = pushes[at] if fate == "arrives and stays" else pushes.pop(at)
            if fate != "is lost":
                self._deliver(command)

    def _deliver(self, command: Command) -> None:
        expected = self._expect_enqueue(str(command[4]))
        assert self.queue.command(command).decode() == expected

    def _step_relay(self, draw: Any) -> None:
        killed = draw(SOMETIMES)
        if draw(SOMETIMES):  # tasks of class "until_finished" that are confirmed already
            ids = self._outbox("confirmed_at IS NOT NULL", "pushed_at, id")
            self._relayed(ids, killed=killed, move=lambda: self.world.relay.recheck(0))
        else:
            due = self._outbox("confirmed_at IS NULL", "run_after, id")
            moved = [i for i in due if i not in self.published or not self.published[i].far]
            self._relayed(moved, killed=killed, move=self.world.relay.move)

    def _relayed(self, ids: list[str], *, killed: bool, move: Any) -> None:
        answers = {task_id: self._expect_enqueue(task_id) for task_id in ids}
        self.world.kill = killed
        with suppress(RelayKilled):
            move()
        self.world.kill = False
        if killed:
            self.world.count("relays_killed", bool(ids))
            return
        for task_id, answer in answers.items():
            over = answer in {"done", "merged", "cancelled"}
            if self.rows[task_id].delivery == "dispatched" or over:
                del self.rows[task_id]
            else:
                self.rows[task_id].confirmed = True

    def _expect_enqueue(self, task_id: str) -> str:
        published = self.published.get(task_id)
        assert published is not None, "8: a push of a task that was never committed"
        answer = self.shard.enqueue(published.task(task_id), published.run_after)
        published.settled |= answer == "merged"
        if answer == "new":
            published.excused = False
        return answer

    # --- workers ---------------------------------------------------------------------------------

    def _step_claim(self, draw: Any) -> None:
        worker = draw(st.sampled_from(["w1", "w2", "w3"]))
        self._claim(draw(st.integers(0, 4)), worker, draw(st.sampled_from([MANY, MANY, 2, 1])))

    def _claim(self, wanted: int, worker: str, limit: int) -> None:
        before = look(self.queue)
        next_due, back, died, found = self._run("claim", wanted, worker, limit)
        rows = []
        for row in found:
            task_id, *numbers, workers = row[0].decode().split(" ")
            fence, attempt, _, waited, _, _ = map(int, numbers)
            rows.append(Leased(task_id, fence, attempt, waited))
            self._check_envelope(task_id, json.loads(row[1]))
            assert workers.split(",")[-1] == worker
        after, now = look(self.queue), self.shard.now
        assert broken_claim(before, after, rows, self.published, now) == []
        ended = sum(end <= now for end in before.sets["leases"].values())
        assert back == min(ended, limit), "5: ended leases are taken back; 10: within bounds"
        expected = self.shard.claim(wanted, worker, limit)
        assert (next_due, back, [item.decode() for item in died], rows) == expected
        self.leases += [(row.id, row.fence) for row in rows]
        self.world.count("leases", len(rows))
        self.world.count("taken_back", back)

    def _check_envelope(self, task_id: str, envelope: Any) -> None:
        assert envelope["id"] == task_id
        assert envelope["h"] == {"token": task_id}, "11: the context of another enqueuer"

    def _step_heartbeat(self, draw: Any) -> None:
        if leases := self._some_leases(draw(NUMBERS)):
            assert self._run("heartbeat", *_flat(leases)) == self.shard.heartbeat(leases)

    def _step_finish(self, draw: Any) -> None:
        for task_id, fence in self._some_leases([draw(NUMBER)]):
            answer = self._run("finish", task_id, fence, "null", TTL)
            assert answer == self.shard.finish(task_id, fence)
            self.published[task_id].settled |= bool(answer)
            self.world.count("finished" if answer else "refused")

    def _step_retry(self, draw: Any) -> None:
        delay, final = draw(st.sampled_from([0, 10, 5000, 60_000])), draw(SOMETIMES)
        for task_id, fence in self._some_leases([draw(NUMBER)]):
            error = '["builtins.ValueError",""]'
            answer = self._run("retry", task_id, fence, error, delay, int(final))
            expected = self.shard.retry(task_id, fence, delay, final=final)
            assert (answer.decode() if answer else "0") == expected
            self.world.count("failed" if answer else "refused")

    def _step_release(self, draw: Any) -> None:
        if leases := self._some_leases(draw(NUMBERS)):
            assert self._run("release", *_flat(leases)) == self.shard.release(leases)

    def _some_leases(self, numbers: list[int]) -> list[tuple[str, int]]:
        """Of those that were given, mostly the latest: they have not ended."""
        most = min(len(self.leases), 6)
        return [self.leases[-1 - number % most] for number in numbers if most]

    # --- time and disasters ----------------------------------------------------------------------

    def _step_time(self, draw: Any) -> None:
        self._pass(draw(st.sampled_from([1, 9, 400, 999, 1000, 5000, 30_000, 60_000])))
        if draw(st.booleans()):  # some worker takes the token
            self.queue.command(("RPOP", f"{self.queue.tag}:wake"))
            self.shard.wake = False

    def _step_kill(self, draw: Any) -> None:
        """A worker beats no more: its lease ends, to the millisecond, for whoever claims then."""
        if leased := self.shard.among("leased"):
            end = leased[draw(NUMBER) % len(leased)].since
            early = draw(SOMETIMES)
            self._pass(max(end - self.shard.now - early, 0))
            self._claim(1, "w4", MANY)
            self.world.count("kills", not early)

    def _step_disaster(self, draw: Any) -> None:
        unconfirmed = [i for i, row in self.rows.items() if not row.confirmed]
        if draw(NUMBER) == MANY:
            self._flush()
        elif unconfirmed:
            self._fail_over(unconfirmed[draw(NUMBER) % len(unconfirmed)])

    def _fail_over(self, task_id: str) -> None:
        """The new primary has not seen a push that was not confirmed."""
        tag, task = self.queue.tag, self.shard.tasks.get(task_id)
        commands: list[Command] = [("ZREM", f"{tag}:{name}", task_id) for name in SETS]
        commands += [("DEL", f"{tag}:task:{task_id}"), ("DEL", f"{tag}:body:{task_id}")]
        if task is not None and self.shard.holders.get(task.unique) == task_id:
            commands.append(("DEL", f"{tag}:unique:{task.unique}"))
        self.shards.run(*commands)
        self.shard.forget(task_id)
        self.published[task_id].settled = False
        self.world.count("lost_by_failover", task is not None)

    def _flush(self) -> None:
        self.queue.forget()
        for task_id, published in self.published.items():
            published.settled &= task_id not in self.rows
            published.excused |= task_id not in self.rows
        self.shard = Shard(now=self.shard.now)
        self._set_clock()
        self.world.count("flushes")

    # --- operators -------------------------------------------------------------------------------

    def _step_operate(self, draw: Any) -> None:
        verb = draw(st.sampled_from(["resume", "pause", "cancel", "drop", "revive", "revive"]))
        if verb in {"pause", "resume"}:
            (operations.pause if verb == "pause" else operations.resume)(self.shards)
            self.shard.paused = verb == "pause"
            return
        wanted = ("leased", "delayed", "ready") if verb == "cancel" else ("dead",)
        fitting = [task.id for state in wanted for task in self.shard.among(state)]
        ids = list(self.published) if not fitting or draw(SOMETIMES) else fitting
        if ids:
            self._operate_on(verb, ids[draw(NUMBER) % len(ids)])

    def _operate_on(self, verb: str, task_id: str) -> None:
        if verb == "revive":
            revived = self.shard.revive(task_id)
            assert operations.revive(self.shards, task_id) is revived
            self.world.count("revived", revived)
            return
        states = {"dead"} if verb == "drop" else {"ready", "delayed", "leased"}
        expected = self.shard.take_out(task_id, states, row=task_id in self.rows)
        act = operations.drop if verb == "drop" else operations.cancel
        assert act(self.shards, task_id) == expected
        if expected[0]:
            self.rows.pop(task_id, None)
            self.published[task_id].settled = True
            self.world.count("taken_out")

    # --- what holds after every step -------------------------------------------------------------

    @invariant()
    def the_shard_is_as_the_reference(self) -> None:
        seen, shard = look(self.queue), self.shard
        assert broken(seen, self.published, self.rows, self.rolled_back) == []
        assert seen.sets == {
            "ready": {task.id: task.place for task in shard.among("ready")},
            "age": {task.id: task.since for task in shard.among("ready")},
            "delayed": {task.id: task.since for task in shard.among("delayed")},
            "leases": {task.id: task.since for task in shard.among("leased")},
            "dead": {task.id: task.since for task in shard.among("dead")},
        }
        assert _without(seen.hashes) == {i: task.fields() for i, task in shard.tasks.items()}
        for task_id, stored in seen.hashes.items():
            errors = {int(name[4:]) for name in stored if name.startswith("err:")}
            assert errors == shard.tasks[task_id].errors
        assert (seen.seq, seen.wake, seen.paused) == (shard.seq, shard.wake, shard.paused)
        assert (seen.holders, seen.runs) == (shard.holders, shard.runs)
        self.world.count("steps")

    @invariant()
    def the_outbox_is_as_expected(self) -> None:
        waiting = set(self._outbox("confirmed_at IS NULL", "id"))
        confirmed = set(self._outbox("confirmed_at IS NOT NULL", "id"))
        assert waiting == {i for i, row in self.rows.items() if not row.confirmed}
        assert confirmed == {i for i, row in self.rows.items() if row.confirmed}

    def _run(self, name: str, *arguments: Argument) -> Any:
        return self.queue.run(self.world.scripts[name], *arguments)

    def _pass(self, ms: int) -> None:
        self.shard.now += ms
        self._set_clock()

    def _set_clock(self) -> None:
        self.queue.command(("SET", f"{self.queue.tag}:clock", self.shard.now))

    def _outbox(self, where: str, order: str) -> list[str]:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT id FROM taskqueue_outbox WHERE {where} ORDER BY {order}")
            return [task_id for (task_id,) in cursor.fetchall()]


def _flat(leases: list[tuple[str, int]]) -> list[Argument]:
    return [part for lease in leases for part in lease]


def _without(hashes: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    return {
        task_id: {k: v for k, v in stored.items() if k != "r" and not k.startswith("err:")}
        for task_id, stored in hashes.items()
    }


def machine_of(world: World) -> type[Machine]:
    """A machine on that world."""
    return type(f"Machine{uuid4().hex[:4]}", (Machine,), {"world": world})
