"""The whole event map: which task runs when which fact was committed."""

from typing import Any

from app.common.events import Event
from app.orders.events import OrderPlaced
from app.orders.tasks import email_confirmation

HANDLERS: dict[type[Event], list[Any]] = {
    OrderPlaced: [email_confirmation],
}
