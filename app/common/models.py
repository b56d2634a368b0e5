"""Abstract model bases that every domain shares."""

from typing import ClassVar

from django.db import models

from app.common import ids


class PublicModel(models.Model):
    """A row with an identifier that may leave the system; the numeric key never does."""

    PREFIX: ClassVar[str]

    public_id = models.UUIDField(unique=True, default=ids.uuid7, editable=False)

    class Meta:
        abstract = True

    @property
    def pid(self) -> str:
        """The public identifier, e.g. `ord_01j…`."""
        return ids.encode(self.PREFIX, self.public_id)
