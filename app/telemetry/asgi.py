"""The outermost ASGI layer: one server span, one log line and one histogram sample per request.

It also guards the edge: the request id is capped, the caller's trace is joined but its sampling
flag and baggage are not trusted, bodies over the limit are refused before they are read, and
WebSocket scopes are refused. Our own because the stock instrumentation loses the span when the
client hangs up, ends it before a streamed body is sent, and costs five times more (ADR 1).
"""

import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from app.telemetry import metrics
from app.telemetry.context import bind_request_id
from app.telemetry.tracing import HOT

Scope = MutableMapping[str, Any]
Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

ROUTE = "fashionistar.route"
"""Scope key under which the handler leaves the route template."""
ERROR_TYPE = "fashionistar.error_type"
"""Scope key with the class name of an unhandled exception."""
SYNTHETIC = "fashionistar.synthetic"
"""Scope key that is set for a request of a load generator."""

CLIENT_CLOSED = 499
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,64}\Z")
_PARAMETER = re.compile(r"<(?:[^:<>]+:)?([^<>]+)>")
_NO_CONTEXT = Context()  # a pipelined request must not join the trace of the one before it
_propagator = TraceContextTextMapPropagator()
_tracer = trace.get_tracer("app.telemetry")
_gate = metrics.ExemplarGate()
_templates: dict[str, str] = {}
log = structlog.get_logger()


class Telemetry:
    """Wraps an ASGI application.

    `is_hot(method, path)` tells public hot reads (sampled by ratio) from the rest. A body above
    `body_limit` bytes is answered with 413 and `too_large(limit)`, a problem document. `quiet`
    paths (probes) make no span, sample or log line. `is_synthetic(header)` judges `X-Synthetic`:
    requests of load generators are marked in log, span and scope.
    """

    def __init__(
        self,
        app: App,
        *,
        is_hot: Callable[[str, str], bool],
        body_limit: int,
        too_large: Callable[[int], bytes],
        quiet: frozenset[str] = frozenset(),
        is_synthetic: Callable[[str], bool] | None = None,
    ) -> None:
        self._app = app
        self._is_hot = is_hot
        self._body_limit = body_limit
        self._too_large = too_large
        self._quiet = quiet
        self._is_synthetic = is_synthetic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection scope."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = Exchange(scope, receive, send, self._body_limit)
        if exchange.synthetic_header and self._is_synthetic is not None:
            scope[SYNTHETIC] = self._is_synthetic(exchange.synthetic_header)
        if scope["path"] in self._quiet:
            await self._run(exchange)
            return
        hot = self._is_hot(exchange.method, scope["path"])
        span = exchange.start_span(hot=hot)
        metrics.http_active.inc()
        try:
            with trace.use_span(span, record_exception=False, set_status_on_exception=False):
                try:
                    await self._run(exchange)
                finally:
                    exchange.finish(span)
        finally:
            metrics.http_active.dec()
            span.end()

    async def _run(self, exchange: "Exchange") -> None:
        if exchange.announced_length > self._body_limit:
            await exchange.refuse_body(self._too_large(self._body_limit))
            return
        try:
            await self._app(exchange.scope, exchange.receive, exchange.send)
        except BodyTooLarge:
            if exchange.status == 0:
                await exchange.refuse_body(self._too_large(self._body_limit))


class BodyTooLarge(Exception):
    """A body without (or with a false) Content-Length went over the limit while being read."""


