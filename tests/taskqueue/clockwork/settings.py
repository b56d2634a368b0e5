"""The app's settings and this app: what a relay process under test runs with."""

from app.config.settings import *  # noqa: F403
from app.config.settings import INSTALLED_APPS as _APPS

INSTALLED_APPS = [*_APPS, "tests.taskqueue.clockwork"]
