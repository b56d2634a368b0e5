"""`python -m app tasks <verb>`: what the queues hold, and what an operator can do about it."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error as DatabaseError
from django.db import connections
from django.tasks import task_backends

from app.taskqueue import operations, outbox
from app.taskqueue.backend import ClusterBackend
from app.taskqueue.cluster import Cluster
from app.taskqueue.operations import LISTED, Shards
from app.taskqueue.stats import QueueReport, read_stats
from app.taskqueue.topology import QueueUnavailable

LOOK = 0.5  # seconds between two looks of `drain`

Options = dict[str, Any]


class Command(BaseCommand):
    """One verb per run, on the queues of one backend. `--json` prints one document."""

    help = "Show what the task queues hold, and act on tasks: retry, drop, cancel, pause, drain."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """The verbs and their options."""
        parser.add_argument("--backend", default="default", help="alias in TASKS")
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
        verb = _verb(verbs, "stats", "Numbers per queue, and of the outbox.")
        verb = _verb(verbs, "list", "Tasks in one state; dead ones if no other is named.")
        _queues(verb)
        verb.add_argument("--state", choices=sorted(LISTED), default="dead", help="default: dead")
        verb.add_argument("--limit", type=int, default=50, help="rows; default: 50")
        verb = _verb(verbs, "show", "Everything about one task: arguments, times, errors, outbox.")
        verb.add_argument("id", help="as `tasks list`, logs and traces name it")
        verb = _verb(verbs, "retry", "Bring dead tasks back, with all their attempts.")
        _ids_or_all(verb, "all tasks that are dead now")
        verb = _verb(verbs, "drop", "Give up dead tasks: they leave the list, nobody runs them.")
        _ids_or_all(verb, "all tasks that are dead now")
        verb = _verb(
            verbs,
            "cancel",
            "Take out tasks that have not ended. The worker of a running one loses its lease: a "
            "coroutine is stopped, a thread's result is refused.",
        )
        verb.add_argument("ids", nargs="+", metavar="id")
        verb = _verb(verbs, "pause", "Workers take nothing more; what they run goes on.")
        _names_or_all(verb)
        verb = _verb(verbs, "resume", "Undo `pause`.")
        _names_or_all(verb)
        verb = _verb(
            verbs,
            "drain",
            "Wait until nothing is ready or running, for example before a maintenance. Exit code 1 "
            "when that takes longer than the timeout.",
        )
        _queues(verb)
        verb.add_argument("--timeout", type=float, default=600.0, help="seconds; default: 600")
        verb.add_argument("--running", action="store_true", help="only what runs, after `pause`")

    def handle(self, **options: Any) -> None:
        """Run one verb; whatever does not answer ends in one sentence."""
        backend = task_backends[options["backend"]]
        if not isinstance(backend, ClusterBackend):
            raise CommandError(f"backend {options['backend']!r} is no ClusterBackend")
        queues = options.get("queue") or sorted(backend.queues)
        if unknown := sorted(set(queues) - backend.queues):
            raise CommandError(f"no queue {', '.join(unknown)}; TASKS has {sorted(backend.queues)}")
        cluster = Cluster(backend.settings.address, timeout=3.0)
        try:
            run: Callable[[Shards, Options], None] = getattr(self, f"_{options['verb']}")
            run(Shards(backend, cluster, queues), options)
        except QueueUnavailable as error:
            raise CommandError(f"{error}; check QUEUE_URL, and CLUSTER INFO on a node") from error
        except DatabaseError as error:
            text = str(error).strip().partition("\n")[0]
            raise CommandError(
                f"the database does not answer: {text}; check DATABASE_URL"
            ) from error
        finally:
            cluster.close()

    def _stats(self, shards: Shards, options: Options) -> None:
        with connections[shards.backend.settings.database].cursor() as cursor:
            cursor.execute(outbox.BACKLOG)
            rows, oldest = cursor.fetchone()
            cursor.execute(outbox.SCHEDULED)
            scheduled = dict(cursor.fetchall())
        reports = read_stats(shards.backend, shards.cluster)
        document = {
            "queues": {
                name: asdict(report) | {"scheduled": scheduled.get(name, 0)}
                for name, report in reports.items()
            },
            "outbox": {"unconfirmed": rows, "oldest_seconds": round(oldest, 3)},
        }
        if options["json"]:
            self._write(document)
            return
        self._table(_STATS, [_stats_row(r, scheduled.get(n, 0)) for n, r in reports.items()])
        self.stdout.write(f"outbox: {rows} unconfirmed, the oldest for {oldest:.1f} s")

    def _list(self, shards: Shards, options: Options) -> None:
        if options["limit"] < 1:
            raise CommandError("--limit must be at least 1")
        rows = operations.listed(shards, options["state"], options["limit"])
        if options["json"]:
            self._write(rows)
        elif rows:
            self._table(list(rows[0]), [list(row.values()) for row in rows])
        else:
            self.stdout.write(f"no {options['state']} tasks")

    def _show(self, shards: Shards, options: Options) -> None:
        try:
            view = operations.find(shards, options["id"])
        except ValueError as error:
            raise CommandError(str(error)) from error
        if view is None:
            ttl = shards.backend.settings.result_ttl
            raise CommandError(
                f"no task {options['id']}: never committed, or ended more than {ttl} s ago; "
                "`tasks list` names those that are dead"
            )
        if options["json"]:
            self._write(view)
            return
        errors = view.pop("errors", [])
        width = max(map(len, view))
        for name, value in view.items():
            text = value if isinstance(value, str) else json.dumps(value)
            self.stdout.write(f"{name.ljust(width)}  {text}")
        for failure in errors:
            self.stdout.write(f"\nattempt {failure['attempt']}: {failure['exception']}")
            self.stdout.write(failure["traceback"].rstrip())

    def _retry(self, shards: Shards, options: Options) -> None:
        if _wants_all(options):
            count = operations.revive_all(shards)
            self._say(options, {"retried": count}, f"{_tasks(count)} ready again")
            return
        self._each(
            options, "ready again", lambda i: (operations.revive(shards, i), _state(shards, i))
        )

    def _drop(self, shards: Shards, options: Options) -> None:
        if _wants_all(options):
            count = operations.drop_all(shards)
            self._say(options, {"dropped": count}, f"{_tasks(count)} dropped")
            return
        self._each(options, "dropped", lambda i: operations.drop(shards, i))

    def _cancel(self, shards: Shards, options: Options) -> None:
        self._each(options, "cancelled", lambda i: operations.cancel(shards, i))

    def _pause(self, shards: Shards, options: Options) -> None:
        chosen = _chosen(shards, options)
        operations.pause(chosen)
        names = sorted(chosen.queues)
        self._say(options, {"paused": names}, f"paused: {', '.join(names)}; undo: `tasks resume`")

    def _resume(self, shards: Shards, options: Options) -> None:
        chosen = _chosen(shards, options)
        operations.resume(chosen)
        names = sorted(chosen.queues)
        self._say(options, {"resumed": names}, f"resumed: {', '.join(names)}")

    def _drain(self, shards: Shards, options: Options) -> None:
        started = time.monotonic()
        while True:
            reports = read_stats(shards.backend, shards.cluster, shards.queues).values()
            running = sum(r.running for r in reports)
            ready = 0 if options["running"] else sum(r.ready for r in reports)
            seconds = time.monotonic() - started
            if not running + ready:
                document = {"drained": True, "seconds": round(seconds, 1)}
                self._say(options, document, f"nothing is left, after {seconds:.1f} s")
                return
            if seconds >= options["timeout"]:
                paused = any(r.paused and r.ready for r in reports) and ready
                hint = "they are paused: `tasks resume`" if paused else "do workers run?"
                raise CommandError(
                    f"{ready} tasks ready and {running} running after {seconds:.0f} s; {hint}"
                )
            time.sleep(LOOK)

    def _each(self, options: Options, done: str, act: Callable[[str], tuple[bool, str]]) -> None:
        """Act on each id; afterwards an error that names those on which nothing was done."""
        results = {}
        for task_id in options["ids"]:
            try:
                results[task_id] = act(task_id)
            except ValueError as error:
                results[task_id] = (False, str(error))
        left = [f"{i} ({state or 'unknown'})" for i, (acted, state) in results.items() if not acted]
        document = {
            i: {"done": acted, "state": state or "unknown"} for i, (acted, state) in results.items()
        }
        count = len(results) - len(left)
        if count or not left:
            self._say(options, document, f"{_tasks(count)} {done}")
        if left:
            raise CommandError(f"not {done}: {', '.join(left)}; see `tasks show <id>`")

    def _say(self, options: Options, document: object, sentence: str) -> None:
        if options["json"]:
            self._write(document)
        else:
            self.stdout.write(sentence)

    def _write(self, document: object) -> None:
        self.stdout.write(json.dumps(document, ensure_ascii=False))

    def _table(self, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        texts = [list(head), *([str(cell) for cell in row] for row in rows)]
        widths = [max(len(row[n]) for row in texts) for n in range(len(head))]
        for row in texts:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            self.stdout.write("  ".join(cells).rstrip())


_STATS = (
    *("queue", "ready", "delayed", "scheduled", "running", "dead"),
    *("oldest_ready", "backlog", "goal", "state"),
)


def _stats_row(report: QueueReport, scheduled: int) -> list[object]:
    return [
        *(report.queue, report.ready, report.delayed, scheduled, report.running, report.dead),
        f"{report.oldest_ready_age_seconds:.1f} s",
        f"{report.backlog_seconds:.1f} s",
        f"{report.drain_goal_seconds:g} s",
        "paused" if report.paused else "open",
    ]


def _verb(verbs: Any, name: str, meaning: str) -> CommandParser:
    parser: CommandParser = verbs.add_parser(name, help=meaning, description=meaning)
    parser.add_argument("--json", action="store_true", help="one JSON document")
    return parser


def _queues(parser: CommandParser) -> None:
    parser.add_argument("--queue", action="append", help="only this queue; repeatable")


def _ids_or_all(parser: CommandParser, meaning: str) -> None:
    parser.add_argument("ids", nargs="*", metavar="id")
    parser.add_argument("--all", action="store_true", help=meaning)
    _queues(parser)


def _names_or_all(parser: CommandParser) -> None:
    parser.add_argument("queue", nargs="*", metavar="queue")
    parser.add_argument("--all", action="store_true", help="all queues")


def _wants_all(options: Options) -> bool:
    if bool(options["ids"]) == options["all"]:
        raise CommandError("name ids (`tasks list` shows them), or --all")
    return bool(options["all"])


def _chosen(shards: Shards, options: Options) -> Shards:
    if bool(options["queue"]) == options["all"]:
        raise CommandError(f"name queues of {sorted(shards.backend.queues)}, or --all")
    return shards


def _state(shards: Shards, task_id: str) -> str:
    view = operations.find(shards, task_id)
    return str(view["state"]) if view else ""


def _tasks(count: int) -> str:
    return "1 task" if count == 1 else f"{count} tasks"
