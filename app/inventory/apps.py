"""Django application of the inventory domain."""

from django.apps import AppConfig


class InventoryConfig(AppConfig):
    name = "app.inventory"
    label = "inventory"
    verbose_name = "Catalogue and stock"
