"""The start and the end of every long-running process: logs, traces, metrics."""

from django.conf import settings
from django.core.management.base import CommandError
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from app.config import internal
from app.telemetry import logging, metrics, tracing


def start(process: str) -> None:
    """Set up telemetry for `web`, `worker` or `relay` and serve its metrics port.

    Raises CommandError when that port is taken.
    """
    service = f"fashionistar-{process}"
    logging.configure(service=service, level=settings.LOG_LEVEL)
    tracing.configure(
        service=service, version=settings.APP_VERSION, hot_ratio=settings.OTEL_HOT_RATIO
    )
    try:
        metrics.start(
            settings.METRICS_PORT,
            version=settings.APP_VERSION,
            queues=settings.TASKS["default"]["QUEUES"],
            buckets=settings.RATE_LIMITS if process == "web" else (),
            respond=internal.of(process),
        )
    except OSError as error:
        raise CommandError(
            f"cannot serve metrics on port {settings.METRICS_PORT} ({error.strerror}): "
            "set METRICS_PORT to a free one, or to 0 for none"
        ) from error


def stop(process: str) -> None:
    """Export the last spans."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        provider.shutdown()
