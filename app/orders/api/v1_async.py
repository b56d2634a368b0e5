"""Buying, and reading back what was bought: one thread call each."""

from typing import Annotated, Any

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from pydantic import AfterValidator, Field

from app.common import ids
from app.common.money import CURRENCIES
from app.common.schema import StrictSchema, parse
from app.common.views import ServiceView, json_response
from app.inventory.services import StockLine
from app.orders import services

MAX_LINES = 100
MAX_QUANTITY = 1000
PRIVATE = {"Cache-Control": "no-store"}


def _email(text: str) -> str:
    try:
        validate_email(text)
    except ValidationError as error:
        raise ValueError("not an e-mail address") from error
    return text


def _variant(text: str) -> str:
    ids.decode("var", text)
    return text


def _currency(text: str) -> str:
    if text not in CURRENCIES:
        raise ValueError(f"use one of {', '.join(CURRENCIES)}")
    return text


class CheckoutLine(StrictSchema):
    """One line of a checkout."""

    variant: Annotated[str, AfterValidator(_variant)]
    quantity: int = Field(ge=1, le=MAX_QUANTITY)


class CheckoutBody(StrictSchema):
    """The express form: a guest with everything inline."""

    email: Annotated[str, Field(max_length=254), AfterValidator(_email)]
    currency: Annotated[str, AfterValidator(_currency)]
    lines: list[CheckoutLine] = Field(min_length=1, max_length=MAX_LINES)


class Checkout(ServiceView):
    """`POST /checkout`: place a guest's order."""

    rate_limit = "checkout"

    def post(self, request: HttpRequest) -> HttpResponse:
        body = parse(CheckoutBody, request.body)
        lines = [
            StockLine(variant=ids.decode("var", line.variant), quantity=line.quantity)
            for line in body.lines
        ]
        order, token = services.checkout(email=body.email, currency=body.currency, lines=lines)
        location = reverse("order-detail", args=[order.id])
        return json_response(
            {**_order(order), "guest_token": token},
            status=201,
            headers={**PRIVATE, "Location": location},
        )


class OrderDetail(ServiceView):
    """`GET /orders/{id}` with the guest's `Order-Token`."""

    def get(self, request: HttpRequest, order_id: str) -> HttpResponse:
        token = request.headers.get("Order-Token", "")
        order = services.get_order(order_id=order_id, guest_token=token)
        return json_response(_order(order), headers=PRIVATE)


def _order(order: services.PlacedOrder) -> dict[str, Any]:
    return {
        "id": order.id,
        "status": order.status,
        "currency": order.total.currency,
        "subtotal": order.subtotal.as_json(),
        "total": order.total.as_json(),
        "lines": [
            {
                "variant": line.variant,
                "sku": line.sku,
                "name": line.name,
                "quantity": line.quantity,
                "unit": line.unit.as_json(),
                "total": line.total.as_json(),
            }
            for line in order.lines
        ],
        "placed_at": order.placed_at,
    }
