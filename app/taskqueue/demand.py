"""How much work a queue holds, in seconds of one worker process: what autoscalers divide by the
queue's drain goal.

Tasks that run count in full: a queue whose last tasks are long must not lose the pods that run
them. Tasks that are not due do not count, nor do ready ones while the queue is paused, as no pod
could take them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

ASSUMED_SECONDS = 1.0  # of a task, until the first of its queue has ended
RESOLUTION = 0.001  # seconds; shorter tasks are measured as 0, but a million of them is work


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """The state of a queue at one moment."""

    ready: int  # with those that are due
    running: int
    paused: bool
    task_seconds: float  # the median
    concurrency: int  # tasks that one worker process runs at a time


def median_seconds(run_ms: Sequence[int]) -> float:
    """The median duration of the latest attempts, given in milliseconds."""
    return max(median(run_ms) / 1000, RESOLUTION) if run_ms else ASSUMED_SECONDS


def backlog_seconds(demand: Demand) -> float:
    """How long one worker process would take; divided by the drain goal: how many are wanted."""
    tasks = demand.running + (0 if demand.paused else demand.ready)
    return tasks * demand.task_seconds / demand.concurrency
