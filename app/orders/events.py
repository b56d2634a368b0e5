"""Facts about orders."""

from dataclasses import dataclass

from app.common.events import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderPlaced(Event):
    """An order exists and its stock is held; `order_id` is its public id."""

    order_id: str
