"""The Django app of the task queue."""

from django.apps import AppConfig


class TaskQueueConfig(AppConfig):
    """Owns two tables: the outbox and the schedule."""

    name = "app.taskqueue"
    label = "taskqueue"
    verbose_name = "Task queue"
