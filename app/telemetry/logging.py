"""JSON logs on stdout: one line per fact, ECS field names, ids of the request and its trace.

Our own lines go straight to bytes (structlog, orjson); what libraries log through the standard
library comes out in the same shape.
"""

import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog
from opentelemetry import trace
from structlog.typing import EventDict, WrappedLogger

from app.telemetry.context import request_id


def configure(*, service: str, level: str) -> None:
    """Set up logging for this process. `level` is a name such as INFO."""
    number = logging.getLevelNamesMapping()[level.upper()]
    shared = [_context(service), _exception, _ecs]
    structlog.configure(
        processors=[structlog.processors.add_log_level, *shared, _render],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.BytesLoggerFactory(sys.stdout.buffer),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
            ],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *shared,
                _render_text,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(number, logging.INFO))
    logging.getLogger("django.request").setLevel(logging.CRITICAL)  # the wrapper logs requests
    logging.getLogger("uvicorn.access").disabled = True


def _context(service: str) -> structlog.typing.Processor:
    def add(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event["service.name"] = service
        span = trace.get_current_span().get_span_context()
        if span.is_valid:
            event["trace.id"] = f"{span.trace_id:032x}"
            event["span.id"] = f"{span.span_id:016x}"
        current = request_id()
        if current:
            event["http.request.id"] = current
        return event

    return add


def _exception(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    info: Any = event.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()
    error = info[1] if isinstance(info, tuple) else info
    if isinstance(error, BaseException):
        event["error.type"] = type(error).__name__
        event["error.stack_trace"] = traceback_of(error)
    return event


def traceback_of(error: BaseException) -> str:
    """The traceback without what PostgreSQL quotes of the refused row (its DETAIL)."""
    text = "".join(traceback.format_exception(error))
    seen: set[int] = set()
    queue: list[BaseException | None] = [error]
    while queue:
        link = queue.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        detail = getattr(getattr(link, "diag", None), "message_detail", None)
        if detail:
            text = text.replace(detail, "[removed]")
        queue += [link.__cause__, link.__context__]
    return text


def _ecs(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """ECS names; the message comes first so that a person finds it in a raw line."""
    return {
        "@timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "log.level": event.pop("level", "info"),
        "message": event.pop("event", ""),
        **event,
    }


def _render(_: WrappedLogger, __: str, event: EventDict) -> bytes:
    return orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS)


def _render_text(logger: WrappedLogger, name: str, event: EventDict) -> str:
    return _render(logger, name, event).decode()
