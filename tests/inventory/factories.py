"""Rows of the catalogue, with sensible values for what a test does not name."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count

from app.authentication.models import Seller, SellerStatus
from app.inventory.models import (
    MovementKind,
    Price,
    Product,
    ProductStatus,
    StockLevel,
    StockMovement,
    Variant,
    Warehouse,
)

_numbers = count(1)


def make_seller(*, name: str = "Adire House", status: str = SellerStatus.ACTIVE) -> Seller:
    return Seller.objects.create(slug=f"seller-{next(_numbers)}", name=name, status=status)


def make_product(
    *,
    seller: Seller | None = None,
    slug: str = "",
    name: str = "Indigo Kaftan",
    status: str = ProductStatus.ACTIVE,
) -> Product:
    return Product.objects.create(
        seller=seller or make_seller(),
        slug=slug or f"product-{next(_numbers)}",
        name=name,
        description="Falls straight from the shoulder.",
        status=status,
    )


def make_variant(
    *,
    product: Product | None = None,
    sku: str = "",
    prices: Mapping[str, int] | None = None,
    options: Mapping[str, str] | None = None,
) -> Variant:
    product = product or make_product()
    variant = Variant.objects.create(
        product=product,
        seller_id=product.seller_id,
        sku=sku or f"SKU-{next(_numbers)}",
        options=dict(options or {"size": "M"}),
        position=product.variants.count(),
    )
    for currency, amount in (prices or {"NGN": 1_500_000}).items():
        Price.objects.create(variant=variant, currency=currency, amount_minor=amount)
    return variant


def make_stock(
    variant: Variant | None = None, *, on_hand: int = 10, warehouse: Warehouse | None = None
) -> StockLevel:
    """Pieces on hand with the ledger row that explains them."""
    variant = variant or make_variant()
    warehouse = warehouse or Warehouse.objects.create(
        seller_id=variant.seller_id, name=f"Warehouse {next(_numbers)}", country="NG"
    )
    stock = StockLevel.objects.create(
        seller_id=warehouse.seller_id, variant=variant, warehouse=warehouse, on_hand=on_hand
    )
    if on_hand:
        StockMovement.objects.create(
            stock=stock, kind=MovementKind.RECEIVED, on_hand_delta=on_hand, reference="test"
        )
    return stock


@dataclass(frozen=True)
class Counters:
    """What a stock row says."""

    on_hand: int
    reserved: int


def counters(stock: StockLevel) -> Counters:
    stock.refresh_from_db()
    return Counters(stock.on_hand, stock.reserved)


def ledger(stock: StockLevel) -> list[tuple[str, int, int, str]]:
    """Kind, both deltas and reference of each movement, oldest first."""
    return list(
        stock.movements.order_by("pk").values_list(
            "kind", "on_hand_delta", "reserved_delta", "reference"
        )
    )
