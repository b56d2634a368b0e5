"""The app's settings in an environment: which names they are, taken out, written and read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

APP_SETTINGS = frozenset(
    (
        "SECRET_KEY ALLOWED_HOSTS PUBLIC_BASE_URL TRUSTED_PROXIES APP_VERSION LOG_LEVEL FAILPOINTS "
        "DATABASE_URL DATABASE_DIRECT_URL DATABASE_PASSWORD DB_POOL_SIZE DB_MAX_LIFETIME "
        "HOT_POOL_SIZE QUEUE_URL QUEUE_PASSWORD QUEUE_CA_FILE QUEUE_PREFIX "
        "QUEUE_DRAIN_SECONDS QUEUE_CONCURRENCY EMAIL_URL EMAIL_FROM METRICS_PORT REQUEST_THREADS "
        "CACHE_URL CACHE_PASSWORD CACHE_CA_FILE CACHE_PREFIX RATE_LIMIT_CHECKOUT SYNTHETIC_KEY "
        "MAX_BODY_BYTES GRACEFUL_SECONDS OTEL_HOT_RATIO"
    ).split()
)


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` without the app's settings: a developer's exports must not leak into tests."""
    return {name: value for name, value in environment.items() if name not in APP_SETTINGS}


def given_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """The app's settings that the caller has set: they win over devstack's own.

    The details of a server count only together with its URL. METRICS_PORT is the first of three
    ports and handled by the caller.
    """
    given = {name: environment[name] for name in APP_SETTINGS if environment.get(name)}
    given.pop("METRICS_PORT", None)
    for url, details in _DETAILS.items():
        if url not in given:
            for name in details:
                given.pop(name, None)
    return given


_DETAILS = {
    "DATABASE_URL": ("DATABASE_DIRECT_URL", "DATABASE_PASSWORD"),
    "QUEUE_URL": ("QUEUE_PASSWORD", "QUEUE_CA_FILE"),
    "CACHE_URL": ("CACHE_PASSWORD", "CACHE_CA_FILE"),
}


def write(path: Path, values: Mapping[str, str]) -> None:
    """KEY=VALUE lines, readable by us only: they hold passwords."""
    draft = path.with_suffix(".draft")
    draft.touch(mode=0o600)
    draft.write_text("".join(f"{name}={value}\n" for name, value in sorted(values.items())))
    draft.rename(path)


def read(path: Path) -> dict[str, str]:
    """What `write` wrote; empty when there is no such file."""
    if not path.exists():
        return {}
    return dict(line.split("=", 1) for line in path.read_text().splitlines() if "=" in line)
