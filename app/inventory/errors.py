"""What the inventory refuses."""

from app.common.errors import DomainError, NotFound


class ProductNotFound(NotFound):
    """No active product has this slug."""


class VariantNotFound(NotFound):
    """No variant on sale has this identifier."""


class OutOfStock(DomainError):
    """Fewer pieces are free than were asked for; nothing was reserved.

    Each entry of `errors` has `pointer`, `asked` (all lines of that variant together) and
    `available`.
    """

    code = "out_of_stock"
    title = "Not enough stock"
