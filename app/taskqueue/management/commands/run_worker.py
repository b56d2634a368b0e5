"""`python -m app run_worker --queues emails,default --concurrency 8`."""

import asyncio
import atexit
import logging
import os
import signal
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.tasks import task_backends

from app.taskqueue.backend import ClusterBackend
from app.taskqueue.hooks import hooks
from app.taskqueue.worker import Worker


class Command(BaseCommand):
    """Run tasks until SIGTERM; then finish what runs, give back what does not end in time."""

    help = "Run background tasks of the named queues until SIGTERM or SIGINT."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """The options."""
        parser.add_argument("--queues", default="default", help="comma separated; default: default")
        parser.add_argument("--concurrency", type=int, default=8, help="tasks at a time")
        parser.add_argument(
            "--grace", type=float, default=25.0, help="seconds for running tasks after SIGTERM"
        )
        parser.add_argument("--backend", default="default", help="alias in TASKS")

    def handle(self, **options: Any) -> None:
        """Check the options, then work."""
        backend = task_backends[options["backend"]]
        if not isinstance(backend, ClusterBackend):
            raise CommandError(f"backend {options['backend']!r} is no ClusterBackend")
        queues = [name.strip() for name in options["queues"].split(",") if name.strip()]
        unknown = sorted(set(queues) - backend.queues)
        if unknown or not queues:
            raise CommandError(
                f"no queue {', '.join(unknown) or 'named'}; TASKS has {sorted(backend.queues)}"
            )
        if options["concurrency"] < 1:
            raise CommandError("--concurrency must be at least 1")
        hooks.start("worker")
        worker = Worker(
            backend, list(dict.fromkeys(queues)), options["concurrency"], grace=options["grace"]
        )
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            ended = runner.run(_work(worker))
        hooks.stop("worker")
        if not ended:
            _exit_now()


async def _work(worker: Worker) -> bool:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop)
    return await worker.run()


def _loop_factory() -> Any:
    try:
        from uvloop import new_event_loop  # noqa: PLC0415 - optional
    except ImportError:
        return None
    return new_event_loop


def _exit_now() -> None:
    """End although threads are busy: their leases are given back, nobody waits for them."""
    atexit._run_exitfuncs()
    logging.shutdown()
    sys.stdout.flush()
    os._exit(0)
