"""What is on sale: the two hot reads, and prices for whoever sells.

A product is on sale while it and its seller are active. The hot rows are named tuples instead of
frozen dataclasses: a page makes twenty of them, and they never leave this domain.
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import CharField, OuterRef, QuerySet, Subquery, UUIDField

from app.common.hotquery import HotQuery, Param
from app.common.money import Money
from app.inventory.errors import ProductNotFound
from app.inventory.models import Price, Product, ProductStatus, Variant

DEFAULT_CURRENCY = "NGN"
NEWEST = UUID(int=2**128 - 1)
"""Before the first page: public ids fall from page to page, because they are ordered by time."""


class ProductHit(NamedTuple):
    """A product in a list; `price_minor` is its cheapest variant's, None when it has no price."""

    public_id: UUID
    slug: str
    name: str
    seller_public_id: UUID
    seller_name: str
    price_minor: int | None


class VariantHit(NamedTuple):
    """A variant on its product's page."""

    public_id: UUID
    sku: str
    options: dict[str, str]
    price_minor: int | None


class ProductPage(NamedTuple):
    """A product with all its variants; the product's price is the cheapest of theirs."""

    public_id: UUID
    slug: str
    name: str
    description: str
    seller_public_id: UUID
    seller_name: str
    variants: list[VariantHit]

    @property
    def price_minor(self) -> int | None:
        return min(
            (v.price_minor for v in self.variants if v.price_minor is not None), default=None
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A variant as it can be bought now; `unit` is None when it has no price in the currency.

    `seller_key` is for foreign keys and never leaves the system.
    """

    variant: UUID
    sku: str
    name: str
    seller_key: int
    unit: Money | None


async def list_products(
    *, limit: int, currency: str, before: UUID = NEWEST
) -> tuple[list[ProductHit], UUID | None]:
    """A page of products, newest first, and the id to pass as `before` for the next one."""
    rows = await _list(limit + 1).all(before=before, currency=currency)
    hits = [ProductHit._make(row) for row in rows[:limit]]
    return hits, hits[-1].public_id if len(rows) > limit else None


async def get_product(*, slug: str, currency: str) -> ProductPage:
    """A product on sale. Raises ProductNotFound."""
    rows = await _DETAIL.all(slug=slug, currency=currency)
    if not rows:
        raise ProductNotFound("No product on sale has this address.")
    variants = [VariantHit._make(row[6:]) for row in rows if row[6] is not None]
    return ProductPage._make((*rows[0][:6], variants))


def quote(*, variants: Collection[UUID], currency: str) -> dict[UUID, Offer]:
    """The offers for the variants that are on sale, by public id: one statement."""
    rows = (
        Variant.objects.filter(
            public_id__in=variants,
            product__status=ProductStatus.ACTIVE,
            product__seller__status="active",
        )
        .annotate(unit=_price_of(OuterRef("pk"), currency))
        .values_list("public_id", "sku", "product__name", "seller_id", "unit")
    )
    return {
        public_id: Offer(
            variant=public_id,
            sku=sku,
            name=name,
            seller_key=seller_key,
            unit=None if unit is None else Money(unit, currency),
        )
        for public_id, sku, name, seller_key, unit in rows
    }


def _price_of(variant: Any, currency: Any) -> Subquery:
    return Subquery(Price.objects.filter(variant=variant, currency=currency).values("amount_minor"))


def _on_sale() -> QuerySet[Product]:
    return Product.objects.filter(status=ProductStatus.ACTIVE, seller__status="active")


@cache
def _list(limit: int) -> HotQuery:
    """One query per page size. With the limit as a parameter PostgreSQL never settles on a generic
    plan and plans every page anew, which costs more than reading it.
    """
    return HotQuery(lambda: _list_query()[:limit])


def _list_query() -> QuerySet[Product, Any]:
    cheapest = (
        Price.objects.filter(
            variant__product=OuterRef("pk"), currency=Param("currency", CharField())
        )
        .order_by("amount_minor")
        .values("amount_minor")[:1]
    )
    return (
        _on_sale()
        .filter(public_id__lt=Param("before", UUIDField()))
        .order_by("-public_id")
        .values_list(
            "public_id",
            "slug",
            "name",
            "seller__public_id",
            "seller__name",
            Subquery(cheapest),
        )
    )


def _detail_query() -> QuerySet[Product, Any]:
    return (
        _on_sale()
        .filter(slug=Param("slug", CharField()))
        .order_by("variants__position", "variants__pk")
        .values_list(
            "public_id",
            "slug",
            "name",
            "description",
            "seller__public_id",
            "seller__name",
            "variants__public_id",
            "variants__sku",
            "variants__options",
            _price_of(OuterRef("variants__pk"), Param("currency", CharField())),
        )
    )


_DETAIL = HotQuery(_detail_query)
