"""An SMTP sink: it accepts every message, delivers none, and shows them over HTTP.

    python -m fakes.smtp --host 0.0.0.0 --port 2525 --http-port 8025

GET    /messages   JSON list, oldest first: id, from, to, subject, message_id, headers, text,
                   received_at; `?to=ada@example.com` keeps those for one recipient
DELETE /messages   forget all
POST   /faults     add one scripted fault (or a list of them), e.g.
                   {"code": 451, "message": "later", "times": 2}
GET    /faults     what is still to come, and how often each fault has struck
DELETE /faults     forget all
GET    /healthz    200
GET    /           the same messages for people

A fault strikes the first `times` mails that match it (`to`: part of a recipient; default any):
`code` + `message` answer instead of 250; `delay` waits that many seconds first; `drop` closes the
connection without an answer; `accept_then_drop` stores the message and closes without an answer, as
a server does that dies after its commit. With `at` = "rcpt" it strikes when the recipient is named
(RCPT), as a server does that knows no such mailbox; default "data", when the message has arrived.
"""

from __future__ import annotations

import argparse
import asyncio
import email.policy
import html
import json
import signal
import sys
import threading
from collections import deque
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from email.message import EmailMessage
from email.parser import BytesParser
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from aiosmtpd.smtp import SMTP, Envelope, Session

OK = "250 OK"
STAGES = ("data", "rcpt")
KEPT = 10_000  # messages; older ones are forgotten
MAX_BODY = 1_000_000  # bytes of a POST


@dataclass(slots=True)
class Fault:
    """One scripted misbehaviour; see the module's text."""

    code: int = 0
    message: str = "scripted fault"
    times: int = 1
    to: str = ""
    at: str = "data"
    delay: float = 0.0
    drop: bool = False
    accept_then_drop: bool = False
    struck: int = 0

    @classmethod
    def parse(cls, data: object) -> Fault:
        """From JSON; ValueError names what is wrong."""
        if not isinstance(data, dict):
            raise ValueError("a fault is a JSON object")  # noqa: TRY004 - callers catch one kind
        types = {f.name: type(f.default) for f in fields(cls) if f.name != "struck"}
        for name, value in data.items():
            if name not in types:
                raise ValueError(f"unknown member {name!r}; known: {', '.join(types)}")
            allowed = (int, float) if types[name] is float else types[name]
            if not isinstance(value, allowed) or (
                isinstance(value, bool) and types[name] is not bool
            ):
                raise ValueError(f"{name} must be {types[name].__name__}")
        if data.get("at", "data") not in STAGES:
            raise ValueError(f"at must be one of {', '.join(STAGES)}")
        return cls(**data)

    def matches(self, stage: str, recipients: list[str]) -> bool:
        """Whether it strikes a mail to `recipients` now."""
        due = self.at == stage and self.struck < self.times
        return due and any(self.to in recipient for recipient in recipients)


@dataclass(slots=True)
class Store:
    """Messages and faults, shared by the SMTP loop and the HTTP threads."""

    messages: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=KEPT))
    faults: list[Fault] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _received: int = 0

    def add(self, envelope: Envelope) -> None:
        """Keep one message."""
        message = _readable(envelope)
        with self._lock:
            self._received += 1
            self.messages.append({"id": self._received, **message})

    def listing(self, recipient: str = "") -> list[dict[str, Any]]:
        """The messages, oldest first."""
        with self._lock:
            return [m for m in self.messages if not recipient or recipient in m["to"]]

    def strike(self, stage: str, recipients: list[str]) -> Fault | None:
        """The fault for this mail, counted, or None."""
        with self._lock:
            fault = next((f for f in self.faults if f.matches(stage, recipients)), None)
            if fault is not None:
                fault.struck += 1
            return fault

    def script(self, faults: list[Fault]) -> None:
        """Add faults behind those that are there."""
        with self._lock:
            self.faults.extend(faults)

    def clear_messages(self) -> None:
        """Forget all messages."""
        with self._lock:
            self.messages.clear()

    def clear_faults(self) -> None:
        """Behave again."""
        with self._lock:
            self.faults.clear()


def _readable(envelope: Envelope) -> dict[str, Any]:
    content = envelope.content or b""
    raw = content if isinstance(content, bytes) else content.encode()
    parsed = BytesParser(EmailMessage, policy=email.policy.default).parsebytes(raw)
    body = parsed.get_body(("plain",))
    return {
        "from": envelope.mail_from or "",
        "to": list(envelope.rcpt_tos),
        "subject": str(parsed.get("subject", "")),
        "message_id": str(parsed.get("message-id", "")),
        "headers": {name: str(value) for name, value in parsed.items()},
        "text": body.get_content().replace("\r\n", "\n") if body is not None else "",
        "received_at": datetime.now(UTC).isoformat(),
    }


