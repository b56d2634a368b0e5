"""Settings for mypy: the Django plugin loads the models, so every required name needs a value."""

import os

_PLACEHOLDERS = {
    "ALLOWED_HOSTS": "localhost",
    "DATABASE_URL": "postgresql://nobody:none@127.0.0.1:1/none",
    "EMAIL_URL": "smtp://127.0.0.1:1",
    "METRICS_PORT": "0",
    "PUBLIC_BASE_URL": "http://127.0.0.1:1",
    "QUEUE_URL": "valkey://127.0.0.1:1",
    "SECRET_KEY": "only-for-the-type-checker-and-never-used-to-sign-anything",
}
for _name, _value in _PLACEHOLDERS.items():
    os.environ.setdefault(_name, _value)

try:
    from app.config.settings import *  # noqa: F403
except ModuleNotFoundError:  # while the frame is being written
    INSTALLED_APPS: list[str] = []
