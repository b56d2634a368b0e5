"""Django application of the orders domain."""

from django.apps import AppConfig


class OrdersConfig(AppConfig):
    name = "app.orders"
    label = "orders"
    verbose_name = "Orders"
