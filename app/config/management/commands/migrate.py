"""`migrate`: Django's, around PgBouncer, one at a time, with short lock waits and retries."""

from typing import Any

from django.conf import settings
from django.core.management.commands.migrate import Command as DjangoMigrate
from django.db import OperationalError
from django.utils import timezone

from app.config import schema
from app.config.models import SchemaVersion

ATTEMPTS = 30
DATABASE_SECONDS = 60.0


class Command(DjangoMigrate):
    """See the module. An image older than the schema changes nothing and exits 0 (Helm re-creates
    old Jobs on rollback)."""

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the migrations."""
        schema.use_direct_connection()
        schema.wait_for_database(DATABASE_SECONDS, self.stderr.write)
        with schema.migration_lock():
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    super().handle(*args, **options)
                    break
                except OperationalError as error:
                    if "lock timeout" not in str(error) or attempt == ATTEMPTS:
                        raise
                    self.stderr.write(f"waiting for a table lock, attempt {attempt}")
            if (
                not options["plan"]
                and not options["check_unapplied"]
                and not schema.missing_migrations()
            ):
                SchemaVersion.objects.update_or_create(
                    id=1,
                    defaults={
                        "migrated_by": settings.APP_VERSION[:64],
                        "migrated_at": timezone.now(),
                    },
                )
