"""Reading settings from the environment: a missing or malformed name stops the start, by name."""

import os
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import psycopg
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from opentelemetry.instrumentation.utils import suppress_instrumentation
from psycopg.conninfo import make_conninfo
from psycopg_pool import ConnectionPool

from app.taskqueue.connection import parse

SMTP_PORTS = {"smtp": 25, "smtps": 465, "smtp+starttls": 587}


def required(name: str, example: str) -> str:
    """The value of a variable that has no sensible default. Raises ImproperlyConfigured."""
    value = os.environ.get(name, "").strip()
    if not value:
        raise ImproperlyConfigured(f"set {name}, for example {name}={example}")
    return value


def text(name: str, default: str = "") -> str:
    """An optional variable."""
    return os.environ.get(name, "").strip() or default


def number(name: str, default: float, *, minimum: float = 0, maximum: float = 1_000_000) -> float:
    """An optional number within bounds. Raises ImproperlyConfigured."""
    value = text(name, str(default))
    try:
        parsed = float(value)
    except ValueError:
        raise ImproperlyConfigured(f"{name} must be a number, not {value!r}") from None
    if not minimum <= parsed <= maximum:
        raise ImproperlyConfigured(f"{name} must lie between {minimum} and {maximum}")
    return parsed


def whole(name: str, default: int, *, minimum: int = 0, maximum: int = 1_000_000) -> int:
    """An optional whole number within bounds. Raises ImproperlyConfigured."""
    parsed = number(name, default, minimum=minimum, maximum=maximum)
    if parsed != int(parsed):
        raise ImproperlyConfigured(f"{name} must be a whole number")
    return int(parsed)


def listed(value: str) -> list[str]:
    """The parts of a comma-separated value, empty ones dropped."""
    return [part.strip() for part in value.split(",") if part.strip()]


def numbers(name: str, defaults: Mapping[str, float], known: Collection[str]) -> dict[str, float]:
    """An optional list of numbers above 0 by known key, `emails=30,sms=10`: changes to the
    defaults. Raises ImproperlyConfigured.
    """
    found = dict(defaults)
    for part in listed(text(name)):
        key, _, value = part.partition("=")
        try:
            found[key.strip()] = float(value)
        except ValueError:
            found[key.strip()] = 0.0
        if not 0 < found[key.strip()] <= 1_000_000:
            raise ImproperlyConfigured(f"{name} must look like emails=30,sms=10, not {part!r}")
        if key.strip() not in known:
            raise ImproperlyConfigured(f"{name} knows {', '.join(known)}, not {key.strip()!r}")
    return found


def choice(name: str, default: str, known: Collection[str]) -> str:
    """One of the known words. Raises ImproperlyConfigured."""
    value = text(name, default).upper()
    if value not in known:
        raise ImproperlyConfigured(f"{name} must be one of {', '.join(known)}, not {value!r}")
    return value


def address(name: str, value: str, example: str, schemes: Collection[str]) -> SplitResult:
    """A URL with one of the schemes, a host and a port that is a number (or none).

    Raises ImproperlyConfigured with the example.
    """
    try:
        parts = urlsplit(value)
        if parts.scheme in schemes and parts.hostname and parts.port != 0:
            return parts
    except ValueError:  # an open bracket, or a port that is no number
        pass
    raise ImproperlyConfigured(f"{name} must look like {example}")


def database(name: str, url: str, password: str) -> dict[str, Any]:
    """Django's DATABASES entry for `postgresql://user:password@host:port/name?sslmode=…`.

    `password` replaces the one in the URL when set; query parameters go to libpq.
    """
    example = "postgresql://user:password@host:5432/fashionistar"
    parts = address(name, url, example, {"postgres", "postgresql"})
    if not parts.path.strip("/"):
        raise ImproperlyConfigured(f"{name} must look like {example}")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.strip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": password or unquote(parts.password or ""),
        "HOST": unquote(parts.hostname or ""),
        "PORT": str(parts.port or 5432),
        "OPTIONS": dict(parse_qsl(parts.query, keep_blank_values=True)),
    }


def mailer(name: str, url: str) -> dict[str, Any]:
    """Django's MAILERS entry for `smtp://[user:password@]host:port` (`smtps://` = TLS,
    `smtp+starttls://` = STARTTLS)."""
    parts = address(name, url, "smtp+starttls://user@mail.example.com:587", SMTP_PORTS)
    return {
        "BACKEND": "django.core.mail.backends.smtp.EmailBackend",
        "OPTIONS": {
            "host": parts.hostname,
            "port": parts.port or SMTP_PORTS[parts.scheme],
            "username": unquote(parts.username or ""),
            "password": text("EMAIL_PASSWORD", unquote(parts.password or "")),
            "use_ssl": parts.scheme == "smtps",
            "use_tls": parts.scheme == "smtp+starttls",
            "timeout": 10,
        },
    }


def cluster(name: str, url: str, *, password: str, ca_file: str, prefix: str) -> dict[str, Any]:
    """Django's CACHES entry for `valkey://[user@]host:port,host:port`.

    `name` is the URL's variable. Raises ImproperlyConfigured, which names the wrong variable.
    """
    options = cluster_options(name, url, password=password, ca_file=ca_file, prefix=prefix)
    return {
        "BACKEND": "app.common.cache.ClusterCache",
        "LOCATION": options.pop("url"),
        "OPTIONS": options,
    }


def cluster_options(
    name: str, url: str, *, password: str, ca_file: str, prefix: str
) -> dict[str, Any]:
    """How to reach a cluster. Raises ImproperlyConfigured, which names the wrong variable."""
    try:
        parse(url, password, ca_file, prefix)
    except ImproperlyConfigured as error:
        what, _, fix = str(error).partition(":")
        variable = what.removeprefix("queue ").replace(" ", "_").upper()
        raise ImproperlyConfigured(f"{name.removesuffix('URL')}{variable}:{fix}") from error
    return {"url": url, "password": password, "ca_file": ca_file, "prefix": prefix}


def libpq(entry: dict[str, Any]) -> str:
    """The same database as a libpq connection string, for connections that are not Django's."""
    options = {name: value for name, value in entry["OPTIONS"].items() if name != "pool"}
    return make_conninfo(
        host=entry["HOST"],
        port=entry["PORT"],
        dbname=entry["NAME"],
        user=entry["USER"],
        password=entry["PASSWORD"],
        **options,
    )


def check_connection(connection: psycopg.Connection[Any]) -> None:
    """Whether a pooled connection still lives, without a span of its own. Raises when not.

    One that died is rarely alone: the whole pool is checked then, or each further dead one would
    cost the request a second until its time is up.
    """
    with suppress_instrumentation():
        try:
            ConnectionPool.check_connection(connection)
        except psycopg.Error:
            pool = connections["default"].pool  # type: ignore[attr-defined]
            pool.check()
            raise
