"""Live figures under /api/v2/ (Ninja)."""

from django.http import HttpRequest
from ninja import Router, Schema

from app.common import ids
from app.inventory import services
from app.inventory.api.query import read_query
from app.inventory.errors import VariantNotFound

router = Router()


class Stock(Schema):
    """How many pieces of a variant one order can have now."""

    variant: str
    available: int
    in_stock: bool


@router.api_operation(["GET", "HEAD"], "/stock/{variant_id}", response=Stock)
async def stock(request: HttpRequest, variant_id: str) -> Stock:
    """Free pieces in the warehouse that has most: an order takes a variant from one warehouse."""
    read_query(request)
    try:
        variant = ids.decode("var", variant_id)
    except ValueError as error:
        raise VariantNotFound("No variant on sale has this identifier.") from error
    available = await services.get_stock(variant=variant)
    return Stock(variant=variant_id, available=available, in_stock=available > 0)
