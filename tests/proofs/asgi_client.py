"""The application in this process, spoken to as a server speaks: lifespan first, then requests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tests.proofs.hop_counter import CURRENT, Hops

type Message = dict[str, Any]
type Application = Callable[[Any, Any, Any], Awaitable[None]]

DEADLINE = 20.0
"""Seconds for one request or one step of the lifespan."""


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    url: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(slots=True)
class Answer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    hops: Hops = field(default_factory=Hops)

    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """One connection to the application under a started lifespan."""

    def __init__(self, app: Application, host: str, state: Message) -> None:
        self._app = app
        self._host = host
        self._state = state

    async def send(self, request: Request) -> Answer:
        """Answer one request, until the application has returned, with its hops."""
        answer = Answer()
        messages = [{"type": "http.request", "body": request.body, "more_body": False}]
        for_ever = asyncio.Event()

        async def receive() -> Message:
            if messages:
                return messages.pop()
            await for_ever.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.headers = {k.decode().lower(): v.decode() for k, v in message["headers"]}
            else:
                answer.body += message.get("body", b"")

        token = CURRENT.set(answer.hops)
        try:
            await asyncio.wait_for(self._app(self._scope(request), receive, send), DEADLINE)
        finally:
            CURRENT.reset(token)
        return answer

    def _scope(self, request: Request) -> Message:
        parts = urlsplit(request.url)
        headers = {"host": self._host, "content-length": str(len(request.body)), **request.headers}
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": "http",
            "path": parts.path,
            "raw_path": parts.path.encode(),
            "query_string": parts.query.encode(),
            "root_path": "",
            "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()],
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 8000),
            "state": dict(self._state),
            "extensions": {},
        }


@asynccontextmanager
async def running(app: Application, host: str) -> AsyncIterator[Client]:
    """Start the lifespan of the application, and end it."""
    incoming: asyncio.Queue[Message] = asyncio.Queue()
    outgoing: asyncio.Queue[Message] = asyncio.Queue()
    state: Message = {}
    scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": state}
    task = asyncio.ensure_future(app(scope, incoming.get, outgoing.put))

    async def step(kind: str) -> None:
        await incoming.put({"type": f"lifespan.{kind}"})
        answer = asyncio.ensure_future(outgoing.get())
        await asyncio.wait({answer, task}, timeout=DEADLINE, return_when="FIRST_COMPLETED")
        if not answer.done() or answer.result()["type"] != f"lifespan.{kind}.complete":
            message = f"lifespan {kind}: {answer.result() if answer.done() else 'no answer'}"
            raise RuntimeError(message)

    await step("startup")
    try:
        yield Client(app, host, state)
    finally:  # also after an error: open pools keep a process alive
        await step("shutdown")
        await asyncio.wait_for(task, DEADLINE)
