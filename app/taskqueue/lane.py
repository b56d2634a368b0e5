"""The claiming side of a worker: one lane per shard of a queue, all sharing the worker's places."""

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass

from redis.exceptions import ResponseError

from app.taskqueue.aio import AsyncCluster, TokenLane
from app.taskqueue.hooks import hooks
from app.taskqueue.lua import CLAIM
from app.taskqueue.runner import Job
from app.taskqueue.topology import QueueUnavailable

BATCH = 64  # most tasks leased by one claim
SWEEP = 100  # most ended leases, and most due tasks, handled by one claim
CLAIM_SECONDS = 1.0  # an idle lane claims at least this often: it takes ended leases back

log = logging.getLogger("taskqueue")


class Places:
    """The worker's concurrency: a place per running task, handed out in order of asking."""

    def __init__(self, size: int) -> None:
        self._free = asyncio.Semaphore(size)

    async def take(self, most: int) -> int:
        """Wait for a free place, then take up to `most` at once."""
        await self._free.acquire()
        await asyncio.sleep(0)  # tasks that end in this turn of the loop free theirs first
        taken = 1
        while taken < most and not self._free.locked():
            await self._free.acquire()
            taken += 1
        return taken

    def give(self, count: int = 1) -> None:
        """Free `count` places."""
        for _ in range(count):
            self._free.release()


@dataclass(frozen=True, slots=True)
class Claimed:
    """One answer of scripts/claim.lua."""

    jobs: list[Job]
    next_due: float | None  # seconds until a delayed task is due
    taken_back: int  # leases that had ended
    died: list[str]  # tasks whose last attempt ended with its worker


class Lane:
    """Claims tasks of one shard of one queue and starts them, until it is stopped."""

    def __init__(
        self,
        cluster: AsyncCluster,
        *,
        queue: str,
        tag: str,
        worker: str,
        places: Places,
        start: Callable[[Job], None],
    ) -> None:
        self.queue = queue
        self.tag = tag
        self._cluster = cluster
        self._worker = worker
        self._places = places
        self._start = start
        self._tokens = TokenLane(tag)
        self._stopping = False
        self._idle = False  # in a wait that may be cancelled: no lease is on its way to us
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> asyncio.Task[None]:
        """Start claiming."""
        self._task = asyncio.create_task(self._run())
        return self._task

    def stop(self) -> None:
        """Claim nothing more. A claim on its way is answered and its tasks are started."""
        self._stopping = True
        if self._idle and self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        failures = 0
        try:
            while not self._stopping:
                try:
                    failures = 0 if await self._turn() else failures
                except QueueUnavailable as error:
                    failures += 1
                    await self._pause(failures, error)
        except asyncio.CancelledError:
            if not self._stopping:
                raise
        finally:
            await self._tokens.close()

    async def _turn(self) -> bool:
        """Claim once; when the shard is empty, wait for a token or until a task is due."""
        self._idle = True
        places = await self._places.take(BATCH)
        self._idle = False
        claimed = None
        try:
            claimed = await self._claim(places)
        finally:
            self._places.give(places - (len(claimed.jobs) if claimed is not None else 0))
        for job in claimed.jobs:
            self._start(job)
        if len(claimed.jobs) < places and not self._stopping:
            wait = min(CLAIM_SECONDS, claimed.next_due or CLAIM_SECONDS)
            self._idle = True
            await self._cluster.wait_for_token(self._tokens, max(wait, 0.001))
            self._idle = False
        return True

    async def _claim(self, places: int) -> Claimed:
        try:
            answer = await self._cluster.call(CLAIM.call(self.tag, places, self._worker, SWEEP))
        except ResponseError as error:
            raise QueueUnavailable(f"{self.tag}: claim failed: {error}") from error
        due, taken_back, died, rows = answer
        claimed = Claimed(
            jobs=[job for row in rows if (job := self._job(row)) is not None],
            next_due=due / 1000 if due >= 0 else None,
            taken_back=taken_back,
            died=[task_id.decode() for task_id in died],
        )
        self._report(claimed)
        return claimed

    def _job(self, row: list[bytes]) -> Job | None:
        try:
            return Job.of(self.tag, row)
        except (ValueError, KeyError):
            # Not ours to repair: its lease ends, and after its last attempt it is a dead letter.
            log.exception("task.unreadable %r", row[0])
            return None

    def _report(self, claimed: Claimed) -> None:
        if claimed.taken_back:
            hooks.observe("reaped", self.queue, "", claimed.taken_back)
            log.warning("task.leases_taken_back queue=%s n=%d", self.queue, claimed.taken_back)
        for task_id in claimed.died:
            hooks.observe("dead", self.queue, "")
            log.error("task.dead id=%s queue=%s its workers were lost", task_id, self.queue)
        for job in claimed.jobs:
            hooks.observe("started", self.queue, job.envelope["path"])

    async def _pause(self, failures: int, error: QueueUnavailable) -> None:
        if failures == 1:
            log.warning("taskqueue.unavailable queue=%s %s", self.queue, error)
        self._idle = True
        await asyncio.sleep(min(0.1 * 2**failures, 1.0) * random.uniform(0.5, 1.0))  # noqa: S311
        self._idle = False
