"""Public API of the inventory domain."""

from app.inventory.services.catalogue import (
    DEFAULT_CURRENCY,
    NEWEST,
    Offer,
    ProductHit,
    ProductPage,
    VariantHit,
    get_product,
    list_products,
    quote,
)
from app.inventory.services.stock import StockLine, get_stock, release, reserve

__all__ = [
    "DEFAULT_CURRENCY",
    "NEWEST",
    "Offer",
    "ProductHit",
    "ProductPage",
    "StockLine",
    "VariantHit",
    "get_product",
    "get_stock",
    "list_products",
    "quote",
    "release",
    "reserve",
]
