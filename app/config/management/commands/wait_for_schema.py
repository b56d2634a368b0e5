"""`wait_for_schema`: ends when the database has every migration that this image needs."""

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, connection

from app.config import schema


class Command(BaseCommand):
    """Exit 0 when the schema is at or past what this image needs, 1 with the reason after
    `--timeout` seconds. It never changes the database."""

    help = "Wait until the database has the schema that this image needs"
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """`--timeout` in seconds."""
        parser.add_argument("--timeout", type=float, default=120, help="seconds (default 120)")

    def handle(self, *args: Any, timeout: float, **options: Any) -> None:
        """Poll twice a second."""
        schema.use_direct_connection()
        deadline = time.monotonic() + timeout
        while True:
            reason = self._reason()
            if not reason:
                self.stdout.write("the schema is ready")
                return
            if time.monotonic() > deadline:
                raise CommandError(f"the schema is not ready after {timeout:.0f} s: {reason}")
            time.sleep(0.5)

    def _reason(self) -> str:
        try:
            missing = schema.missing_migrations()
            if missing:
                return f"{len(missing)} migrations are missing ({missing[0]} …): run `migrate`"
            needed = schema.too_old_by()
        except DatabaseError as error:
            connection.close()
            return str(error).strip()
        if needed:
            raise CommandError(f"the schema needs version {needed} or newer of this image")
        return ""
