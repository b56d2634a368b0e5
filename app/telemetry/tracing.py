"""OpenTelemetry in one call per process: resource, sampler, exporter, library instrumentors."""

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor
from opentelemetry.instrumentation.redis import RedisInstrumentor
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import (
    Decision,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

HOT = "app.hot"
"""Attribute of a server span that is started for a public hot read."""


class EdgeSampler(Sampler):
    """Decides at the edge: hot reads by ratio, everything else whole; children follow their parent.

    The caller's `sampled` flag is ignored, or any client could force 100 %.
    """

    def __init__(self, hot_ratio: float) -> None:
        self._hot = TraceIdRatioBased(hot_ratio)
        self._ratio = hot_ratio

    def should_sample(  # noqa: PLR0913, PLR0917  # the SDK's signature
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """See the class."""
        parent = trace.get_current_span(parent_context).get_span_context()
        if parent.is_valid and kind != SpanKind.SERVER:
            keep = parent.trace_flags.sampled
            decision = Decision.RECORD_AND_SAMPLE if keep else Decision.DROP
            return SamplingResult(decision, attributes, parent.trace_state)
        if attributes and attributes.get(HOT):
            return self._hot.should_sample(parent_context, trace_id, name, kind, attributes, links)
        return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes, trace_state)

    def get_description(self) -> str:
        """For the SDK's own logs."""
        return f"EdgeSampler{{hot={self._ratio}}}"


def configure(*, service: str, version: str, hot_ratio: float) -> TracerProvider:
    """Set up tracing for this process; spans are exported only with an OTLP endpoint set.

    `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` win over `service`.
    """
    os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http,database")
    name = os.environ.get("OTEL_SERVICE_NAME", service)
    resource = Resource.create({SERVICE_NAME: name, SERVICE_VERSION: version})
    provider = TracerProvider(resource=resource, sampler=EdgeSampler(hot_ratio))
    if os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        provider.add_span_processor(BatchSpanProcessor(_exporter()))
    trace.set_tracer_provider(provider)
    _instrument_libraries()
    return provider


def _exporter() -> SpanExporter:
    # Imported only where spans are exported: it brings requests and protobuf, a fifth of the start.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
        OTLPSpanExporter,
    )

    return OTLPSpanExporter()


def _instrument_libraries() -> None:
    PsycopgInstrumentor().instrument()
    RedisInstrumentor().instrument()


def quiet() -> AbstractContextManager[object]:
    """No library spans inside: polling loops would flood the store."""
    return suppress_instrumentation()
