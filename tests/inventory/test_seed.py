"""The demo catalogue."""

import io
from uuid import RFC_4122

import pytest
from django.core.management import CommandError, call_command
from django.db.models import Count, F, Sum

from app.authentication.models import Seller
from app.inventory.demo import make_product
from app.inventory.models import Price, Product, StockLevel, StockMovement, Variant, Warehouse
from app.inventory.services import seeding


def seed(products: int) -> str:
    """Run the command; what it wrote to stderr."""
    errors = io.StringIO()
    call_command("seed", products=products, stdout=io.StringIO(), stderr=errors)
    return errors.getvalue()


def test_a_demo_product_depends_on_its_number_alone() -> None:
    product = make_product(7)
    assert product == make_product(7)
    assert product.slug == "terracotta-adire-shift-dress-000007"
    assert product.name == "Terracotta Adire Shift Dress"
    assert [variant.size for variant in product.variants] == ["M", "L"]
    assert product.variants[0].prices["NGN"] == 3_470_000


def test_the_demo_catalogue_is_plausible() -> None:
    products = [make_product(number) for number in range(400)]
    variants = [variant for product in products for variant in product.variants]
    assert {2, 3, 4, 5, 6} == {len(product.variants) for product in products}
    assert {product.seller for product in products} == {0, 1, 2, 3, 4}
    assert len({product.slug for product in products}) == 400
    assert len({v.sku for v in variants}) == len({v.public_id for v in variants}) == len(variants)
    assert min(amount for v in variants for amount in v.prices.values()) > 0
    ids = [product.public_id for product in products]
    assert ids == sorted(ids)  # the list of products is ordered by them
    for public_id in (products[0].public_id, variants[0].public_id):
        assert (public_id.version, public_id.variant) == (7, RFC_4122)


@pytest.mark.django_db
def test_seed_fills_the_catalogue() -> None:
    progress = seed(3)
    assert progress.endswith("] 3/3 products\n")
    expected = [make_product(number) for number in range(3)]
    assert list(Product.objects.order_by("pk").values_list("slug", "status")) == [
        (product.slug, "active") for product in expected
    ]
    wanted = sum(len(product.variants) for product in expected)
    assert Variant.objects.filter(seller=F("product__seller")).count() == wanted
    per_variant = Price.objects.values("variant").annotate(n=Count("currency", distinct=True))
    assert set(per_variant.values_list("n", flat=True)) == {5}
    assert Seller.objects.count() == Warehouse.objects.count() == 5
    of_one_seller = StockLevel.objects.filter(
        seller=F("variant__seller"), warehouse__seller=F("seller")
    )
    assert of_one_seller.count() == wanted
    sums = StockLevel.objects.annotate(hands=Sum("movements__on_hand_delta"))
    assert sums.filter(on_hand=F("hands"), reserved=0).count() == wanted


@pytest.mark.django_db
def test_seed_again_changes_nothing_and_more_adds_the_rest() -> None:
    seed(2)
    before = list(Product.objects.values_list("pk", "public_id").order_by("pk"))
    seed(2)
    assert list(Product.objects.values_list("pk", "public_id").order_by("pk")) == before
    seed(4)
    assert list(Product.objects.values_list("pk", "public_id").order_by("pk"))[:2] == before
    assert Product.objects.count() == 4
    assert StockMovement.objects.count() == StockLevel.objects.count() == Variant.objects.count()


@pytest.mark.django_db
def test_seed_completes_what_is_missing_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeding, "BATCH", 2)
    steps = seeding.seed(products=5)
    assert next(steps) == 2  # and then the process dies
    assert Product.objects.count() == 2
    assert list(seeding.seed(products=5)) == [2, 4, 5]
    assert Product.objects.count() == 5


@pytest.mark.django_db
def test_nothing_to_seed() -> None:
    assert seed(0) == ""
    with pytest.raises(CommandError, match="--products"):
        seed(-1)
