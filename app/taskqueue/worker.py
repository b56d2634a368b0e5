"""The worker: one asyncio process that leases tasks, runs them, and says how they ended.

At least once: a task is leased, its lease renewed while it runs, and given up with a killed worker;
whoever claims next runs it again. What an old lease says later is refused by its number (fence).
"""

import asyncio
import logging
import os
import re
import secrets
import socket
from collections.abc import Iterable
from contextvars import Context, copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any

from redis.exceptions import ResponseError

from app.taskqueue.aio import AsyncCluster
from app.taskqueue.backend import ClusterBackend
from app.taskqueue.hooks import hooks
from app.taskqueue.ids import tag
from app.taskqueue.lane import Lane, Places
from app.taskqueue.lua import FINISH, HEARTBEAT, RELEASE, RETRY, Command
from app.taskqueue.runner import Job, Outcome, Runner
from app.taskqueue.topology import QueueUnavailable

TIMEOUT = 3.0  # seconds for connecting and for each answer of the cluster
BEAT = 0.5  # seconds between two looks at which leases to renew; each is renewed by thirds
INSIST_SECONDS = 60.0  # how long an outcome is offered to a cluster that is away

log = logging.getLogger("taskqueue")


class WorkerLost(Exception):
    """Recorded by scripts/claim.lua for a task whose last lease ended without a word."""


@dataclass(slots=True)
class _Running:
    """A job under way."""

    job: Job
    renew_at: float  # event loop time
    task: "asyncio.Task[None] | None" = None
    thread: "asyncio.Future[Outcome] | None" = None  # where a sync function runs
    lost: bool = False


