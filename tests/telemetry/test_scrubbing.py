"""What a database says about a refused row stays out of logs and spans."""

import psycopg
import pytest
from django.db import DatabaseError
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from app.telemetry.logging import traceback_of
from app.telemetry.tracing import Scrubber
from tests.support.session import Lane

CANARY = "canary@example.com"


def refused(lane: Lane) -> Exception:
    """A CHECK violation as Django raises it: its DETAIL quotes the row."""
    sql = f"CREATE TEMP TABLE t (email text CHECK (email = '')); INSERT INTO t VALUES ('{CANARY}')"
    try:
        with psycopg.connect(lane.stack.superuser_dsn()) as conn:
            conn.execute(sql)
    except psycopg.errors.CheckViolation as cause:
        try:
            raise DatabaseError(str(cause)) from cause
        except DatabaseError as error:
            return error
    raise AssertionError("the row was not refused")


def test_tracebacks_keep_the_reason_and_lose_the_row(lane: Lane) -> None:
    error = refused(lane)
    assert CANARY in str(error)

    text = traceback_of(error)

    assert "violates check constraint" in text
    assert "[removed]" in text
    assert CANARY not in text.replace(f"VALUES ('{CANARY}')", "")


def test_spans_lose_exception_events_and_status_texts(lane: Lane) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(Scrubber(SimpleSpanProcessor(exporter)))
    error = refused(lane)

    def insert() -> None:
        with provider.get_tracer("tests").start_as_current_span("INSERT") as span:
            span.add_event("kept")
            raise error

    with pytest.raises(DatabaseError):
        insert()

    (ended,) = exporter.get_finished_spans()
    assert [event.name for event in ended.events] == ["kept"]
    assert (ended.status.status_code, ended.status.description) == (StatusCode.ERROR, None)
    assert CANARY not in ended.to_json()