class Exchange:
    """One request and its answer, as far as telemetry cares."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, body_limit: int) -> None:
        self.started = time.perf_counter()
        self.scope = scope
        self.status = 0
        self.gone = False
        self.method = scope["method"] if scope["method"] in METHODS else "_OTHER"
        self.announced_length = 0
        self.request_id = b""
        self.synthetic_header = ""
        self._carrier: dict[str, str] = {}
        self._receive = receive
        self._send = send
        self._limit = body_limit
        self._read = 0
        self._read_headers()
        self._response_headers = [(b"x-request-id", self.request_id)]

    def _read_headers(self) -> None:
        for name, value in self.scope["headers"]:
            if name == b"x-request-id":
                if _REQUEST_ID.match(value):
                    self.request_id = value
            elif name == b"content-length":
                self.announced_length = int(value) if value.isdigit() else 0
            elif name == b"traceparent":
                self._carrier["traceparent"] = value.decode("latin1")
            elif name == b"x-synthetic":
                self.synthetic_header = value.decode("latin1")
        self.request_id = self.request_id or secrets.token_hex(16).encode()
        bind_request_id(self.request_id.decode())

    def start_span(self, *, hot: bool) -> trace.Span:
        """The server span; it joins the caller's trace when `traceparent` is well formed."""
        parent = _propagator.extract(self._carrier, context=_NO_CONTEXT)
        span = _tracer.start_span(
            self.method,
            context=parent,
            kind=SpanKind.SERVER,
            attributes={"http.request.method": self.method, HOT: hot},
        )
        context = span.get_span_context()
        identity = (context.trace_id, context.span_id, context.trace_flags)
        self._response_headers.append((b"traceresponse", b"00-%032x-%016x-%02x" % identity))
        return span

    async def receive(self) -> Message:
        """The application's receive: counts the body, notices a hang-up."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.gone = True
        elif self._limit:
            self._read += len(message.get("body", b""))
            if self._read > self._limit:
                raise BodyTooLarge
        return message

    async def send(self, message: Message) -> None:
        """The application's send: notes the status, adds the correlation headers."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": [*message["headers"], *self._response_headers]}
        await self._send(message)

    async def refuse_body(self, body: bytes) -> None:
        """413 without reading on; the connection is closed, or the client would go on sending."""
        headers = [
            (b"content-type", b"application/problem+json"),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
            (b"connection", b"close"),
        ]
        await self.send({"type": "http.response.start", "status": 413, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})

    def finish(self, span: trace.Span) -> None:
        """Status, route and duration to span, histogram and log."""
        seconds = time.perf_counter() - self.started
        route = _template(self.scope.get(ROUTE, ""))
        error_type = self.scope.get(ERROR_TYPE, "")
        if self.status == 0:
            # Django swallows the cancellation of a request whose client hung up.
            self.status = CLIENT_CLOSED if self.gone else 500
        if self.status == CLIENT_CLOSED:
            metrics.http_disconnects.labels(route).inc()
        if error_type:
            metrics.http_unhandled.labels(route).inc()
        child = metrics.http_duration.labels(route, self.method, f"{self.status // 100}xx")
        if span.is_recording():
            self._finish_span(span, route, error_type)
        child.observe(seconds, _gate.exemplar(span, child, seconds))
        log.info(
            "http.request",
            **{
                "http.request.method": self.method,
                "http.route": route,
                "url.path": self.scope["path"][:512],
                "http.response.status_code": self.status,
                "event.duration": int(seconds * 1e9),
                **({"synthetic": True} if self.scope.get(SYNTHETIC) else {}),
            },
        )

    def _finish_span(self, span: trace.Span, route: str, error_type: str) -> None:
        span.set_attributes(
            {
                "http.response.status_code": self.status,
                "url.path": self.scope["path"][:512],
                "url.scheme": self.scope["scheme"],
                "network.protocol.version": self.scope["http_version"],
                "app.request.id": self.request_id.decode(),
            }
        )
        if self.scope.get(SYNTHETIC):
            span.set_attribute("app.synthetic", True)  # noqa: FBT003
        if route:
            span.update_name(f"{self.method} {route}")
            span.set_attribute("http.route", route)
        if self.status >= 500:
            span.set_attribute("error.type", error_type or str(self.status))
            span.set_status(Status(StatusCode.ERROR))


def _template(route: str) -> str:
    """Django's `api/v1/products/<str:slug>` as `/api/v1/products/{slug}`; '' for no route."""
    known = _templates.get(route)
    if known is None:
        known = _templates[route] = "/" + _PARAMETER.sub(r"{\1}", route) if route else ""
    return known
