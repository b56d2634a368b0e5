"""`python -m app tasks stats|list|retry`: what the queues hold, and bringing dead tasks back."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections
from django.tasks import task_backends

from app.taskqueue import outbox
from app.taskqueue.backend import ClusterBackend
from app.taskqueue.cluster import Cluster
from app.taskqueue.dead import dead_letters, revive, revive_all
from app.taskqueue.stats import read_stats
from app.taskqueue.topology import QueueUnavailable


class Command(BaseCommand):
    """Numbers and dead letters of the queues, as tables or JSON."""

    help = "Show what the task queues hold; list dead tasks and bring them back."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Three verbs."""
        parser.add_argument("--backend", default="default", help="alias in TASKS")
        verbs = parser.add_subparsers(dest="verb", required=True)
        stats = verbs.add_parser("stats", help="ready, delayed, running and dead tasks per queue")
        listed = verbs.add_parser("list", help="the latest dead tasks")
        retry = verbs.add_parser("retry", help="bring dead tasks back with all their attempts")
        for verb in (stats, listed):
            verb.add_argument("--json", action="store_true", help="one JSON document")
        for verb in (listed, retry):
            verb.add_argument("--queue", action="append", help="only this queue; repeatable")
        listed.add_argument("--limit", type=int, default=50)
        retry.add_argument("ids", nargs="*", metavar="id")
        retry.add_argument("--all", action="store_true", help="all dead tasks of the queues")

    def handle(self, **options: Any) -> None:
        """Run one verb; a cluster that does not answer ends in one sentence."""
        backend = task_backends[options["backend"]]
        if not isinstance(backend, ClusterBackend):
            raise CommandError(f"backend {options['backend']!r} is no ClusterBackend")
        queues = options.get("queue") or sorted(backend.queues)
        if unknown := sorted(set(queues) - backend.queues):
            raise CommandError(f"no queue {', '.join(unknown)}; TASKS has {sorted(backend.queues)}")
        cluster = Cluster(backend.settings.address, timeout=3.0)
        try:
            verb = {"stats": self._stats, "list": self._list, "retry": self._retry}
            verb[options["verb"]](backend, cluster, queues, options)
        except QueueUnavailable as error:
            raise CommandError(str(error)) from error
        finally:
            cluster.close()

    def _stats(
        self, backend: ClusterBackend, cluster: Cluster, _queues: Sequence[str], options: Any
    ) -> None:
        with connections[backend.settings.database].cursor() as cursor:
            cursor.execute(outbox.BACKLOG)
            rows, oldest = cursor.fetchone()
        queues = {name: asdict(s) for name, s in read_stats(backend, cluster).items()}
        waiting = {"unconfirmed": rows, "oldest_seconds": round(oldest, 3)}
        if options["json"]:
            self.stdout.write(json.dumps({"queues": queues, "outbox": waiting}))
            return
        columns = list(next(iter(queues.values())))
        self._table(
            ["queue", *columns], [[name, *stats.values()] for name, stats in queues.items()]
        )
        self.stdout.write(f"outbox: {rows} unconfirmed, the oldest for {oldest:.1f} s")

    def _list(
        self, backend: ClusterBackend, cluster: Cluster, queues: Sequence[str], options: Any
    ) -> None:
        letters = [asdict(d) for d in dead_letters(backend, cluster, queues, options["limit"])]
        if options["json"]:
            self.stdout.write(json.dumps(letters))
        elif letters:
            self._table(list(letters[0]), [list(letter.values()) for letter in letters])
        else:
            self.stdout.write("no dead tasks")

    def _retry(
        self, backend: ClusterBackend, cluster: Cluster, queues: Sequence[str], options: Any
    ) -> None:
        if bool(options["ids"]) == options["all"]:
            raise CommandError("name ids, or --all")
        if options["all"]:
            count = revive_all(backend, cluster, queues)
        else:
            count = revive(backend, cluster, options["ids"])
        self.stdout.write(f"{count} tasks are ready again")

    def _table(self, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        texts = [list(head), *([str(cell) for cell in row] for row in rows)]
        widths = [max(len(row[n]) for row in texts) for n in range(len(head))]
        for row in texts:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            self.stdout.write("  ".join(cells).rstrip())
