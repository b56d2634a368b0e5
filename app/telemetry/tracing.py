"""OpenTelemetry in one call per process: resource, sampler, exporter, library instrumentors."""

import os
import random
from collections.abc import Sequence
from contextlib import AbstractContextManager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor
from opentelemetry.instrumentation.redis import RedisInstrumentor
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import (
    Decision,
    Sampler,
    SamplingResult,
)
from opentelemetry.trace import Link, SpanKind, Status, TraceState
from opentelemetry.util.types import Attributes

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
"""Spans are exported when one of these is set; the exporter reads it."""
HOT = "app.hot"
"""Attribute of a server span that is started for a public hot read."""


class EdgeSampler(Sampler):
    """Decides at the edge: hot reads by ratio, everything else whole; children follow their parent.

    The caller's `sampled` flag is ignored, or any client could force 100 %.
    """

    def __init__(self, hot_ratio: float) -> None:
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
        # Our own dice: the caller chooses the trace id, which ratio samplers decide by.
        keep = not (attributes and attributes.get(HOT)) or random.random() < self._ratio  # noqa: S311
        decision = Decision.RECORD_AND_SAMPLE if keep else Decision.DROP
        return SamplingResult(decision, attributes)

    def get_description(self) -> str:
        """For the SDK's own logs."""
        return f"EdgeSampler{{hot={self._ratio}}}"


class Scrubber(SpanProcessor):
    """Passes ended spans on without exception events and status texts.

    Library instrumentors record them, and a database error quotes the row it refused. Exceptions
    belong into the log, once, scrubbed; the span keeps `error.type` and its status.
    """

    def __init__(self, inner: SpanProcessor) -> None:
        self._inner = inner

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Nothing to scrub yet."""
        self._inner.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        """Hand over the span, or its scrubbed copy."""
        if span.events or span.status.description:
            span = ReadableSpan(
                name=span.name,
                context=span.context,
                parent=span.parent,
                resource=span.resource,
                attributes=span.attributes,
                events=[event for event in span.events if event.name != "exception"],
                links=span.links,
                kind=span.kind,
                status=Status(span.status.status_code),
                start_time=span.start_time,
                end_time=span.end_time,
                instrumentation_scope=span.instrumentation_scope,
            )
        self._inner.on_end(span)

    def shutdown(self) -> None:
        """Flush and end."""
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Export what is queued."""
        return self._inner.force_flush(timeout_millis)


def configure(*, service: str, version: str, hot_ratio: float) -> TracerProvider:
    """Set up tracing for this process; spans are exported only with an OTLP endpoint set.

    `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` win over `service`.
    """
    os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http,database")
    name = os.environ.get("OTEL_SERVICE_NAME", service)
    resource = Resource.create({SERVICE_NAME: name, SERVICE_VERSION: version})
    provider = TracerProvider(resource=resource, sampler=EdgeSampler(hot_ratio))
    if any(os.environ.get(name) for name in ENDPOINTS):
        provider.add_span_processor(Scrubber(BatchSpanProcessor(_exporter())))
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
