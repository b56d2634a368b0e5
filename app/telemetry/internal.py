"""The HTTP server of the metrics port: `/metrics`, and JSON for machines of the same cluster.

It runs in threads of its own, so that a scrape never waits behind a request, and on a port that no
ingress knows.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import orjson
from prometheus_client import make_wsgi_app

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

METRICS = frozenset({"/", "/metrics"})
IDLE_SECONDS = 10  # for a client that sends nothing

Answer = tuple[int, Mapping[str, Any]]
Respond = Callable[[str, str], Answer]
"""From method and path to status and document; one with an error status is a problem document."""


def application(respond: Respond) -> "WSGIApplication":
    """Metrics as prometheus_client serves them, every other path from `respond`."""
    metrics = make_wsgi_app()

    def answer(request: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        method, path = request["REQUEST_METHOD"], request.get("PATH_INFO", "/")
        if path in METRICS:
            pages: Iterable[bytes] = metrics(request, start_response)
            return pages
        status, document = respond(method, path)
        body = orjson.dumps(document) + b"\n"
        kind = "application/json" if status < HTTPStatus.BAD_REQUEST else "application/problem+json"
        start_response(
            f"{status} {HTTPStatus(status).phrase}",
            [
                ("Content-Type", kind),
                ("Content-Length", str(len(body))),
                ("Cache-Control", "no-store"),
            ],
        )
        return [b"" if method == "HEAD" else body]

    return answer


def serve(port: int, respond: Respond) -> int:
    """Serve on all addresses from a daemon thread; returns the port. OSError when it is taken."""
    server = make_server("0.0.0.0", port, application(respond), _Server, _Handler)  # noqa: S104
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server.server_port


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Handler(WSGIRequestHandler):
    timeout = IDLE_SECONDS

    def log_message(self, format: str, *args: Any) -> None:
        """Probes and scrapes are not worth a line."""
