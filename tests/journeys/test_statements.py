"""How many SQL statements each endpoint costs, counted by PostgreSQL itself.

BEGIN and COMMIT of checkout come on top; they cannot be told from those of other processes. Foreign
keys are checked by PostgreSQL's own FOR KEY SHARE queries at commit, without a round trip.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import psycopg
import pytest

from app.inventory.services import seeding
from tests.support.session import Lane

COUNT = """
    SELECT coalesce(sum(calls), 0) FROM pg_stat_statements
    WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND (query ~ '(inventory|orders|authentication)_' OR query ~* '^insert into taskqueue')
      AND query !~ 'pg_stat_statements|FOR KEY SHARE OF x'
"""


@pytest.fixture
def superuser(lane: Lane, server: str) -> Iterator[psycopg.Connection]:
    dsn = lane.stack.superuser_dsn(lane.database)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        yield connection
        connection.execute("DROP EXTENSION pg_stat_statements")


def test_statements_of_each_endpoint(server: str, superuser: psycopg.Connection) -> None:
    for _ in seeding.seed(products=30):
        pass

    def counted() -> int:
        row = superuser.execute(COUNT).fetchone()
        assert row is not None
        return int(row[0])

    @contextmanager
    def costs(statements: int) -> Iterator[None]:
        before = counted()
        yield
        assert counted() - before == statements

    with httpx.Client(base_url=server) as http:
        with costs(1):
            page = http.get("/api/v1/products")
        with costs(1):
            http.get(page.links["next"]["url"])
        with costs(1):
            product = http.get(f"/api/v1/products/{page.json()['items'][0]['slug']}").json()
        variants = [variant["id"] for variant in product["variants"]]
        with costs(1):
            assert http.get(f"/api/v2/stock/{variants[0]}").json()["in_stock"]
        lines = [{"variant": variant, "quantity": 1} for variant in variants]
        order = {"email": "ada@example.com", "currency": "NGN", "lines": lines}
        with costs(7):
            placed = http.post("/api/v1/checkout", json=order)
        assert placed.status_code == 201
        token = {"Order-Token": placed.json()["guest_token"]}
        with costs(2):
            assert http.get(placed.headers["location"], headers=token).status_code == 200
        with costs(0):
            assert http.get("/api/v1/products?limit=x").status_code == 400
