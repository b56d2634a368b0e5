"""The limit: a bare ASGI application on psycopg's async pool that answers our two hot reads.

Hand-written SQL on the same tables, prepared, autocommit, the same JSON byte for byte; no Django,
no middleware, no telemetry, no headers but type and length. It imports nothing of the application.
`python -m benchmarks.bare --port 9000` with DATABASE_URL and HOT_POOL_SIZE.
"""

from __future__ import annotations

import argparse
import base64
import os
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, LiteralString
from urllib.parse import parse_qs

import orjson
import uvicorn
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Pool = AsyncConnectionPool[AsyncConnection[tuple[Any, ...]]]

LIST = "/api/v1/products"
DETAIL = "/api/v1/products/"
CURRENCY = "NGN"
NEWEST = uuid.UUID(int=2**128 - 1)

_LIST: LiteralString = """
SELECT p.public_id, p.slug, p.name, s.public_id, s.name,
       (SELECT price.amount_minor FROM inventory_price price
        JOIN inventory_variant v ON v.id = price.variant_id
        WHERE v.product_id = p.id AND price.currency = %s
        ORDER BY price.amount_minor LIMIT 1)
FROM inventory_product p JOIN authentication_seller s ON s.id = p.seller_id
WHERE p.status = 'active' AND s.status = 'active' AND p.public_id < %s
ORDER BY p.public_id DESC LIMIT """

_DETAIL: LiteralString = """
SELECT p.public_id, p.slug, p.name, p.description, s.public_id, s.name,
       v.public_id, v.sku, v.options,
       (SELECT amount_minor FROM inventory_price WHERE variant_id = v.id AND currency = %s)
FROM inventory_product p JOIN authentication_seller s ON s.id = p.seller_id
LEFT JOIN inventory_variant v ON v.product_id = p.id
WHERE p.status = 'active' AND s.status = 'active' AND p.slug = %s
ORDER BY v.position, v.id"""

_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"
_TO_PYTHON = str.maketrans(_DIGITS, "0123456789abcdefghijklmnopqrstuv")
_PAIRS = [high + low for high in _DIGITS for low in _DIGITS]


def typeid(prefix: str, value: uuid.UUID) -> str:
    """The public form of an id: 26 characters of base32, two at a time."""
    number = value.int
    return f"{prefix}_" + "".join([_PAIRS[number >> shift & 1023] for shift in range(120, -1, -10)])


def price(amount: int | None) -> dict[str, Any] | None:
    """An amount with its currency."""
    return None if amount is None else {"amount_minor": amount, "currency": CURRENCY}


def uuid_of(text: str) -> uuid.UUID:
    """The id in its public form."""
    return uuid.UUID(int=int(text.rpartition("_")[2].translate(_TO_PYTHON), 32))


class Bare:
    """The ASGI application."""

    def __init__(self, dsn: str, pool_size: int) -> None:
        self._pool: Pool = AsyncConnectionPool(
            dsn, min_size=pool_size, max_size=pool_size, open=False, kwargs={"autocommit": True}
        )

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request, or open and close the pool."""
        if scope["type"] == "lifespan":
            await receive()
            await self._pool.open(wait=True)
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await self._pool.close()
            await send({"type": "lifespan.shutdown.complete"})
            return
        path = scope["path"]
        data: dict[str, Any] | None
        if path == LIST:
            data = await self._list(parse_qs(scope["query_string"].decode()))
        else:
            data = await self._detail(path[len(DETAIL) :])
        body = orjson.dumps(data)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ]
        status = 404 if data is None else 200
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _rows(self, query: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        async with self._pool.connection() as connection:
            cursor = await connection.execute(query.encode(), values, prepare=True)
            return await cursor.fetchall()

    async def _list(self, query: dict[str, list[str]]) -> dict[str, Any]:
        limit = int(query["limit"][0]) if "limit" in query else 20
        before = NEWEST
        if "cursor" in query:
            text = query["cursor"][0]
            (last,) = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
            before = uuid_of(last)
        # The limit stands in the text: PostgreSQL plans a page of unknown size worse.
        rows = await self._rows(f"{_LIST}{limit + 1:d}", (CURRENCY, before))
        following = None
        if len(rows) > limit:
            raw = orjson.dumps([typeid("prd", rows[limit - 1][0])])
            following = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
        items = [
            {
                "id": typeid("prd", row[0]),
                "slug": row[1],
                "name": row[2],
                "seller": {"id": typeid("sel", row[3]), "name": row[4]},
                "price": price(row[5]),
            }
            for row in rows[:limit]
        ]
        return {"items": items, "next": following}

    async def _detail(self, slug: str) -> dict[str, Any] | None:
        rows = await self._rows(_DETAIL, (CURRENCY, slug))
        if not rows:
            return None
        first = rows[0]
        amounts = [row[9] for row in rows if row[9] is not None]
        return {
            "id": typeid("prd", first[0]),
            "slug": first[1],
            "name": first[2],
            "seller": {"id": typeid("sel", first[4]), "name": first[5]},
            "price": price(min(amounts, default=None)),
            "description": first[3],
            "variants": [
                {
                    "id": typeid("var", row[6]),
                    "sku": row[7],
                    "options": row[8],
                    "price": price(row[9]),
                }
                for row in rows
                if row[6] is not None
            ],
        }


def main() -> None:
    """Serve under the settings of our own `serve` command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bare", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    app = Bare(os.environ["DATABASE_URL"], int(os.environ.get("HOT_POOL_SIZE", "8")))
    uvicorn.run(
        app,
        host=options.host,
        port=options.port,
        loop="uvloop",
        http="httptools",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        backlog=1024,
        proxy_headers=False,
        timeout_keep_alive=75,
    )


if __name__ == "__main__":
    main()
