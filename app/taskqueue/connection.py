"""Where the queue cluster is and how to log in: `valkey://[user[:password]@]host[:port],host[:port]`.

`valkeys://` is TLS (the certificate and its name are verified); `redis://` and `rediss://` mean the
same. The addresses are seeds: the cluster itself names its nodes, by the endpoints they announce.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from django.core.exceptions import ImproperlyConfigured
from redis.asyncio.connection import Connection as AsyncConnection
from redis.asyncio.connection import SSLConnection as AsyncSSLConnection
from redis.backoff import NoBackoff
from redis.connection import Connection, SSLConnection
from redis.retry import Retry

DEFAULT_PORT = 6379
EXAMPLE = "valkey://user@valkey-0.valkey:6379,valkey-1.valkey:6379"
_TLS = {"valkey": False, "redis": False, "valkeys": True, "rediss": True}


@dataclass(frozen=True, slots=True, order=True)
class Node:
    """One server of the cluster, as announced."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class QueueAddress:
    """A parsed queue URL with everything needed to connect to any node of the cluster."""

    seeds: tuple[Node, ...]
    tls: bool = False
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    prefix: str = "fs"

    def options(self, *, timeout: float) -> dict[str, Any]:
        """Keyword arguments of any redis-py connection or client. `timeout` in seconds bounds
        connecting and each reply; nothing is retried below us, as not every command may be."""
        options: dict[str, Any] = {
            "username": self.username,
            "password": self.password,
            "socket_timeout": timeout,
            "socket_connect_timeout": timeout,
            "socket_keepalive": True,
            "protocol": 2,
            "driver_info": None,
        }
        if self.tls:
            options |= {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
            options |= {"ssl_ca_certs": self.ca_file} if self.ca_file else {}
        return options

    def connect(self, node: Node, *, timeout: float) -> Connection:
        """A connection to `node` for one owner (connects at first use)."""
        kind = SSLConnection if self.tls else Connection
        return kind(host=node.host, port=node.port, retry=_never(), **self.options(timeout=timeout))

    def connect_async(self, node: Node, *, timeout: float) -> AsyncConnection:
        """Like `connect`, for asyncio."""
        kind = AsyncSSLConnection if self.tls else AsyncConnection
        return kind(host=node.host, port=node.port, retry=_never(), **self.options(timeout=timeout))


def _never() -> Retry:
    return Retry(NoBackoff(), 0)


@lru_cache(maxsize=32)
def parse(
    url: str, password: str | None = None, ca_file: str | None = None, prefix: str = "fs"
) -> QueueAddress:
    """The address in `url`. ImproperlyConfigured, naming the fix, when something is wrong.

    `password` replaces one in the URL, so that the URL can be shown and the password be a secret.
    """
    scheme, separator, rest = url.strip().partition("://")
    if not separator or scheme not in _TLS:
        raise ImproperlyConfigured(
            f"queue URL: start with valkey:// or, for TLS, valkeys:// (example: {EXAMPLE})"
        )
    login, at, hosts = rest.rpartition("@")
    if not at:
        login = ""
    user, _, secret = login.partition(":")
    return QueueAddress(
        seeds=_seeds(hosts),
        tls=_TLS[scheme],
        username=unquote(user) or None,
        password=password or unquote(secret) or None,
        ca_file=_ca(ca_file, tls=_TLS[scheme]),
        prefix=_prefix(prefix),
    )


def _seeds(hosts: str) -> tuple[Node, ...]:
    hosts, slash, path = hosts.rstrip("/").partition("/")
    if slash:
        raise ImproperlyConfigured(
            f"queue URL: remove '/{path}': a cluster has one database, so none is named"
        )
    seeds = tuple(_seed(item.strip()) for item in hosts.split(",") if item.strip())
    if not seeds:
        raise ImproperlyConfigured(f"queue URL: name at least one host (example: {EXAMPLE})")
    return seeds


def _seed(item: str) -> Node:
    host, _, port = item.rpartition(":") if _has_port(item) else (item, "", str(DEFAULT_PORT))
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise ImproperlyConfigured(f"queue URL: '{port}' in '{item}' is no port (1 to 65535)")
    host = host.strip("[]")
    if not host:
        raise ImproperlyConfigured(f"queue URL: '{item}' has no host (example: {EXAMPLE})")
    return Node(host, int(port))


def _has_port(item: str) -> bool:
    return ":" in item.rpartition("]")[2]


def _ca(ca_file: str | None, *, tls: bool) -> str | None:
    if not ca_file:
        return None
    if not tls:
        raise ImproperlyConfigured(
            "queue URL: a CA file is set but the URL is not TLS; write valkeys:// or unset it"
        )
    if not Path(ca_file).is_file():
        raise ImproperlyConfigured(f"queue CA file: '{ca_file}' does not exist or is not readable")
    return ca_file


def _prefix(prefix: str) -> str:
    if not prefix or any(letter in prefix for letter in "{}: \n"):
        raise ImproperlyConfigured(
            f"queue prefix: {prefix!r} must be a short name without braces, colons or spaces"
        )
    return prefix