class Handler:
    """What aiosmtpd calls for each recipient, and when a whole message has arrived."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take the recipient, or do what the next fault says."""
        fault = self._store.strike("rcpt", [address])
        answer = OK if fault is None else await _misbehave(fault, server)
        if answer == OK:
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Keep the message, or do what the next fault says."""
        fault = self._store.strike("data", list(envelope.rcpt_tos))
        answer = OK if fault is None else await _misbehave(fault, server)
        if answer == OK or (fault is not None and fault.accept_then_drop):
            self._store.add(envelope)
        return answer


async def _misbehave(fault: Fault, server: SMTP) -> str:
    """Do what the fault says; the answer to give."""
    if fault.delay:
        await asyncio.sleep(fault.delay)
    if fault.drop or fault.accept_then_drop:
        if isinstance(server.transport, asyncio.Transport):
            server.transport.abort()
        return "421 dropped"
    return f"{fault.code} {fault.message}" if fault.code else OK


class Api(BaseHTTPRequestHandler):
    """The HTTP side."""

    store: Store  # set by `_serve_http` on a subclass
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """List."""
        url = urlsplit(self.path)
        recipient = parse_qs(url.query).get("to", [""])[0]
        match url.path:
            case "/messages":
                self._json(HTTPStatus.OK, self.store.listing(recipient))
            case "/faults":
                self._json(HTTPStatus.OK, [asdict(fault) for fault in self.store.faults])
            case "/healthz":
                self._json(HTTPStatus.OK, {"status": "ok"})
            case "/":
                self._send(
                    HTTPStatus.OK, "text/html; charset=utf-8", _page(self.store.listing()).encode()
                )
            case _:
                self._json(HTTPStatus.NOT_FOUND, {"error": "see /messages and /faults"})

    def do_DELETE(self) -> None:
        """Forget."""
        match urlsplit(self.path).path:
            case "/messages":
                self.store.clear_messages()
            case "/faults":
                self.store.clear_faults()
            case _:
                self._json(HTTPStatus.NOT_FOUND, {"error": "see /messages and /faults"})
                return
        self._json(HTTPStatus.OK, {"status": "cleared"})

    def do_POST(self) -> None:
        """Script faults."""
        try:
            body = self._body()
            data = json.loads(body)
            faults = [Fault.parse(item) for item in (data if isinstance(data, list) else [data])]
        except ValueError as error:
            self.close_connection = True
            self._json(HTTPStatus.BAD_REQUEST, {"error": str(error)})
            return
        if urlsplit(self.path).path != "/faults":
            self._json(HTTPStatus.NOT_FOUND, {"error": "POST goes to /faults"})
            return
        self.store.script(faults)
        self._json(HTTPStatus.CREATED, [asdict(fault) for fault in faults])

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet: health checks would fill the log."""

    def _body(self) -> bytes:
        length = int(self.headers.get("Content-Length", "0"))
        if not 0 <= length <= MAX_BODY:
            raise ValueError(f"the body may have at most {MAX_BODY} bytes")
        return self.rfile.read(length)

    def _json(self, status: HTTPStatus, data: object) -> None:
        self._send(status, "application/json", json.dumps(data).encode())

    def _send(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _page(messages: list[dict[str, Any]]) -> str:
    head = (
        f"<!doctype html><meta charset=utf-8><title>SMTP sink</title><h1>{len(messages)} messages"
    )
    return f"{head}</h1>{''.join(_article(message) for message in reversed(messages))}"


def _article(message: dict[str, Any]) -> str:
    line = f"{message['from']} to {', '.join(message['to'])}, {message['received_at']}"
    title, line, text = (html.escape(part) for part in (message["subject"], line, message["text"]))
    return f"<article><h2>{title}</h2><p>{line}</p><pre>{text}</pre></article>"


def _serve_http(store: Store, host: str, port: int) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer((host, port), type("BoundApi", (Api,), {"store": store}))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    return server


async def _serve(store: Store, args: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    smtp = await loop.create_server(
        lambda: SMTP(Handler(store), enable_SMTPUTF8=True, hostname="fakes.smtp", loop=loop),
        args.host,
        args.port,
    )
    http = _serve_http(store, args.host, args.http_port)
    sys.stdout.write(
        f"SMTP on {args.host}:{args.port}, messages on http://{args.host}:{args.http_port}/messages\n"
    )
    sys.stdout.flush()
    await stop.wait()
    smtp.close()
    http.shutdown()


def main() -> None:
    """Serve until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m fakes.smtp", description="SMTP sink")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=2525)
    parser.add_argument("--http-port", type=int, default=8025)
    asyncio.run(_serve(Store(), parser.parse_args()))


if __name__ == "__main__":
    main()
