"""What a shard of a queue is meant to do, in plain Python: the reference for the Lua scripts."""

from __future__ import annotations

from dataclasses import dataclass, field

Hash = dict[str, str]


@dataclass(slots=True)
class Task:
    """One task as the shard knows it. Times in milliseconds."""

    id: str
    state: str
    enqueued: int
    priority: int = 0
    most: int = 1
    lease: int = 0
    unique: str = ""
    attempts: int = 0
    fence: int = 0
    place: int | None = None
    since: int = 0  # ready since, due at, lease ends at, died at: the score in its set
    started: int | None = None
    last: int | None = None
    finished: int | None = None
    workers: list[str] | None = None
    errors: set[int] = field(default_factory=set)
    into: str = ""

    @property
    def over(self) -> bool:
        """Done or cancelled: what is left is a tombstone."""
        return self.state in {"done", "cancelled"}

    def fields(self) -> Hash:
        """Its hash, without errors and result."""
        if self.state == "merged":
            return {"s": "merged", "into": self.into, "t": str(self.enqueued)}
        known: dict[str, object] = {"s": self.state, "a": self.attempts, "n": self.fence}
        known |= {"t": self.enqueued, "st": self.started, "la": self.last, "f": self.finished}
        known["w"] = None if self.workers is None else ",".join(self.workers)
        if not self.over:
            known |= {"l": self.lease, "m": self.most, "p": self.priority, "o": self.place}
            known["u"] = self.unique or None
        return {name: str(value) for name, value in known.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Leased:
    """A row of a claim."""

    id: str
    fence: int
    attempt: int
    waited: int


@dataclass(slots=True)
class Shard:
    """The shard. Each method answers what its script answers."""

    now: int
    seq: int = 0
    paused: bool = False
    wake: bool = False
    tasks: dict[str, Task] = field(default_factory=dict)
    holders: dict[str, str] = field(default_factory=dict)  # unique key -> id
    runs: list[int] = field(default_factory=list)

    def among(self, state: str) -> list[Task]:
        """Tasks of one state in the order of their set."""
        found = [task for task in self.tasks.values() if task.state == state]
        if state == "ready":
            return sorted(found, key=lambda task: task.place or 0)
        return sorted(found, key=lambda task: (task.since, task.id))

    def enqueue(self, task: Task, run_after: int) -> str:
        if task.id in self.tasks:
            return self.tasks[task.id].state
        task.enqueued = self.now
        self.tasks[task.id] = task
        holder = self.holders.get(task.unique) if task.unique else None
        if holder is not None and holder != task.id and holder in self.tasks:
            task.state, task.into = "merged", holder
            return "merged"
        if task.unique:
            self.holders[task.unique] = task.id
        if run_after > self.now:
            self._delay(task, run_after)
        else:
            self._ready(task, self._next_place(task))
            self.wake = True
        return "new"

    def claim(
        self, wanted: int, worker: str, limit: int
    ) -> tuple[int, int, list[str], list[Leased]]:
        ended = [task for task in self.among("leased") if task.since <= self.now][:limit]
        died = []
        for task in ended:
            if task.attempts >= task.most:
                task.errors.add(task.attempts)
                self._bury(task)
                died.append(task.id)
            else:
                self._ready(task, task.place)
        for task in [task for task in self.among("delayed") if task.since <= self.now][:limit]:
            self._ready(task, self._next_place(task))
        rows = []
        for task in self.among("ready")[: 0 if self.paused else min(wanted, limit)]:
            waited = self.now - task.since
            task.state, task.since = "leased", self.now + task.lease
            task.attempts, task.fence = task.attempts + 1, task.fence + 1
            task.workers = [name for name in [*(task.workers or []), worker] if name]
            task.started, task.last = task.started or self.now, self.now
            rows.append(Leased(task.id, task.fence, task.attempts, waited))
        if self.among("ready") and not self.paused:
            self.wake = True
        delayed = self.among("delayed")
        return max(delayed[0].since - self.now, 0) if delayed else -1, len(ended), died, rows

    def heartbeat(self, leases: list[tuple[str, int]]) -> list[int]:
        held = [self._held(*lease) for lease in leases]
        for task in held:
            if task is not None:
                task.since = self.now + task.lease
        return [int(task is not None) for task in held]

    def finish(self, task_id: str, fence: int) -> int:
        task = self._held(task_id, fence)
        if task is None:
            known = self.tasks.get(task_id)
            return int(known is not None and (known.state, known.fence) == ("done", fence))
        self._ran(task)
        task.state, task.finished = "done", self.now
        self._release_unique(task)
        return 1

    def retry(self, task_id: str, fence: int, delay: int, *, final: bool) -> str:
        task = self._held(task_id, fence)
        if task is None:
            known = self.tasks.get(task_id)
            if known is None or known.fence != fence or known.attempts not in known.errors:
                return "0"
            return "dead" if known.state == "dead" else "delayed"
        self._ran(task)
        task.errors.add(task.attempts)
        if final or task.attempts >= task.most:
            self._bury(task)
            return "dead"
        self._delay(task, self.now + delay)
        return "delayed"

    def release(self, leases: list[tuple[str, int]]) -> int:
        given = 0
        for lease in leases:
            task = self._held(*lease)
            if task is not None:
                task.attempts, task.fence = task.attempts - 1, task.fence + 1
                task.workers = (task.workers or [])[:-1]
                self._ready(task, task.place)
                given += 1
        self.wake = self.wake or given > 0
        return given

    def revive(self, task_id: str) -> bool:
        task = self.tasks.get(task_id)
        if task is None or task.state != "dead":
            return False
        task.attempts, task.workers, task.errors = 0, [], set()
        task.finished = task.started = task.last = None
        if task.unique:
            self.holders.setdefault(task.unique, task.id)
        self._ready(task, self._next_place(task))
        self.wake = True
        return True

    def take_out(self, task_id: str, states: set[str], *, row: bool) -> tuple[bool, str]:
        """Cancel, or drop; `row`: its outbox row can be taken away with it."""
        task = self.tasks.get(task_id)
        if task is None:
            if not row or "dead" in states:
                return False, ""
            task = self.tasks[task_id] = Task(task_id, "outbox", self.now)
        elif task.state not in states:
            return False, task.state
        state = task.state
        self._release_unique(task)
        if state != "dead":
            task.errors.add(task.attempts)
        task.state, task.finished, task.fence = "cancelled", self.now, task.fence + 1
        return True, state

    def forget(self, task_id: str) -> None:
        """A failover lost everything about this task."""
        task = self.tasks.pop(task_id, None)
        if task is not None:
            self._release_unique(task)

    def _held(self, task_id: str, fence: int) -> Task | None:
        task = self.tasks.get(task_id)
        held = task is not None and (task.state, task.fence) == ("leased", fence)
        return task if held else None

    def _next_place(self, task: Task) -> int:
        self.seq += 1
        return (100 - task.priority) * 10**13 + self.seq

    def _ready(self, task: Task, place: int | None) -> None:
        task.state, task.place, task.since = "ready", place, self.now

    def _delay(self, task: Task, due: int) -> None:
        task.state, task.since = "delayed", due
        self.wake = self.wake or self.among("delayed")[0] is task

    def _bury(self, task: Task) -> None:
        task.state, task.since, task.finished = "dead", self.now, self.now
        self._release_unique(task)

    def _release_unique(self, task: Task) -> None:
        if self.holders.get(task.unique) == task.id:
            del self.holders[task.unique]

    def _ran(self, task: Task) -> None:
        assert task.last is not None
        self.runs.insert(0, self.now - task.last)
