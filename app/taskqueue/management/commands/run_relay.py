"""`python -m app run_relay`."""

import signal
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.tasks import task_backends

from app.taskqueue.backend import ClusterBackend
from app.taskqueue.cron import discover
from app.taskqueue.hooks import hooks
from app.taskqueue.relay import Relay


class Command(BaseCommand):
    """Move tasks from the outbox to the cluster, and enqueue the periodic ones, until SIGTERM. Run
    one or several.
    """

    help = (
        "Move tasks from the outbox in PostgreSQL to the queue cluster, and enqueue periodic tasks "
        "when they are due, until SIGTERM or SIGINT."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """The options."""
        parser.add_argument("--backend", default="default", help="alias in TASKS")

    def handle(self, **options: Any) -> None:
        """Run in the main thread."""
        backend = task_backends[options["backend"]]
        if not isinstance(backend, ClusterBackend):
            raise CommandError(f"backend {options['backend']!r} is no ClusterBackend")
        discover()
        hooks.start("relay")
        relay = Relay(backend)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: relay.stop())
        relay.run()
        hooks.stop("relay")
