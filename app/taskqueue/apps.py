"""The Django app of the task queue."""

from django.apps import AppConfig


class TaskQueueConfig(AppConfig):
    """Owns one table: the outbox."""

    name = "app.taskqueue"
    label = "taskqueue"
    verbose_name = "Task queue"
