"""A shop of eighty lines for tests of the load test: same answers as ours, and planted faults.

Faults: `fail_on` answers the nth request with 500, `forget` answers 404 for every placed order,
`rewrite` reads orders back with another total, `pieces` is what checkout can sell (the stock answer
is stale on purpose and always says yes).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

PRODUCTS = 45
PRICE = {"amount_minor": 150_000, "currency": "NGN"}

type Answer = tuple[int, dict[str, Any]]


@dataclass
class FakeShop:
    """State and faults of one fake shop."""

    pieces: int = 1_000_000
    fail_on: int = 0
    forget: bool = False
    rewrite: bool = False
    requests: int = 0
    refused: int = 0
    orders: dict[str, dict[str, Any]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, method: str, url: str, body: bytes) -> Answer:
        """The status and JSON for one request."""
        with self.lock:
            self.requests += 1
            if self.requests == self.fail_on:
                return 500, {"code": "planted"}
            path = urlsplit(url).path
            if method == "POST":
                return self._buy(json.loads(body))
            if path == "/api/v1/products":
                return 200, self._page(parse_qs(urlsplit(url).query))
            if path.startswith("/api/v1/products/"):
                return 200, {"variants": [{"id": "var_" + path.rsplit("/", 1)[1], "price": PRICE}]}
            if path.startswith("/api/v2/stock/"):
                return 200, {"available": 1, "in_stock": True}
            return self._order(path.rsplit("/", 1)[1])

    def _page(self, query: dict[str, list[str]]) -> dict[str, Any]:
        start = int(query.get("cursor", ["0"])[0])
        end = min(start + int(query["limit"][0]), PRODUCTS)
        items = [{"slug": f"p{n}", "price": PRICE} for n in range(start, end)]
        return {"items": items, "next": str(end) if end < PRODUCTS else None}

    def _buy(self, order: dict[str, Any]) -> Answer:
        if self.pieces < 1:
            self.refused += 1
            return 409, {"code": "out_of_stock"}
        self.pieces -= 1
        number = f"ord_{len(self.orders)}"
        placed = {"id": number, "currency": "NGN", "total": PRICE, "lines": order["lines"]}
        self.orders[number] = {**placed, "placed_at": "2026-01-01T00:00:00Z"}
        return 201, {**self.orders[number], "guest_token": "secret"}

    def _order(self, number: str) -> Answer:
        if self.forget or number not in self.orders:
            return 404, {"code": "not_found"}
        changed = {"total": {**PRICE, "amount_minor": 1}} if self.rewrite else {}
        return 200, self.orders[number] | changed


@contextmanager
def serving(shop: FakeShop) -> Iterator[str]:
    """Serve the shop on a free port of the loopback; yields its base URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _reply(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            status, data = shop.answer(self.command, self.path, self.rfile.read(length))
            raw = json.dumps(data).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        do_GET = do_POST = _reply  # noqa: N815  names given by the base class

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()
