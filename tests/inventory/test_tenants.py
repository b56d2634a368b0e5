"""What the database refuses between sellers."""

import pytest
from django.db import IntegrityError, connection

from app.inventory.models import Price, StockLevel, Variant, Warehouse
from tests.inventory.factories import make_product, make_seller, make_stock, make_variant

pytestmark = pytest.mark.django_db


def test_a_variant_belongs_to_the_seller_of_its_product() -> None:
    make_variant()
    Variant.objects.update(seller=make_seller())
    with pytest.raises(IntegrityError, match="inventory_variant_seller_of_product"):
        connection.check_constraints()


@pytest.mark.parametrize(
    ("owner", "constraint"),
    [
        ("variant", "inventory_stocklevel_seller_of_warehouse"),
        ("warehouse", "inventory_stocklevel_seller_of_variant"),
    ],
)
def test_a_variant_cannot_lie_in_the_warehouse_of_another_seller(
    owner: str, constraint: str
) -> None:
    """Whichever of the two sellers the row names."""
    variant = make_variant()
    warehouse = Warehouse.objects.create(seller=make_seller(), name="Theirs", country="NG")
    seller = variant.seller if owner == "variant" else warehouse.seller
    StockLevel.objects.create(seller=seller, variant=variant, warehouse=warehouse)
    with pytest.raises(IntegrityError, match=constraint):
        connection.check_constraints()


@pytest.mark.parametrize("table", [StockLevel, Warehouse, Variant])
def test_stock_keeps_the_seller_of_its_variant_and_warehouse(
    table: type[StockLevel | Warehouse | Variant],
) -> None:
    make_stock()
    table.objects.update(seller=make_seller())
    with pytest.raises(IntegrityError, match="_seller_of_"):
        connection.check_constraints()


def test_a_sku_is_unique_per_seller() -> None:
    product = make_product()
    make_variant(product=product, sku="K-M")
    make_variant(sku="K-M")  # another seller's
    with pytest.raises(IntegrityError, match="inventory_variant_sku"):
        make_variant(product=make_product(seller=product.seller), sku="K-M")


@pytest.mark.parametrize(
    ("currency", "amount", "constraint"),
    [
        ("NGN", -1, "inventory_price_amount_range"),
        ("NGN", 10**12 + 1, "inventory_price_amount_range"),
        ("ngn", 1, "inventory_price_currency_code"),
    ],
)
def test_an_impossible_price(currency: str, amount: int, constraint: str) -> None:
    with pytest.raises(IntegrityError, match=constraint):
        make_variant(prices={currency: amount})


def test_one_price_per_variant_and_currency() -> None:
    variant = make_variant()
    with pytest.raises(IntegrityError, match="inventory_price_one"):
        Price.objects.create(variant=variant, currency="NGN", amount_minor=1)
