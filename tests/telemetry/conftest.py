"""Spans of a test, in memory."""

from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from app.telemetry.metrics import ExemplarGate
from app.telemetry.tracing import EdgeSampler

_exporter = InMemorySpanExporter()


@pytest.fixture(scope="session")
def _provider() -> None:
    provider = TracerProvider(sampler=EdgeSampler(0.0))
    provider.add_span_processor(SimpleSpanProcessor(_exporter))
    trace.set_tracer_provider(provider)


@pytest.fixture
def spans(_provider: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """Finished spans of this test. Hot reads are sampled at ratio 0, all else is kept."""
    monkeypatch.setattr("app.telemetry.asgi._gate", ExemplarGate())
    _exporter.clear()
    yield _exporter
    _exporter.clear()
