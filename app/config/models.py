"""The version of the schema, so that pods know whether they may start."""

from django.db import models
from django.utils import timezone


class SchemaVersion(models.Model):
    """One row. `min_app` rises only in a contract phase: older images then refuse to start."""

    id = models.SmallIntegerField(primary_key=True, default=1)
    min_app = models.CharField(max_length=32, default="0")
    migrated_by = models.CharField(max_length=64, default="")
    migrated_at = models.DateTimeField(default=timezone.now)

    class Meta:
        db_table = "schema_version"
        constraints = (
            models.CheckConstraint(condition=models.Q(id=1), name="schema_version_is_one_row"),
        )

    def __str__(self) -> str:
        return f"migrated by {self.migrated_by}, readable from {self.min_app}"
