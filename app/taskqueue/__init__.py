"""Durable background tasks: Django's task API on a Valkey or Redis Cluster, fed by an outbox.

Imports third parties only, so it can be published as it is. Why: docs/adr/0002.
"""

from app.taskqueue.cron import periodic
from app.taskqueue.durable import DurableTask, task

__all__ = ["DurableTask", "periodic", "task"]
