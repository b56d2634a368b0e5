"""What belongs to the request or task that runs now: its id, carried by a context variable."""

from contextvars import ContextVar

_request_id: ContextVar[str] = ContextVar("request_id", default="")


def request_id() -> str:
    """The id of the current request (or of the request that caused the current task), or ''."""
    return _request_id.get()


def bind_request_id(value: str) -> None:
    """Set the id for the current context; each request and each task runs in its own."""
    _request_id.set(value)
