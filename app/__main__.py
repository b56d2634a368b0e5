"""`python -m app <command>`: the one entry point of every process (web, worker, relay, jobs)."""

import os
import signal
import sys


def main() -> None:
    """Run a management command; a missing setting ends in one sentence, not in a traceback."""
    # As process 1 of a container Python would ignore the signal: migrate, seed and wait_for_schema
    # would be waited for until the grace period ends. Servers and workers set their own handlers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "app.config.settings")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    try:
        execute_from_command_line(["python -m app", *sys.argv[1:]])
    except ImproperlyConfigured as error:
        sys.exit(f"fashionistar: {error}")


if __name__ == "__main__":
    main()
