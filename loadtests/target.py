"""Which server to load: a URL that was given, else the devstack that runs here."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from urllib.parse import urlsplit


class NoTargetError(Exception):
    """There is nothing to send load to; the text says what to do."""


def state_dir() -> Path:
    """Where the devstack keeps its state: FS_STATE, else `.devstack` beside this package."""
    return Path(os.environ.get("FS_STATE") or Path(__file__).parent.parent / ".devstack")


def find_host(given: str | None) -> str:
    """The base URL to load, without a slash at its end; NoTargetError where none is known."""
    host = given or _devstack_url()
    if not host.startswith(("http://", "https://")):
        message = f"HOST must be a URL such as http://127.0.0.1:8000, not {host!r}"
        raise NoTargetError(message)
    _require_listener(host)
    return host.rstrip("/")


def _require_listener(host: str) -> None:
    try:
        parts = urlsplit(host)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((str(parts.hostname), port), timeout=5).close()
    except (OSError, ValueError) as error:
        message = f"Nothing answers at {host} ({error}): is it running? (`make status`)"
        raise NoTargetError(message) from None


def _devstack_url() -> str:
    try:
        lines = (state_dir() / "env").read_text().splitlines()
    except FileNotFoundError:
        message = "No devstack runs here: start it with `make up`, or give HOST=http://…"
        raise NoTargetError(message) from None
    values = dict(line.split("=", 1) for line in lines if "=" in line)
    url = values.get("API_URL", "").strip("\"'")
    if not url:
        message = "The devstack wrote no API_URL: start it again with `make up`, or give HOST="
        raise NoTargetError(message)
    return url
