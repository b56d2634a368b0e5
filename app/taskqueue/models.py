"""Two tables: the outbox, where a task is a row until the cluster has confirmed it, and the
schedule.
"""

from typing import TYPE_CHECKING, ClassVar

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.functions import Now

if TYPE_CHECKING:
    CharField = models.CharField[str, str]
else:
    CharField = models.CharField


class TaskIdField(CharField):
    """A text key in byte order, with the one index that it needs.

    Django gives a CharField key a second index for LIKE, which every insert would pay for.
    """

    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        """The column's type; written out so that Django does not add its LIKE index."""
        return f'character varying({self.max_length}) COLLATE "C"'


class OutboxTask(models.Model):
    """One enqueued task. Inserted in the transaction of the fact, deleted by the relay.

    `run_after` is when it is due (the time of the insert when it is due at once); class
    "until_finished" keeps the row, confirmed, until the task has succeeded.
    """

    id = TaskIdField(primary_key=True, max_length=48)
    path = models.TextField()
    queue = models.CharField(max_length=64)
    shard = models.SmallIntegerField()
    priority = models.SmallIntegerField(db_default=0)
    delivery = models.CharField(db_column="class", max_length=16, db_default="dispatched")
    envelope = models.JSONField()
    version = models.SmallIntegerField(db_default=1)
    run_after = models.DateTimeField(db_default=Now())
    unique_key = models.CharField(max_length=255, null=True)  # noqa: DJ001 - none is not ""
    attempts = models.IntegerField(db_default=0)  # pushes that the cluster did not confirm
    created_at = models.DateTimeField(db_default=Now())
    pushed_at = models.DateTimeField(null=True)  # the last push or check
    confirmed_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "taskqueue_outbox"
        indexes: ClassVar = [
            models.Index(
                fields=["run_after", "id"],
                name="taskqueue_outbox_unconfirmed",
                condition=models.Q(confirmed_at__isnull=True),
            ),
            models.Index(
                fields=["pushed_at", "id"],
                name="taskqueue_outbox_unfinished",
                condition=models.Q(confirmed_at__isnull=False),
            ),
        ]


class PeriodicTask(models.Model):
    """How far a periodic task has been enqueued (schedule.py). Locked by the relay that does it."""

    name = TaskIdField(primary_key=True, max_length=255)
    last_tick = models.DateTimeField(null=True)  # the last one enqueued, for people
    checked_at = models.DateTimeField()  # ticks up to this moment have been handled

    class Meta:
        db_table = "taskqueue_schedule"
