"""Routes under /api/v1/."""

from django.urls import path

from app.inventory.api.v1_async import ProductDetail, ProductList

v1 = [
    path("products", ProductList.as_view(), name="product-list"),
    path("products/<slug:slug>", ProductDetail.as_view(), name="product-detail"),
]
