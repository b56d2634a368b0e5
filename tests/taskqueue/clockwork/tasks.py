"""Periodic tasks for relay and worker processes under test. Imported by no test: they would be
declared there, too.
"""

from __future__ import annotations

from app.taskqueue import periodic, relay, schedule, task
from tests.taskqueue.jobs import note

# Their clock runs fast, so they look at it often.
schedule.LOOK = 0.0
relay.POLL = 0.01


@periodic(cron="* * * * *", catch_up="all", catch_up_limit=5_000)
@task
def every_minute(*, tick: str) -> None:
    """Leave a row."""
    note("every_minute", tick)


@periodic(cron="*/10 * * * *", queue="emails", catch_up="all", catch_up_limit=5_000)
@task(priority=3)
def every_ten(*, tick: str = "") -> None:
    """Leave a row."""
    note("every_ten", tick)


@periodic(cron="0 * * * *")
def hourly(*, tick: str) -> None:
    """Leave a row."""
    note("hourly", tick)


@periodic(cron="30 9 * * MON-FRI", queue="sms", timezone="Africa/Lagos")
def weekdays() -> None:
    """A plain function, without arguments."""
    note("weekdays")
