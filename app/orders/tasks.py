"""Task shells: each calls one service."""

from app.orders import services
from app.taskqueue import task


@task(queue_name="emails", priority=5)
def email_confirmation(*, event_id: str, order_id: str) -> None:
    """Tell the buyer that the order was placed."""
    services.send_confirmation(order_id=order_id)
