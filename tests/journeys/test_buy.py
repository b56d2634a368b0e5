"""From the catalogue to the e-mail: web, relay and worker processes on committed data."""

from typing import Any

import httpx
from django.db import transaction

from app.common.events import publish
from app.inventory.services import seeding
from app.orders.events import OrderPlaced
from app.orders.models import Order
from app.taskqueue.models import OutboxTask
from tests.support.mailbox import Mailbox
from tests.support.waiting import wait_until

BUYER = "ada@example.com"


def buy(http: httpx.Client) -> dict[str, Any]:
    """Browse to the second page, choose a variant, buy two; the placed order."""
    first = http.get("/api/v1/products", params={"limit": 5})
    second = http.get(first.links["next"]["url"]).json()
    product = http.get(f"/api/v1/products/{second['items'][0]['slug']}").json()
    variant = product["variants"][-1]
    stock = f"/api/v2/stock/{variant['id']}"
    before = http.get(stock).json()["available"]
    order = {
        "email": BUYER,
        "currency": "NGN",
        "lines": [{"variant": variant["id"], "quantity": 2}],
    }
    response = http.post("/api/v1/checkout", json=order)
    assert response.status_code == 201
    placed: dict[str, Any] = response.json()
    assert placed["total"]["amount_minor"] == 2 * variant["price"]["amount_minor"]
    assert http.get(stock).json()["available"] == before - 2
    token = placed.pop("guest_token")
    assert http.get(response.headers["location"], headers={"Order-Token": token}).json() == placed
    return placed


def test_a_purchase_ends_in_one_email(server: str, background: None, mailbox: Mailbox) -> None:
    for _ in seeding.seed(products=12):
        pass
    with httpx.Client(base_url=server) as http:
        placed = buy(http)
    (message,) = mailbox.wait_for(1, to=BUYER, timeout=60)  # the worker may still be starting
    assert message["subject"] == f"Your FASHIONISTAR order {placed['id']}"
    assert message["message_id"] == f"<{placed['id']}.confirmation@fashionistar.example>"
    assert placed["lines"][0]["name"] in message["text"]
    wait_until(lambda: Order.objects.get().confirmation_sent_at, what="the mark of the e-mail")

    with transaction.atomic():  # the same fact, delivered twice more
        for _ in range(2):
            publish(OrderPlaced(order_id=placed["id"]))
    wait_until(lambda: not OutboxTask.objects.exists(), what="an empty outbox")
    with transaction.atomic():  # and one of another order, behind them in the queue
        Order.objects.update(confirmation_sent_at=None, email="eve@example.com")
        publish(OrderPlaced(order_id=placed["id"]))
    mailbox.wait_for(1, to="eve@example.com")
    assert len(mailbox.messages(to=BUYER)) == 1
