"""Django application of the authentication domain."""

from django.apps import AppConfig


class AuthenticationConfig(AppConfig):
    name = "app.authentication"
    label = "authentication"
    verbose_name = "Accounts and sellers"
