"""Real processes, killed at named points and stopped by SIGTERM. Effects are counted in a table."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from django.db import connection
from django.tasks import TaskResultStatus

from app.taskqueue.models import OutboxTask
from devstack.paths import ROOT
from devstack.process import Process
from tests.support.waiting import wait_until
from tests.taskqueue.jobs import add, hold, record
from tests.taskqueue.support import Queue, effects, finished, outbox_rows


class Failpoint:
    """A named point, armed by a file."""

    def __init__(self, directory: Path, name: str) -> None:
        self.name = name
        self.file = directory / "armed"
        self.file.touch()

    @property
    def environment(self) -> str:
        return f"{self.name}={self.file}"

    @property
    def hits(self) -> list[str]:
        hits = Path(f"{self.file}.hits")
        return hits.read_text().splitlines() if hits.exists() else []


def started(worker: Process) -> Process:
    worker.wait_for("worker.started", timeout=60)
    return worker


def test_worker_killed_in_the_middle_of_a_task(queue: Queue, tmp_path: Path) -> None:
    point = Failpoint(tmp_path, "worker.mid_task")
    worker = started(queue.spawn("run_worker", FAILPOINTS=point.environment))
    result = record.using(lease=1.0).enqueue("survives")
    assert worker.wait(30) == -signal.SIGKILL
    assert point.hits == [f"worker.mid_task {worker.pid}"]
    killed = time.monotonic()
    assert effects("survives") == 0
    with queue.worker():
        finished(result)
    print(f"run again {time.monotonic() - killed:.2f} s after the kill (lease 1 s + 1 s)")
    assert (effects("survives"), result.attempts) == (1, 2)


PUBLISHER = """
import django; django.setup()
from django.db import transaction
from tests.taskqueue.jobs import record
with transaction.atomic():
    for _ in range(3):
        record.enqueue("published")
"""


def test_publisher_killed_between_commit_and_push(queue: Queue, tmp_path: Path) -> None:
    point = Failpoint(tmp_path, "outbox.committed_before_push")
    environment = queue.lane.env(
        QUEUE_PREFIX=queue.prefix,
        FAILPOINTS=point.environment,
        DJANGO_SETTINGS_MODULE="app.config.settings",
    )
    child = subprocess.run(
        [sys.executable, "-c", PUBLISHER], env=environment, cwd=ROOT, check=False, timeout=60
    )
    assert child.returncode == -signal.SIGKILL
    assert len(point.hits) == 1
    assert (outbox_rows(), queue.stats().ready) == (3, 0)
    with queue.worker():
        assert queue.relay().move() == 3
        wait_until(lambda: effects("published") == 3, what="three effects")
    assert outbox_rows() == 0


def test_relay_killed_between_push_and_confirmation(queue: Queue, tmp_path: Path) -> None:
    point = Failpoint(tmp_path, "relay.pushed_before_confirm")
    results = [record.enqueue("relayed") for _ in range(20)]
    relay = queue.spawn("run_relay", FAILPOINTS=point.environment)
    assert relay.wait(60) == -signal.SIGKILL
    assert point.hits == [f"relay.pushed_before_confirm {relay.pid}"]
    wait_until(lambda: outbox_rows() == 20, what="the rows of the killed relay")
    with queue.worker():
        for result in results:
            finished(result)  # they ran while their rows still stood in the outbox
        again = queue.relay()
        wait_until(lambda: again.move() >= 0 and outbox_rows() == 0, what="an empty outbox")
        wait_until(lambda: queue.stats().running == 0, what="idleness")
    assert effects("relayed") == 20


def test_sigterm_finishes_what_runs_and_takes_nothing_new(queue: Queue, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    worker = started(queue.spawn("run_worker", "--concurrency", "1"))
    running = hold.enqueue("running", str(gate))
    wait_until(lambda: effects("running:started") == 1, what="its start")
    worker.popen.terminate()
    worker.wait_for("worker.stopping")
    waiting = add.enqueue(1, 1)
    gate.touch()
    assert worker.wait(20) == 0
    running.refresh()
    waiting.refresh()
    assert running.status is TaskResultStatus.SUCCESSFUL
    assert waiting.status is TaskResultStatus.READY
    assert effects("running:ended") == 1


def test_sigterm_gives_back_what_does_not_end(queue: Queue, tmp_path: Path) -> None:
    worker = started(queue.spawn("run_worker", "--grace", "0.3"))
    result = hold.using(lease=30.0).enqueue("endless", str(tmp_path / "gate"))
    wait_until(lambda: effects("endless:started") == 1, what="its start")
    began = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - began < 10
    result.refresh()
    assert (result.status, result.attempts) == (TaskResultStatus.READY, 0)
    (tmp_path / "gate").touch()
    with queue.worker():
        finished(result)  # at once, not after the lease of 30 s
    assert effects("endless:ended") == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--queues", "nowhere"], "no queue nowhere"),
        (["--queues", ","], "no queue named"),
        (["--concurrency", "0"], "at least 1"),
    ],
)
def test_wrong_options_end_in_a_sentence(queue: Queue, arguments: list[str], sentence: str) -> None:
    from django.core.management import CommandError, call_command

    with pytest.raises(CommandError, match=sentence):
        call_command("run_worker", *arguments)


def test_start_latency(queue: Queue, capsys: pytest.CaptureFixture[str]) -> None:
    """Commit to start on an idle worker. Printed; the limit is for a machine in trouble."""
    waits = []
    with queue.worker():
        finished(add.enqueue(1, 1))
        for number in range(40):
            begun = time.time()
            record.enqueue("latency", str(number))
            wait_until(lambda n=number: effects("latency") == n + 1, what="an effect")  # type: ignore[misc]
            with connection.cursor() as cursor:
                cursor.execute("SELECT max(at) FROM taskqueue_effects WHERE name = 'latency'")
                waits.append(cursor.fetchone()[0] - begun)
    waits.sort()
    with capsys.disabled():
        print(
            f"\ncommit to start, idle: p50 {waits[20] * 1e3:.1f} ms, p95 {waits[38] * 1e3:.1f} ms"
        )
    assert waits[20] < 2
    assert OutboxTask.objects.count() == 41
