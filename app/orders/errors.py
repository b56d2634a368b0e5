"""What orders refuse."""

from app.common.errors import NotFound


class OrderNotFound(NotFound):
    """No such order, or not with this token: the caller cannot tell which."""
