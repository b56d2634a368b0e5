"""Child of `make hops`: the real application in this process; counts the hops of every route.

`python -m tests.proofs.hops_probe OUTPUT [mutant]` writes a JSON list of rows to OUTPUT. The
environment names a database with seeded products.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import tomllib
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tests.proofs import hop_counter, hop_mutants
from tests.proofs.asgi_client import Answer, Application, Client, Request, running

ROUTES = Path(__file__).resolve().parents[1] / "architecture" / "routes.toml"
HOST = "127.0.0.1"
TIMES = 5
"""Counted repetitions of each case, after one that warms pools and threads up."""
GONE = {"slug": "no-such-product", "variant_id": "var_x", "order_id": "ord_x"}
JSON_BODY = {"content-type": "application/json"}


class NoSampleError(Exception):
    """A route that this file cannot call: add its parameter or its body to `Samples`."""


@dataclass(frozen=True, slots=True)
class Route:
    path: str
    methods: list[str]
    framework: str
    hops: int


@dataclass(frozen=True, slots=True)
class Row:
    """What one case of one route cost; `kinds` is the breakdown of its last repetition."""

    route: str
    method: str
    framework: str
    case: str
    expected: int
    counted: list[int]
    statuses: list[int]
    kinds: dict[str, int]

    @property
    def ok(self) -> bool:
        """Exact for successes; a refusal may cost less, never more."""
        if self.case == "ok":
            exact = self.counted == [self.expected] * TIMES
            return exact and all(200 <= status < 300 for status in self.statuses)
        wanted = int(self.case)
        return max(self.counted) <= self.expected and self.statuses == [wanted] * TIMES


class Samples:
    """Real values for path parameters, and bodies for writes."""

    def __init__(self, values: dict[str, str], token: str) -> None:
        self.values = values
        self.token = token

    @classmethod
    async def collect(cls, client: Client) -> Samples:
        """Walk the shop once: a product, a variant with stock, an order."""
        page = (await client.send(Request("GET", "/api/v1/products?limit=20"))).json()
        for item in page["items"]:
            slug = item["slug"]
            product = (await client.send(Request("GET", f"/api/v1/products/{slug}"))).json()
            for variant in product["variants"]:
                found = cls({"slug": slug, "variant_id": variant["id"]}, "")
                answer = await client.send(found.request("POST", "/api/v1/checkout"))
                if answer.status == 201:
                    order = answer.json()
                    return cls({**found.values, "order_id": order["id"]}, order["guest_token"])
        message = "no seeded product can be bought"
        raise NoSampleError(message)

    def request(self, method: str, path: str, values: dict[str, str] | None = None) -> Request:
        """A request for a route template; NoSampleError when a part of it is unknown here."""
        known = self.values if values is None else values
        body, headers = b"", {"Order-Token": self.token}
        if method not in {"GET", "HEAD"}:
            body, headers = self._body(path), headers | JSON_BODY
        try:
            url = re.sub(r"<(?:\w+:)?(\w+)>", lambda match: known[match[1]], path)
        except KeyError as error:
            message = f"no sample for {error} of {path}"
            raise NoSampleError(message) from None
        return Request(method, url, headers, body)

    def _body(self, path: str) -> bytes:
        if path != "/api/v1/checkout":
            message = f"no sample body for {path}"
            raise NoSampleError(message)
        line = {"variant": self.values["variant_id"], "quantity": 1}
        order = {"email": "hops@proof.example", "currency": "NGN", "lines": [line]}
        return json.dumps(order).encode()


def routes() -> list[Route]:
    """The committed table of routes."""
    return [Route(**row) for row in tomllib.loads(ROUTES.read_text())["route"]]


async def _rows(client: Client) -> AsyncIterator[Row]:
    samples = await Samples.collect(client)
    for route in routes():
        for method in route.methods:
            request = samples.request(method, route.path)
            row, answer = await _measure(client, route, request, "ok")
            yield row
            if "etag" in answer.headers:
                known = {**request.headers, "if-none-match": answer.headers["etag"]}
                yield (await _measure(client, route, replace(request, headers=known), "304"))[0]
            if "<" in route.path:
                gone = samples.request(method, route.path, GONE)
                yield (await _measure(client, route, gone, "404"))[0]
            if method == "POST":
                broken = replace(request, body=b"{")
                yield (await _measure(client, route, broken, "400"))[0]


async def _measure(client: Client, route: Route, request: Request, case: str) -> tuple[Row, Answer]:
    await client.send(request)
    answers = [await client.send(request) for _ in range(TIMES)]
    last = answers[-1]
    row = Row(
        route=route.path,
        method=request.method,
        framework=route.framework,
        case=case,
        expected=route.hops,
        counted=[answer.hops.total for answer in answers],
        statuses=[answer.status for answer in answers],
        kinds=asdict(last.hops),
    )
    return row, last


async def _count(app: Application) -> list[dict[str, Any]]:
    async with running(app, HOST) as client:
        return [{**asdict(row), "ok": row.ok} async for row in _rows(client)]


def main(output: str, mutant: str = "") -> None:
    """Patch, plant, import the application as a server does, count, write."""
    hop_counter.install()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "app.config.settings")
    hop_mutants.before_import(mutant)
    import django

    django.setup()
    from app.config import process

    process.start("web")
    from app.config.asgi import application

    hop_mutants.after_import(mutant)
    rows = asyncio.run(_count(application))
    Path(output).write_text(json.dumps(rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
