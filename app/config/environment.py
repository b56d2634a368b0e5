"""Reading settings from the environment: a missing or malformed name stops the start, by name."""

import os
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured


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


def listed(name: str) -> list[str]:
    """A comma-separated list, empty parts dropped."""
    return [part.strip() for part in text(name).split(",") if part.strip()]


def database(name: str, url: str, password: str) -> dict[str, Any]:
    """Django's DATABASES entry for `postgresql://user:password@host:port/name?sslmode=…`.

    `password` replaces the one in the URL when set; query parameters go to libpq.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"postgres", "postgresql"} or not parts.path.strip("/"):
        raise ImproperlyConfigured(
            f"{name} must look like postgresql://user:password@host:5432/fashionistar"
        )
    try:
        port = parts.port
    except ValueError:
        raise ImproperlyConfigured(f"{name} has a port that is not a number") from None
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.strip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": password or unquote(parts.password or ""),
        "HOST": unquote(parts.hostname or ""),
        "PORT": str(port or 5432),
        "OPTIONS": dict(parse_qsl(parts.query, keep_blank_values=True)),
    }


def mailer(name: str, url: str) -> dict[str, Any]:
    """Django's MAILERS entry for `smtp://[user:password@]host:port` (`smtps://` = TLS,
    `smtp+starttls://` = STARTTLS)."""
    parts = urlsplit(url)
    if parts.scheme not in {"smtp", "smtps", "smtp+starttls"} or not parts.hostname:
        raise ImproperlyConfigured(f"{name} must look like smtp://mail.example.com:587")
    return {
        "BACKEND": "django.core.mail.backends.smtp.EmailBackend",
        "OPTIONS": {
            "host": parts.hostname,
            "port": parts.port or 25,
            "username": unquote(parts.username or ""),
            "password": text("EMAIL_PASSWORD", unquote(parts.password or "")),
            "use_ssl": parts.scheme == "smtps",
            "use_tls": parts.scheme == "smtp+starttls",
            "timeout": 10,
        },
    }
