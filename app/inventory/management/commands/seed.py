"""`python -m app seed`: fill the catalogue with demo products."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from app.inventory.services import seeding

WIDTH = 32


class Command(BaseCommand):
    """Deterministic, and safe to run again: what exists is left alone."""

    help = "Fill the catalogue with demo products, prices and stock"

    def add_arguments(self, parser: ArgumentParser) -> None:
        """How many."""
        parser.add_argument("--products", type=int, default=200, help="catalogue size (200)")

    def handle(self, *args: Any, **options: Any) -> None:
        """Seed, showing progress on stderr."""
        wanted: int = options["products"]
        if wanted < 0:
            raise CommandError("--products must not be negative")
        for done in seeding.seed(products=wanted):
            self._show(done, wanted)
        if self._on_terminal():
            self.stderr.write("")
        self.stdout.write(f"catalogue: {wanted} products")

    def _show(self, done: int, wanted: int) -> None:
        filled = WIDTH * done // wanted
        bar = "#" * filled + "." * (WIDTH - filled)
        start, end = ("\r", "") if self._on_terminal() else ("", "\n")
        self.stderr.write(f"{start}seed [{bar}] {done}/{wanted} products", ending=end)

    def _on_terminal(self) -> bool:
        return self.stderr.isatty()
