"""The ASGI handler of Django without the work that a request does not need.

Django's own handler starts a thread for each request, hops into it for signals and for closing the
response, and once more to log every 4xx. This one takes a thread only when sync code is called
(`app.common.concurrency`), so a view that awaits the async pool costs no hop at all. Measured:
performance.md section 3.1.
"""

import asyncio
import io
from contextlib import closing
from typing import Any

from asgiref.sync import ThreadSensitiveContext
from django.conf import settings
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, ASGIRequest, get_script_prefix
from django.http import HttpRequest, HttpResponseNotAllowed
from django.http.response import HttpResponseBase
from django.urls import ResolverMatch, set_script_prefix, set_urlconf

from app.common import problems
from app.common.concurrency import RequestThread, ThreadBank, in_thread
from app.common.errors import not_allowed
from app.telemetry.asgi import ROUTE, Message, Receive, Scope, Send

NO_BODY = frozenset({204, 304})
PROBES = frozenset({"/livez", "/readyz"})
"""Paths that answer any Host: the kubelet asks by address."""


class LazyHandler(ASGIHandler):
    """Django behind ASGI; at most `threads` requests use a thread at the same moment."""

    def __init__(self, threads: int) -> None:
        super().__init__()
        self.bank = ThreadBank(threads)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        thread = RequestThread(self.bank, asyncio.get_running_loop())
        try:
            async with ThreadSensitiveContext(executor=thread):
                await self._answer(scope, receive, send, thread)
        finally:
            thread.release()

    async def _answer(
        self, scope: Scope, receive: Receive, send: Send, thread: RequestThread
    ) -> None:
        try:
            body = await self._body(scope, receive)
        except RequestAborted:
            return
        with closing(body):
            set_script_prefix(get_script_prefix(scope))
            request, response = self.create_request(scope, body)
            if request is None:
                status = 400 if response is None else response.status_code
                await self.send_response(problems.malformed_request(status), send)
                return
            answer = await self._respond_unless_gone(request, receive, send)
            if answer is not None:
                await self._close(answer, thread)

    async def _body(self, scope: Scope, receive: Receive) -> Any:
        """The whole body in memory; large uploads spill to disk as Django does it."""
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RequestAborted
        if not message.get("more_body", False):
            return io.BytesIO(message.get("body", b""))
        first = [message]

        async def replay() -> Message:
            return first.pop() if first else await receive()

        return await self.read_body(replay)

    async def _respond_unless_gone(
        self, request: ASGIRequest, receive: Receive, send: Send
    ) -> HttpResponseBase | None:
        """Run the view and send its answer; a client that hangs up cancels both."""
        task = asyncio.current_task()
        assert task is not None
        gone = False

        def hang_up(listener: asyncio.Task[Any]) -> None:
            nonlocal gone
            if not listener.cancelled() and not finished:
                gone = True
                task.cancel()

        finished = False
        listener = asyncio.ensure_future(receive())
        listener.add_done_callback(hang_up)
        response: HttpResponseBase | None = None
        try:
            response = await self.run_get_response(request)
            await self.send_response(response, send)
        except asyncio.CancelledError:
            if not gone or task.cancelling() > 1:
                raise
        finally:
            finished = True
            listener.cancel()
            if gone:
                task.uncancel()
        return response

    async def _close(self, response: HttpResponseBase, thread: RequestThread) -> None:
        """Free what the response holds: inline, or by Django's own way in the request's thread
        when sync code left a database connection open there."""
        if thread.holds_connection:
            await in_thread(response.close)
            return
        for closer in response._resource_closers:  # type: ignore[attr-defined]
            closer()

    async def send_response(self, response: HttpResponseBase, send: Send) -> None:
        """Django's for streams; a finished response goes out in one piece, with its length."""
        if response.streaming:
            await super().send_response(response, send)
            return
        content: bytes = response.content  # type: ignore[attr-defined]
        headers = [(k.encode("ascii"), v.encode("latin1")) for k, v in response.items()]
        if response.status_code not in NO_BODY and not response.has_header("Content-Length"):
            headers.append((b"Content-Length", b"%d" % len(content)))
        headers += [
            (b"Set-Cookie", cookie.OutputString().encode("ascii"))
            for cookie in response.cookies.values()
        ]
        await send(
            {
                "type": "http.response.start",
                "status": response.status_code,
                "headers": headers,
            }
        )
        await send({"type": "http.response.body", "body": content})

    async def get_response_async(self, request: HttpRequest) -> HttpResponseBase:
        """Django's, without a hop to log each answer of 400 and above: the telemetry wrapper logs
        every request, and `problems` logs unhandled exceptions with their traceback."""
        set_urlconf(settings.ROOT_URLCONF)
        response: HttpResponseBase = await self._middleware_chain(request)  # type: ignore[attr-defined]
        response._resource_closers.append(request.close)  # type: ignore[attr-defined]
        return response

    async def _get_response_async(self, request: ASGIRequest) -> HttpResponseBase:
        try:
            if request.path not in PROBES:
                request.get_host()
            response: HttpResponseBase = await super()._get_response_async(request)  # type: ignore[misc]
        except Exception as error:  # noqa: BLE001  # the last border: an answer for everything
            return problems.respond(request, error)
        if isinstance(response, HttpResponseNotAllowed):
            methods = sorted(response.headers["Allow"].split(", "))  # Ninja has them in a set
            return not_allowed(request, ", ".join(methods))
        return response

    def resolve_request(self, request: HttpRequest) -> ResolverMatch:
        """Django's, and the route template is left in the scope for the server span."""
        match: ResolverMatch = super().resolve_request(request)
        request.scope[ROUTE] = match.route  # type: ignore[attr-defined]
        return match
