"""How PostgreSQL reads a page of the catalogue: along an index, never by sorting products."""

import json
import re
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from django.db import connection

from app.common.hotquery import Param
from app.inventory import services
from app.inventory.models import Product, ProductStatus
from app.inventory.services import catalogue, seeding

pytestmark = pytest.mark.django_db

PAGE = 21  # twenty products, and one that tells whether there is a next page


def seed(products: int = 300) -> list[Product]:
    """The demo catalogue, oldest first."""
    for _ in seeding.seed(products=products):
        pass
    return list(Product.objects.order_by("created_at"))


def analyze() -> None:
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def plans(before: Any) -> Iterator[list[dict[str, Any]]]:
    """The nodes that find a page's products: planned for its values, and for any values."""
    query = catalogue._list(PAGE)
    sql = query.compile()
    values = {"before": before, "currency": "NGN"}
    bound = [values[s.name] if isinstance(s, Param) else s for s in query._slots]
    numbers = count(1)
    prepared = re.sub("%s", lambda _: f"${next(numbers)}", sql)
    with connection.cursor() as cursor:
        for explain, arguments in (
            (f"EXPLAIN (FORMAT JSON) {sql}", bound),
            (f"EXPLAIN (FORMAT JSON, GENERIC_PLAN) {prepared}", None),
        ):
            cursor.execute(explain, arguments)
            (raw,) = cursor.fetchone()
            document = json.loads(raw) if isinstance(raw, str) else raw
            yield list(nodes(document[0]["Plan"]))


def nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A plan without what is computed per row (the cheapest price)."""
    yield node
    for child in node.get("Plans", []):
        if child["Parent Relationship"] != "SubPlan":
            yield from nodes(child)


def index_of_products(plan: list[dict[str, Any]]) -> str:
    """The index that gives the products in order; nothing sorts them."""
    assert not [node for node in plan if "Sort" in node["Node Type"]]
    (scan,) = [node for node in plan if node.get("Relation Name") == "inventory_product"]
    assert scan["Node Type"] == "Index Scan"
    assert "public_id <" in scan["Index Cond"]
    return str(scan["Index Name"])


def test_a_page_is_read_along_the_keyset_index() -> None:
    products = seed()
    withdrawn = [product.pk for product in products[1::3]]
    Product.objects.filter(pk__in=withdrawn).update(status=ProductStatus.ARCHIVED)
    analyze()
    for before in (services.NEWEST, products[150].public_id, products[5].public_id):
        assert [index_of_products(plan) for plan in plans(before)] == [
            "inventory_product_keyset",
            "inventory_product_keyset",
        ]


def test_nothing_is_sorted_while_all_products_are_on_sale() -> None:
    """The unique index on the ids alone is as good then, and PostgreSQL may take it."""
    products = seed()
    analyze()
    for before in (services.NEWEST, products[150].public_id):
        indexes = {index_of_products(plan) for plan in plans(before)}
        assert indexes <= {"inventory_product_keyset", "inventory_product_public_id_key"}
