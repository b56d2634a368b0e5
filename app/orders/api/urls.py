"""Routes under /api/v1/."""

from django.urls import path

from app.orders.api.v1_async import Checkout, OrderDetail

v1 = [
    path("checkout", Checkout.as_view(), name="checkout"),
    path("orders/<str:order_id>", OrderDetail.as_view(), name="order-detail"),
]
