"""Each hot read is one SQL statement, counted by PostgreSQL itself.

What runs in a thread is counted inside the tests of its service.
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
      AND query ~ '(inventory|authentication)_' AND query !~ 'pg_stat_statements'
"""


@pytest.fixture
def superuser(lane: Lane, server: str) -> Iterator[psycopg.Connection]:
    dsn = lane.stack.superuser_dsn(lane.database)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        yield connection
        connection.execute("DROP EXTENSION pg_stat_statements")


def test_statements_of_each_read(server: str, superuser: psycopg.Connection) -> None:
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
        with costs(1):
            assert http.get(f"/api/v2/stock/{product['variants'][0]['id']}").json()["in_stock"]
        with costs(1):
            known = {"If-None-Match": page.headers["etag"]}
            assert http.get("/api/v1/products", headers=known).status_code == 304
        with costs(0):
            assert http.get("/api/v1/products?limit=x").status_code == 400
