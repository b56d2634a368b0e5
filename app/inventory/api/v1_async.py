"""The public catalogue: hot reads, no thread, one statement each."""

from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.http import HttpRequest, HttpResponse

from app.common import ids
from app.common.money import CURRENCIES
from app.common.pagination import bad_parameter, decode_cursor, encode_cursor, parse_limit
from app.common.views import HotView, cacheable
from app.inventory import services
from app.inventory.api.query import read_query


class ProductList(HotView):
    """`GET /products`: newest first, page by page."""

    async def get(self, request: HttpRequest) -> HttpResponse:
        query = read_query(request, "limit", "cursor", "currency")
        limit, currency = parse_limit(query.get("limit")), _currency(query)
        before = services.NEWEST
        if "cursor" in query:
            (before,) = decode_cursor(query["cursor"], _product)
        hits, last = await services.list_products(limit=limit, currency=currency, before=before)
        cursor = None if last is None else encode_cursor(ids.encode("prd", last))
        body = {"items": [_summary(hit, currency) for hit in hits], "next": cursor}
        headers = {}
        if cursor is not None:
            target = urlencode({**query, "cursor": cursor})
            headers["Link"] = f'<{request.path}?{target}>; rel="next"'
        return cacheable(request, body, headers=headers)


class ProductDetail(HotView):
    """`GET /products/{slug}`: a product with all its variants."""

    async def get(self, request: HttpRequest, slug: str) -> HttpResponse:
        currency = _currency(read_query(request, "currency"))
        product = await services.get_product(slug=slug, currency=currency)
        body = {
            **_summary(product, currency),
            "description": product.description,
            "variants": [
                {
                    "id": ids.encode("var", variant.public_id),
                    "sku": variant.sku,
                    "options": variant.options,
                    "price": _price(variant.price_minor, currency),
                }
                for variant in product.variants
            ],
        }
        return cacheable(request, body)


def _currency(query: dict[str, str]) -> str:
    currency = query.get("currency", services.DEFAULT_CURRENCY)
    if currency not in CURRENCIES:
        raise bad_parameter("currency", "unknown_currency", f"One of {', '.join(CURRENCIES)}.")
    return currency


def _product(text: str) -> UUID:
    """The product in a cursor. Raises ValueError, or AttributeError for what is no text."""
    return ids.decode("prd", text)


def _summary(product: services.ProductHit | services.ProductPage, currency: str) -> dict[str, Any]:
    return {
        "id": ids.encode("prd", product.public_id),
        "slug": product.slug,
        "name": product.name,
        "seller": _seller(product.seller_public_id, product.seller_name),
        "price": _price(product.price_minor, currency),
    }


def _seller(public_id: UUID, name: str) -> dict[str, str]:
    return {"id": ids.encode("sel", public_id), "name": name}


def _price(amount_minor: int | None, currency: str) -> dict[str, Any] | None:
    if amount_minor is None:
        return None
    return {"amount_minor": amount_minor, "currency": currency}
