"""Writes the demo catalogue in bulk, through COPY."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import batched
from typing import Any, NamedTuple

import orjson
from django.db import connection, transaction

from app.authentication import services as authentication
from app.inventory.demo import SELLERS, DemoProduct, DemoVariant, make_product
from app.inventory.models import MovementKind, Product, ProductStatus, Warehouse

BATCH = 100


class _Owner(NamedTuple):
    """Keys of a seller and of its warehouse."""

    seller: int
    warehouse: int


class _Row(NamedTuple):
    """A variant and the keys it gets."""

    key: int
    stock_key: int
    product_key: int
    owner: _Owner
    position: int
    variant: DemoVariant
    product: DemoProduct


def seed(*, products: int) -> Iterator[int]:
    """Make the first `products` demo products that do not exist yet, with stock; yields progress.

    Each batch is one transaction with its ledger rows, so a batch that was interrupted leaves
    nothing and running it again completes the catalogue.
    """
    owners = [_owner(*seller) for seller in SELLERS]
    for numbers in batched(range(products), BATCH, strict=False):
        _write([make_product(number) for number in numbers], owners)
        yield numbers[-1] + 1


def _owner(slug: str, name: str, country: str) -> _Owner:
    seller = authentication.ensure_seller(slug=slug, name=name)
    warehouse, _ = Warehouse.objects.get_or_create(
        seller_id=seller.key, name=f"{name} warehouse", defaults={"country": country}
    )
    return _Owner(seller.key, warehouse.pk)


@transaction.atomic
def _write(candidates: Sequence[DemoProduct], owners: Sequence[_Owner]) -> None:
    slugs = [product.slug for product in candidates]
    known = set(Product.objects.filter(slug__in=slugs).values_list("slug", flat=True))
    products = [product for product in candidates if product.slug not in known]
    keys = _new_keys("inventory_product", len(products))
    _write_products(keys, products, owners)
    variants = [
        (key, product, position)
        for key, product in zip(keys, products, strict=True)
        for position in range(len(product.variants))
    ]
    variant_keys = _new_keys("inventory_variant", len(variants))
    stock_keys = _new_keys("inventory_stocklevel", len(variants))
    _write_variants(
        [
            _Row(key, stock, product_key, owners[p.seller], position, p.variants[position], p)
            for key, stock, (product_key, p, position) in zip(
                variant_keys, stock_keys, variants, strict=True
            )
        ]
    )


def _write_products(
    keys: Sequence[int], products: Sequence[DemoProduct], owners: Sequence[_Owner]
) -> None:
    active = ProductStatus.ACTIVE.value
    _copy(
        "inventory_product (id, public_id, seller_id, slug, name, description, created_at,"
        " updated_at, status, version)",
        (
            (
                key,
                p.public_id,
                owners[p.seller].seller,
                p.slug,
                p.name,
                p.description,
                p.created_at,
                p.created_at,
                active,
                1,
            )
            for key, p in zip(keys, products, strict=True)
        ),
    )


def _write_variants(rows: Sequence[_Row]) -> None:
    _copy(
        "inventory_variant (id, public_id, product_id, seller_id, sku, options, position)",
        (
            (
                row.key,
                row.variant.public_id,
                row.product_key,
                row.owner.seller,
                row.variant.sku,
                orjson.dumps({"size": row.variant.size, "colour": row.product.colour}).decode(),
                row.position,
            )
            for row in rows
        ),
    )
    _copy(
        "inventory_price (variant_id, currency, amount_minor)",
        ((row.key, *price) for row in rows for price in row.variant.prices.items()),
    )
    _copy(
        "inventory_stocklevel"
        " (id, seller_id, warehouse_id, variant_id, on_hand, reserved, version)",
        ((row.stock_key, *row.owner, row.key, row.variant.on_hand, 0, 1) for row in rows),
    )
    received = MovementKind.RECEIVED.value
    _copy(
        "inventory_stockmovement"
        " (stock_id, kind, on_hand_delta, reserved_delta, reference, created_at)",
        (
            (row.stock_key, received, row.variant.on_hand, 0, "seed", row.product.created_at)
            for row in rows
        ),
    )


def _new_keys(table: str, count: int) -> list[int]:
    """Keys from the table's sequence, so that rows of several tables can be copied at once."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT nextval(pg_get_serial_sequence(%s, 'id')) FROM generate_series(1, %s)",
            [table, count],
        )
        return [key for (key,) in cursor.fetchall()]


def _copy(target: str, rows: Iterable[tuple[Any, ...]]) -> None:
    with connection.cursor() as cursor, cursor.copy(f"COPY {target} FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)
