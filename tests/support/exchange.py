"""One ASGI exchange in this process, for tests of the wrapper and the handler."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

type App = Callable[..., Any]


@dataclass(slots=True)
class Answer:
    """What the application sent; `status` 0 = it never began to answer."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    messages: int = 0

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(slots=True)
class Call:
    """A request. `chunks` are the body messages; `hang_up_when` makes the client leave as soon as
    that event is set."""

    method: str = "GET"
    path: str = "/"
    headers: dict[str, str] = field(default_factory=dict)
    chunks: Sequence[bytes] = (b"",)
    hang_up_when: asyncio.Event | None = None
    kind: str = "http"

    def scope(self) -> dict[str, Any]:
        """Its ASGI scope."""
        headers = {"host": "127.0.0.1", **self.headers}
        return {
            "type": self.kind,
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": self.method,
            "scheme": "http",
            "path": self.path,
            "raw_path": self.path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(k.lower().encode(), v.encode("latin1")) for k, v in headers.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }


async def exchange(app: App, call: Call) -> Answer:
    """Run one exchange until the application returns (at most 10 s)."""
    answer = Answer()
    left = list(call.chunks)
    for_ever = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if left:
            chunk = left.pop(0)
            return {"type": "http.request", "body": chunk, "more_body": bool(left)}
        await (call.hang_up_when or for_ever).wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        answer.messages += 1
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {k.decode().lower(): v.decode() for k, v in message["headers"]}
        elif message["type"] == "http.response.body":
            answer.body += message.get("body", b"")
        else:
            answer.headers = {"type": message["type"], "code": str(message.get("code"))}

    await asyncio.wait_for(app(call.scope(), receive, send), 10)
    return answer


def run(app: App, call: Call) -> Answer:
    """`exchange` from a synchronous test."""
    return asyncio.run(exchange(app, call))
