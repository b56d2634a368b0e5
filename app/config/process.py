"""The start of every long-running process: logs, traces, metrics."""

from django.conf import settings

from app.telemetry import logging, metrics, tracing


def start(process: str) -> None:
    """Set up telemetry for `web`, `worker` or `relay` and serve its metrics port."""
    service = f"fashionistar-{process}"
    logging.configure(service=service, level=settings.LOG_LEVEL)
    tracing.configure(
        service=service, version=settings.APP_VERSION, hot_ratio=settings.OTEL_HOT_RATIO
    )
    metrics.start(settings.METRICS_PORT, version=settings.APP_VERSION)