class Worker:
    """`queues` of `backend`, at most `concurrency` tasks at a time.

    After `stop` it waits up to `grace` seconds for running tasks, then gives their leases back.
    """

    def __init__(
        self, backend: ClusterBackend, queues: list[str], concurrency: int, *, grace: float = 25.0
    ) -> None:
        self.name = _worker_name()
        self.queues = queues
        self.concurrency = concurrency
        self._backend = backend
        self._grace = grace
        self._runner = Runner(backend, concurrency)
        self._cluster = AsyncCluster(backend.settings.address, timeout=TIMEOUT)
        self._context = copy_context()
        self._running: dict[str, _Running] = {}
        self._stop = asyncio.Event()

    async def run(self) -> bool:
        """Work until `stop`. Returns whether all tasks ended; if not, threads are still busy."""
        with hooks.quiet():
            lanes = self._lanes()
            work = [lane.begin() for lane in lanes]
            beat = asyncio.create_task(self._beat())
            log.info(
                "worker.started name=%s queues=%s concurrency=%d",
                *(self.name, ",".join(self.queues), self.concurrency),
            )
            stopped = asyncio.create_task(self._stop.wait())
            await asyncio.wait([stopped, beat, *work], return_when=asyncio.FIRST_COMPLETED)
            for lane in lanes:
                lane.stop()
            ended = await self._wind_down(work)
            beat.cancel()
            await asyncio.gather(beat, return_exceptions=True)
            await self._cluster.close()
        _raise_first([beat, *work])
        return ended

    def stop(self) -> None:
        """Claim nothing more and end. Safe to call twice, and as a signal handler of the loop."""
        self._stop.set()

    def _lanes(self) -> list[Lane]:
        places = Places(self.concurrency)
        prefix = self._backend.settings.address.prefix
        return [
            Lane(
                self._cluster,
                queue=queue,
                tag=tag(prefix, queue, shard),
                worker=self.name,
                places=places,
                start=lambda job: self._start(job, places),
            )
            for queue in self.queues
            for shard in range(self._backend.settings.shards)
        ]

    def _start(self, job: Job, places: Places) -> None:
        running = _Running(job, renew_at=asyncio.get_running_loop().time() + job.lease / 3)
        self._running[job.id] = running
        # Each task in a context of its own, a copy of the worker's at its start: nothing leaks.
        context: Context = self._context.copy()
        running.task = asyncio.create_task(self._work(running, places), context=context)

    async def _work(self, running: _Running, places: Places) -> None:
        try:
            try:
                outcome = await self._runner.run(running.job, partial(_note_thread, running))
            finally:
                # A thread that nobody waits for (timeout, lost lease) keeps its place while busy.
                if running.thread is None or running.thread.done():
                    places.give()
                else:
                    running.thread.add_done_callback(lambda _: places.give())
            await self._record(running, outcome)
        except Exception:
            log.exception("worker.bug id=%s: its lease will end by itself", running.job.id)
        finally:
            self._forget(running)

    def _forget(self, running: _Running) -> None:
        if self._running.get(running.job.id) is running:
            del self._running[running.job.id]

    async def _record(self, running: _Running, outcome: Outcome) -> None:
        job = running.job
        queue, path = job.envelope["queue"], job.envelope["path"]
        if outcome.result is not None:
            ttl = self._backend.settings.result_ttl * 1000
            command = FINISH.call(job.tag, job.id, job.fence, outcome.result, ttl)
        else:
            hooks.observe("failed", queue, path)
            delay, final = int(outcome.delay * 1000), int(outcome.final)
            command = RETRY.call(job.tag, job.id, job.fence, outcome.error, delay, final)
        answer = await self._insist(running, command)
        if answer == 1:
            hooks.observe("succeeded", queue, path)
        elif answer == b"delayed":
            hooks.observe("retried", queue, path)
        elif answer == b"dead":
            hooks.observe("dead", queue, path)
        else:
            self._lease_lost(running, "its outcome was refused")

    async def _insist(self, running: _Running, command: Command) -> Any:
        """The answer of an outcome script. The work is done, so a cluster in the middle of a
        failover gets every chance to hear of it; the scripts do not mind hearing it twice.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + max(INSIST_SECONDS, 2 * running.job.lease)
        pause = 0.05
        while not running.lost and loop.time() < deadline:
            try:
                return await self._cluster.call(command)
            except QueueUnavailable:
                await asyncio.sleep(pause)
                pause = min(pause * 2, 1.0)
            except ResponseError:
                log.exception("task.outcome_refused id=%s", running.job.id)
                break
        return None

    def _lease_lost(self, running: _Running, why: str) -> None:
        job = running.job
        hooks.observe("lease_lost", job.envelope["queue"], job.envelope["path"])
        log.warning("task.lease_lost id=%s attempt=%d: %s", job.id, job.attempt, why)

    async def _beat(self) -> None:
        """Renew leases. A lease that is gone ends an async task; a thread's result is refused."""
        while True:
            for queue in self.queues:
                hooks.tick("worker", queue)
            await asyncio.sleep(BEAT)
            now = asyncio.get_running_loop().time()
            due = [r for r in self._running.values() if r.renew_at <= now and not r.lost]
            for shard, group in _by_tag(due).items():
                await self._renew(shard, group, now)

    async def _renew(self, shard: str, group: list[_Running], now: float) -> None:
        try:
            answers = await self._cluster.call(HEARTBEAT.call(shard, *_pairs(group)))
        except (QueueUnavailable, ResponseError) as error:
            log.warning("worker.heartbeat_failed n=%d %s", len(group), error)
            return
        for running, held in zip(group, answers, strict=True):
            running.renew_at = now + running.job.lease / 3
            if not held and self._running.get(running.job.id) is running:
                running.lost = True
                self._lease_lost(running, "it was taken back")
                if running.task is not None:
                    running.task.cancel()

    async def _wind_down(self, lanes: list[asyncio.Task[None]]) -> bool:
        await asyncio.wait(lanes)
        tasks = [running.task for running in self._running.values() if running.task]
        log.info("worker.stopping name=%s running=%d", self.name, len(tasks))
        if tasks:
            await asyncio.wait(tasks, timeout=self._grace)
        left = list(self._running.values())
        if left:
            await self._give_back(left)
        self._runner.close()
        log.info("worker.stopped name=%s released=%d", self.name, len(left))
        return not left

    async def _give_back(self, left: list[_Running]) -> None:
        """Stop what can be stopped, then hand the leases to the next worker at once."""
        for running in left:
            running.lost = True  # no outcome is offered any more
            if running.task is not None:
                running.task.cancel()
        await asyncio.wait([r.task for r in left if r.task], timeout=1.0)
        for shard, group in _by_tag(left).items():
            try:
                await self._cluster.call(RELEASE.call(shard, *_pairs(group)))
            except (QueueUnavailable, ResponseError) as error:
                log.warning("worker.release_failed n=%d %s", len(group), error)
                continue
            for running in group:
                path = running.job.envelope["path"]
                hooks.observe("released", running.job.envelope["queue"], path)


def _note_thread(running: _Running, thread: "asyncio.Future[Outcome]") -> None:
    running.thread = thread


def _by_tag(group: Iterable[_Running]) -> dict[str, list[_Running]]:
    groups: dict[str, list[_Running]] = {}
    for running in group:
        groups.setdefault(running.job.tag, []).append(running)
    return groups


def _pairs(group: Iterable[_Running]) -> list[str | int]:
    return [part for running in group for part in (running.job.id, running.job.fence)]


def _raise_first(tasks: Iterable["asyncio.Task[None]"]) -> None:
    for task in tasks:
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error


def _worker_name() -> str:
    host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())
    return f"{host}-{os.getpid()}-{secrets.token_hex(2)}"
