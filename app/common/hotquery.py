"""HotQuery: the ORM writes the SQL once, the async pool runs it.

Django has no async database layer; its `a…` methods are threads. A HotQuery compiles a queryset at
start and keeps the SQL; each call binds values and runs it as a prepared statement on psycopg's
async pool. Models, lookups and migrations stay Django. Use it for the few hottest reads
(performance.md section 3.2).
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import orjson
import psycopg
from django.db import connection
from django.db.models import Expression, Field, QuerySet
from opentelemetry import trace
from psycopg.types.json import set_json_loads
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

Row = tuple[Any, ...]

_tracer = trace.get_tracer("app.common.hotquery")


class Param(Expression):
    """A value that comes with each call: `.filter(slug=Param("slug", models.CharField()))`."""

    def __init__(self, name: str, output_field: "Field[Any, Any]") -> None:
        super().__init__(output_field=output_field)
        self.name = name

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, Any]:
        """A placeholder whose value is this object, until `HotQuery` binds it."""
        return "%s", (self,)


class HotQuery:
    """A compiled read; `build` returns `….values_list(…)`. A LIMIT belongs into the queryset as a
    number: bound as a parameter it keeps PostgreSQL from reusing the plan (twice the time).

    Values reach the driver as they are (no ORM conversion): rows hold psycopg's Python types.
    """

    registry: ClassVar[list["HotQuery"]] = []

    def __init__(self, build: Callable[[], "QuerySet[Any, Any]"]) -> None:
        self._build = build
        self._sql = ""
        self._summary = ""
        self._slots: list[Any] = []
        HotQuery.registry.append(self)

    def compile(self) -> str:
        """Write the SQL (once) and return it. Needs no database."""
        if not self._sql:
            query = self._build().query
            sql, slots = query.get_compiler(connection=connection).as_sql()
            self._slots = list(slots)
            self._summary = f"SELECT {query.get_meta().db_table}"
            self._sql = sql
        return self._sql

    async def all(self, **params: Any) -> list[Row]:
        """All rows. KeyError for a missing parameter, PoolTimeout when no connection is free."""
        sql = self._sql or self.compile()
        values = [params[s.name] if isinstance(s, Param) else s for s in self._slots]
        with self._span(sql):
            try:
                return await _fetch(sql, values)
            except psycopg.OperationalError as error:
                if not _connection_died(error):
                    raise
                await _replace_dead_connections()
                return await _fetch(sql, values)

    async def first(self, **params: Any) -> Row | None:
        """The first row, or None."""
        rows = await self.all(**params)
        return rows[0] if rows else None

    @contextmanager
    def _span(self, sql: str) -> Iterator[None]:
        """A CLIENT span, only when the request is recorded: the stock instrumentor costs 50 us a
        query even when it is not."""
        if not trace.get_current_span().is_recording():
            yield
            return
        attributes = {
            "db.system.name": "postgresql",
            "db.operation.name": "SELECT",
            "db.query.summary": self._summary,
            "db.query.text": sql,
        }
        with _tracer.start_as_current_span(
            self._summary, kind=trace.SpanKind.CLIENT, attributes=attributes
        ):
            yield


def _connection_died(error: psycopg.OperationalError) -> bool:
    """The server went away or told us to; not a timeout of the pool or of the statement."""
    if isinstance(error, (PoolTimeout, TooManyRequests, PoolClosed)):
        return False
    return error.sqlstate is None or error.sqlstate.startswith("57P0")


async def _replace_dead_connections() -> None:
    """Check every idle connection, once for all requests that met a dead one."""
    global _checking  # noqa: PLW0603
    if _checking is None:
        _checking = asyncio.ensure_future(hot_pool().check())
        _checking.add_done_callback(_checked)
    await asyncio.shield(_checking)


def _checked(_: asyncio.Future[None]) -> None:
    global _checking  # noqa: PLW0603
    _checking = None


async def _fetch(sql: str, values: list[Any]) -> list[Row]:
    async with hot_pool().connection() as conn:
        cursor = await conn.execute(sql, values, prepare=True)
        return await cursor.fetchall()


_pool: AsyncConnectionPool[psycopg.AsyncConnection[Row]] | None = None
_checking: asyncio.Future[None] | None = None


async def open_pool(conninfo: str, *, size: int, max_lifetime: float, max_wait: float) -> None:
    """Open the process's async pool and compile what is known. Called by the lifespan, once."""
    global _pool  # noqa: PLW0603  # one pool a process, like Django's own connections
    _pool = AsyncConnectionPool(
        conninfo,
        min_size=min(2, size),
        max_size=size,
        timeout=max_wait,
        max_waiting=512,
        max_lifetime=max_lifetime,
        kwargs={"autocommit": True},
        configure=_configure,
        open=False,
        name="hot",
    )
    await _pool.open()
    for query in HotQuery.registry:
        query.compile()


async def _configure(conn: psycopg.AsyncConnection[Row]) -> None:
    """Our own span replaces the stock instrumentor's cursor; jsonb is read by orjson."""
    conn.cursor_factory = psycopg.AsyncCursor
    set_json_loads(orjson.loads, conn)


async def close_pool() -> None:
    """Close the async pool."""
    global _pool  # noqa: PLW0603
    if _pool is not None:
        await _pool.close()
        _pool = None


def hot_pool() -> AsyncConnectionPool[psycopg.AsyncConnection[Row]]:
    """The async pool. Raises RuntimeError outside a server process."""
    if _pool is None:
        raise RuntimeError("the async pool is opened by the ASGI lifespan: use a server process")
    return _pool


def current_pool() -> AsyncConnectionPool[psycopg.AsyncConnection[Row]] | None:
    """The async pool of this process, if it has one."""
    return _pool
