"""What an operator does to tasks: find, list, bring back, drop, cancel, pause."""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connections, transaction

from app.taskqueue import outbox
from app.taskqueue.backend import ClusterBackend
from app.taskqueue.cluster import Cluster
from app.taskqueue.envelope import loads
from app.taskqueue.ids import shard_of, tag
from app.taskqueue.lua import CANCEL, REVIVE, SHOW, Command
from app.taskqueue.results import moment, shown

BATCH = 100

# State -> the shard's set that is read, whether the latest come first, what its scores mean.
LISTED = {
    "ready": ("age", False, "ready_since"),
    "delayed": ("delayed", False, "due_at"),
    "running": ("leases", False, "lease_ends_at"),
    "dead": ("dead", True, "died_at"),
}
CANCELLABLE = ("ready", "delayed", "leased")


class TaskCancelled(Exception):
    """Recorded with a task that was cancelled before it had succeeded."""


_CANCELLED = json.dumps(["app.taskqueue.operations.TaskCancelled", "Cancelled by an operator."])


@dataclass(frozen=True, slots=True)
class Shards:
    """The shards of some queues of a backend, and the connection to them.

    Everything here raises QueueUnavailable, and ValueError for what is no task id.
    """

    backend: ClusterBackend
    cluster: Cluster
    queues: Collection[str]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Queue and tag."""
        for queue in sorted(self.queues):
            for shard in range(self.backend.settings.shards):
                yield queue, self._tag(queue, shard)

    def of(self, task_id: str) -> Iterator[tuple[str, str]]:
        """Queue and tag of each shard where this task may be: its id does not name its queue."""
        shard = shard_of(task_id)
        for queue in sorted(self.queues):
            yield queue, self._tag(queue, shard)

    def run(self, *commands: Command) -> list[Any]:
        """The answers."""
        return [reply.result() for reply in self.cluster.run(commands)]

    def _tag(self, queue: str, shard: int) -> str:
        return tag(self.backend.settings.address.prefix, queue, shard)


def listed(shards: Shards, state: str, limit: int) -> list[dict[str, Any]]:
    """Tasks in one of the states of `LISTED`, first those that come first there."""
    suffix, latest_first, meaning = LISTED[state]
    command = "ZREVRANGE" if latest_first else "ZRANGE"
    found: list[tuple[float, dict[str, Any]]] = []
    for queue, tag_ in shards:
        (flat,) = shards.run((command, f"{tag_}:{suffix}", 0, limit - 1, "WITHSCORES"))
        ids, scores = [item.decode() for item in flat[::2]], [float(s) for s in flat[1::2]]
        answers = shards.run(*(SHOW.call(tag_, task_id) for task_id in ids))
        for task_id, score, answer in zip(ids, scores, answers, strict=True):
            fields = shown(answer)
            if fields is not None:  # else it has ended and been forgotten since
                row = _row(task_id, queue, fields)
                found.append((score, row | {meaning: _iso(score), "error": _last_error(fields)}))
    found.sort(key=lambda item: item[0], reverse=latest_first)
    return [row for _, row in found[:limit]]


def find(shards: Shards, task_id: str) -> dict[str, Any] | None:
    """Everything known about a task, from the cluster and the outbox; None when nothing is."""
    places = list(shards.of(task_id))
    answers = shards.run(*(SHOW.call(tag_, task_id) for _, tag_ in places))
    with connections[shards.backend.settings.database].cursor() as cursor:
        cursor.execute(outbox.SHOW, [task_id])
        row = cursor.fetchone()
    view: dict[str, Any] | None = None
    for (queue, _), answer in zip(places, answers, strict=True):
        if (fields := shown(answer)) is not None:
            view = _view(task_id, queue, fields)
    if row is None:
        return view
    envelope = loads(row[0])
    if view is None:
        view = {"id": task_id, "queue": envelope["queue"], "state": "outbox"} | _content(envelope)
    times = {
        name: at.isoformat(timespec="milliseconds") if at else None
        for name, at in zip(("run_after", "pushed_at", "confirmed_at"), row[2:5], strict=True)
    }
    return view | {"outbox": {"class": row[1], **times, "attempts": row[5]}}


def revive(shards: Shards, task_id: str) -> bool:
    """Bring a dead task back with all its attempts; False when it is not dead."""
    return any(shards.run(*(REVIVE.call(tag_, task_id) for _, tag_ in shards.of(task_id))))


def revive_all(shards: Shards) -> int:
    """Bring back all tasks that are dead now; returns how many."""
    revived = 0
    for tag_, ids in _dead(shards):
        for start in range(0, len(ids), BATCH):
            revived += shards.run(REVIVE.call(tag_, *ids[start : start + BATCH]))[0]
    return revived


def cancel(shards: Shards, task_id: str) -> tuple[bool, str]:
    """Take out a task that has not ended. Returns whether that was done, and the state in which it
    was found ("" when it is unknown). A worker that runs it loses its lease.
    """
    return _take_out(shards, task_id, CANCELLABLE, _CANCELLED)


def drop(shards: Shards, task_id: str) -> tuple[bool, str]:
    """Give up a dead task; its errors stay until its tombstone ends. Returns as `cancel`."""
    return _take_out(shards, task_id, ("dead",), "")


def drop_all(shards: Shards) -> int:
    """Give up all tasks that are dead now; returns how many."""
    return sum(drop(shards, task_id)[0] for _, ids in _dead(shards) for task_id in ids)


def pause(shards: Shards) -> None:
    """Workers take nothing more from these queues; what they run goes on."""
    shards.run(*(("SET", f"{tag_}:paused", "1") for _, tag_ in shards))


def resume(shards: Shards) -> None:
    """Undo `pause`; workers notice within a second."""
    shards.run(*(("DEL", f"{tag_}:paused") for _, tag_ in shards))


def _take_out(shards: Shards, task_id: str, states: Sequence[str], error: str) -> tuple[bool, str]:
    settings = shards.backend.settings
    with transaction.atomic(using=settings.database):
        with connections[settings.database].cursor() as cursor:
            cursor.execute(outbox.TAKE_OUT, [task_id])
            row = cursor.fetchone()
        envelope = row[0] if row and "dead" not in states else ""
        owner = loads(row[0])["queue"] if row else None
        ttl, allowed = settings.result_ttl * 1000, ",".join(states)
        answers = shards.run(
            *(
                CANCEL.call(tag_, task_id, ttl, allowed, error, envelope if queue == owner else "")
                for queue, tag_ in shards.of(task_id)
            )
        )
        for done, state in answers:
            if done:
                return True, state.decode()
        if row and any(state == b"cancelled" for _, state in answers):
            return True, "cancelled"  # an earlier call whose answer or commit was lost: finish it
        transaction.set_rollback(True, using=settings.database)  # it stays, so does its row
    return False, next((state.decode() for _, state in answers if state), "")


def _dead(shards: Shards) -> Iterator[tuple[str, list[str]]]:
    for _, tag_ in shards:
        (ids,) = shards.run(("ZRANGE", f"{tag_}:dead", 0, -1))
        yield tag_, [item.decode() for item in ids]


def _row(task_id: str, queue: str, fields: dict[str, str]) -> dict[str, Any]:
    path = loads(fields["body"])["path"] if fields["body"] else ""
    attempts = int(fields.get("a", 0))
    return {"id": task_id, "queue": queue, "path": path, "attempts": attempts}


def _view(task_id: str, queue: str, fields: dict[str, str]) -> dict[str, Any]:
    times = {"t": "enqueued_at", "st": "started_at", "la": "last_attempt_at", "f": "finished_at"}
    state = "running" if fields["s"] == "leased" else fields["s"]
    view: dict[str, Any] = {"id": task_id, "queue": queue, "state": state}
    if "into" in fields:
        view["merged_into"] = fields["into"]
    if fields["body"]:
        view |= _content(loads(fields["body"]))
    view["attempts"] = int(fields.get("a", 0))
    view |= {name: _iso(float(fields[key])) for key, name in times.items() if key in fields}
    view["workers"] = [name for name in fields.get("w", "").split(",") if name]
    if "r" in fields:
        view["result"] = json.loads(fields["r"])
    view["errors"] = list(_errors(fields))
    return view


def _content(envelope: Any) -> dict[str, Any]:
    names = ("path", "args", "kwargs", "priority", "max_attempts", "run_after", "unique_key")
    content = {name: envelope[name] for name in names if envelope.get(name) is not None}
    if "run_after" in content:
        content["run_after"] = _iso(content["run_after"])
    return content | {"headers": envelope["h"]}


def _errors(fields: dict[str, str]) -> Iterator[dict[str, Any]]:
    for number in sorted(int(name[4:]) for name in fields if name.startswith("err:")):
        kind, text = json.loads(fields[f"err:{number}"])
        yield {"attempt": number, "exception": kind, "traceback": text}


def _last_error(fields: dict[str, str]) -> str:
    errors = list(_errors(fields))
    lines = errors[-1]["traceback"].strip().splitlines() if errors else []
    return str(lines[-1]) if lines else ""


def _iso(milliseconds: float) -> str:
    return moment(str(int(milliseconds))).isoformat(timespec="milliseconds")
