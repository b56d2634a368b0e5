"""What the database refuses between sellers."""

import pytest
from django.db import IntegrityError, connection

from app.inventory.models import Price, Variant
from tests.inventory.factories import make_product, make_seller, make_variant

pytestmark = pytest.mark.django_db


def test_a_variant_belongs_to_the_seller_of_its_product() -> None:
    make_variant()
    Variant.objects.update(seller=make_seller())
    with pytest.raises(IntegrityError, match="inventory_variant_seller_of_product"):
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
