"""`migrate`: Django's, around PgBouncer, one at a time, with short lock waits and retries."""

from typing import Any

import psycopg
from django.conf import settings
from django.core.management.commands.migrate import Command as DjangoMigrate
from django.db import OperationalError
from django.utils import timezone

from app.config import schema
from app.config.models import SchemaVersion

ATTEMPTS = 30
DATABASE_SECONDS = 60.0


class Command(DjangoMigrate):
    """See the module. An image older than the schema changes nothing and exits 0: Helm creates the
    Job of an old release again on rollback."""

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the migrations."""
        schema.use_direct_connection()
        schema.wait_for_database(DATABASE_SECONDS, self.stderr.write)
        with schema.migration_lock():
            newer = schema.newer_migrations()
            if newer and not schema.missing_migrations():
                self.stdout.write(
                    f"the schema is newer than this image ({newer[-1]}): nothing to do"
                )
                return
            self._migrate(args, options)
            whole = not options["plan"] and not options["check_unapplied"]
            if whole and not schema.missing_migrations():
                by = settings.APP_VERSION[:64]
                SchemaVersion.objects.update_or_create(
                    id=1, defaults={"migrated_by": by, "migrated_at": timezone.now()}
                )

    def _migrate(self, args: Any, options: Any) -> None:
        """Django's `migrate`, again while another session holds a table lock."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                super().handle(*args, **options)
                return
            except OperationalError as error:
                locked = isinstance(error.__cause__, psycopg.errors.LockNotAvailable)
                if not locked or attempt == ATTEMPTS:
                    raise
                self.stderr.write(f"waiting for a table lock, attempt {attempt}")
