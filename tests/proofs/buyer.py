"""A customer on one keep-alive connection, who can hold back the last byte of a request.

Two buyers that have sent all but their last byte are both inside their servers. Then the two last
bytes go out from one thread, some microseconds apart: closer together than threads could do it.
"""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.parse import urlsplit

TIMEOUT = 20.0


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer; status 0 when the connection ended without one."""

    status: int
    data: Any = None

    @property
    def code(self) -> str:
        """The code of a problem document, or an empty string."""
        return str(self.data.get("code", "")) if isinstance(self.data, dict) else ""


class Buyer:
    """One connection to one server."""

    def __init__(self, url: str) -> None:
        self._address = (str(urlsplit(url).hostname), int(urlsplit(url).port or 80))
        self._socket: socket.socket | None = None
        self._last = b""
        self._method = ""

    def prepare(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> None:
        """Send a request except for its last byte."""
        raw = b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._address[0]}"]
        if raw:
            lines += ["Content-Type: application/json", f"Content-Length: {len(raw)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        request = "\r\n".join(lines).encode() + b"\r\n\r\n" + raw
        self._method, self._last = method, request[-1:]
        self._connection().sendall(request[:-1])

    def fire(self) -> None:
        """Send the last byte."""
        self._connection().sendall(self._last)

    def answer(self) -> Reply:
        """Read the answer; the connection stays open for the next request."""
        response = HTTPResponse(self._connection(), method=self._method)
        try:
            response.begin()
            raw = response.read()
        except (HTTPException, OSError):
            self.close()
            return Reply(0)
        if response.will_close:
            self.close()
        return Reply(response.status, _decoded(raw))

    def send(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Reply:
        """A whole request and its answer; status 0 when the server dies on it."""
        try:
            self.prepare(method, path, body, headers)
            self.fire()
        except OSError:
            self.close()
            return Reply(0)
        return self.answer()

    def close(self) -> None:
        """Hang up; the next request connects anew."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connection(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.create_connection(self._address, TIMEOUT)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._socket


def order(variant: str, email: str, quantity: int = 1) -> dict[str, Any]:
    """The body of a checkout."""
    lines = [{"variant": variant, "quantity": quantity}]
    return {"email": email, "currency": "NGN", "lines": lines}


def _decoded(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return None
