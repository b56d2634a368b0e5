"""Settings without servers, for mypy's Django plugin and Django's own checks (`make check`)."""

import os

_PLACEHOLDERS = {
    "ALLOWED_HOSTS": "localhost",
    "CACHE_URL": "valkey://127.0.0.1:1",
    "DATABASE_URL": "postgresql://nobody:none@127.0.0.1:1/none",
    "EMAIL_URL": "smtp://127.0.0.1:1",
    "METRICS_PORT": "0",
    "PUBLIC_BASE_URL": "https://shop.example.com",
    "QUEUE_URL": "valkey://127.0.0.1:1",
    "SECRET_KEY": "8Jx2-never-used-to-sign-anything-0aQz7Lw4TnVb1KcYfR5mHs9eGdUiPo3W",
}
for _name, _value in _PLACEHOLDERS.items():
    os.environ.setdefault(_name, _value)

from app.config.settings import *  # noqa: E402, F403

# Nothing listens there: fail at once instead of waiting for a pool.
del DATABASES["default"]["OPTIONS"]["pool"]  # noqa: F405
