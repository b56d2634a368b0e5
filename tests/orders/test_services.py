"""Placing and reading orders, in one connection."""

import hashlib
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from app.authentication.models import SellerStatus
from app.common.errors import Invalid
from app.common.ids import uuid7
from app.common.money import Money
from app.inventory.errors import OutOfStock
from app.inventory.models import Price, ProductStatus, Reservation, StockMovement, Variant
from app.inventory.services import StockLine
from app.orders import services
from app.orders.errors import OrderNotFound
from app.orders.models import Order, OrderLine
from app.taskqueue.models import OutboxTask
from tests.inventory.factories import (
    Counters,
    counters,
    ledger,
    make_product,
    make_seller,
    make_stock,
    make_variant,
)

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 25, 9, 0, tzinfo=UTC)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timezone, "now", lambda: NOW)


def line(variant: Variant, quantity: int = 1) -> StockLine:
    return StockLine(variant=variant.public_id, quantity=quantity)


def checkout(*lines: StockLine, currency: str = "NGN") -> tuple[services.PlacedOrder, str]:
    return services.checkout(email="ada@example.com", currency=currency, lines=lines)


def assert_nothing_written() -> None:
    assert not Order.objects.exists()
    assert not OrderLine.objects.exists()
    assert not Reservation.objects.exists()
    assert not StockMovement.objects.exclude(kind="received").exists()
    assert not OutboxTask.objects.exists()


def test_checkout_places_the_order_and_holds_the_stock(clock: None) -> None:
    seller = make_seller()
    kaftan = make_stock(
        make_variant(
            product=make_product(seller=seller, name="Indigo Kaftan"),
            sku="K-M",
            prices={"NGN": 1_500_000, "USD": 1000},
        )
    )
    gele = make_stock(
        make_variant(product=make_product(name="Aso Oke Gele"), sku="G-1", prices={"NGN": 250_050})
    )
    placed, token = checkout(line(kaftan.variant, 2), line(gele.variant, 3))
    assert placed == services.PlacedOrder(
        id=placed.id,
        status="placed",
        subtotal=Money(3_750_150, "NGN"),
        total=Money(3_750_150, "NGN"),
        placed_at=NOW,
        lines=(
            services.PlacedLine(
                variant=kaftan.variant.pid,
                sku="K-M",
                name="Indigo Kaftan",
                quantity=2,
                unit=Money(1_500_000, "NGN"),
                total=Money(3_000_000, "NGN"),
            ),
            services.PlacedLine(
                variant=gele.variant.pid,
                sku="G-1",
                name="Aso Oke Gele",
                quantity=3,
                unit=Money(250_050, "NGN"),
                total=Money(750_150, "NGN"),
            ),
        ),
    )
    order = Order.objects.get()
    assert (order.pid, order.email, order.user, order.version) == (
        placed.id,
        "ada@example.com",
        None,
        1,
    )
    assert (order.discount_minor, order.shipping_minor, order.tax_minor) == (0, 0, 0)
    assert order.confirmation_sent_at is None
    assert bytes(order.guest_token_hash or b"") == hashlib.sha256(token.encode()).digest()
    assert OrderLine.objects.order_by("pk").first().seller == seller  # type: ignore[union-attr]
    held = Reservation.objects.get()
    assert (held.reference, held.state) == (order.reservation_reference, "held")
    assert held.expires_at == datetime(2026, 11, 25, 9, 10, tzinfo=UTC)
    assert counters(kaftan) == Counters(on_hand=10, reserved=2)
    assert ledger(gele)[1:] == [("reserved", 0, 3, placed.id)]


def test_checkout_publishes_the_fact_in_its_transaction() -> None:
    placed, _ = checkout(line(make_stock().variant))
    task = OutboxTask.objects.get()
    assert (task.path, task.queue, task.priority) == (
        "app.orders.tasks.email_confirmation",
        "emails",
        5,
    )
    assert task.envelope["kwargs"]["order_id"] == placed.id
    assert set(task.envelope["kwargs"]) == {"event_id", "order_id"}


def test_no_personal_datum_and_no_token_is_in_the_task() -> None:
    placed, token = checkout(line(make_stock().variant))
    with connection.cursor() as cursor:
        cursor.execute("SELECT envelope::text FROM taskqueue_outbox")
        (text,) = cursor.fetchone()
    assert placed.id in text
    assert "ada" not in text
    assert token not in text


def test_lines_of_one_variant_become_one() -> None:
    stock, other = make_stock(on_hand=5), make_stock()
    placed, _ = checkout(line(stock.variant, 2), line(other.variant), line(stock.variant, 3))
    assert [(item.sku, item.quantity) for item in placed.lines] == [
        (stock.variant.sku, 5),
        (other.variant.sku, 1),
    ]
    assert counters(stock).reserved == 5


@pytest.mark.parametrize("size", [1, 50])
def test_statements_do_not_grow_with_the_lines(size: int) -> None:
    lines = [line(make_stock().variant) for _ in range(size)]
    with CaptureQueriesContext(connection) as queries:
        checkout(*lines)
    kinds = [query["sql"].split()[0] for query in queries]
    # The test's own transaction turns BEGIN and COMMIT into SAVEPOINT and RELEASE.
    assert kinds == [
        "SAVEPOINT",
        "SELECT",  # offers
        "WITH",  # stock and ledger
        "INSERT",  # reservation
        "INSERT",  # its lines
        "INSERT",  # order
        "INSERT",  # its lines
        "INSERT",  # outbox
        "RELEASE",
    ]


def test_short_stock_writes_nothing() -> None:
    plenty, short = make_stock(), make_stock(on_hand=1)
    with pytest.raises(OutOfStock) as refusal:
        checkout(line(plenty.variant), line(short.variant, 2))
    assert [(e["pointer"], e["asked"], e["available"]) for e in refusal.value.errors] == [
        ("/lines/1/quantity", 2, 1)
    ]
    assert_nothing_written()
    assert counters(plenty).reserved == 0


def not_on_sale(**product: Any) -> UUID:
    return make_stock(make_variant(product=make_product(**product))).variant.public_id


def test_what_is_not_for_sale_is_named_line_by_line() -> None:
    good = make_stock().variant
    in_dollars = make_stock(make_variant(prices={"USD": 100})).variant
    unknown = [
        uuid7(),
        not_on_sale(status=ProductStatus.DRAFT),
        not_on_sale(status=ProductStatus.ARCHIVED),
        not_on_sale(seller=make_seller(status=SellerStatus.SUSPENDED)),
    ]
    lines = [StockLine(variant=variant, quantity=1) for variant in unknown]
    with pytest.raises(Invalid) as refusal:
        checkout(line(good), line(in_dollars), *lines)
    assert [(e["pointer"], e["code"]) for e in refusal.value.errors] == [
        ("/lines/1/variant", "no_price"),
        *((f"/lines/{index}/variant", "unknown_variant") for index in (2, 3, 4, 5)),
    ]
    assert_nothing_written()


def test_the_order_keeps_its_price_when_the_catalogue_changes() -> None:
    variant = make_stock().variant
    placed, token = checkout(line(variant))
    Price.objects.update(amount_minor=1)
    variant.product.name = "Renamed"
    variant.product.save()
    assert services.get_order(order_id=placed.id, guest_token=token) == placed


def test_a_guest_reads_the_order_with_its_token_only() -> None:
    placed, token = checkout(line(make_stock().variant))
    other, other_token = checkout(line(make_stock().variant))
    assert token != other_token
    assert services.get_order(order_id=placed.id, guest_token=token) == placed
    for order_id, wrong in [
        (placed.id, ""),
        (placed.id, token[:-1]),
        (placed.id, other_token),
        (other.id, token),
        ("ord_00000000000000000000000000", token),
        ("var_00000000000000000000000000", token),
        ("", token),
    ]:
        with pytest.raises(OrderNotFound):
            services.get_order(order_id=order_id, guest_token=wrong)


def test_an_order_without_a_guest_token_is_no_guests() -> None:
    placed, token = checkout(line(make_stock().variant))
    Order.objects.update(guest_token_hash=None)
    for wrong in ("", token):
        with pytest.raises(OrderNotFound):
            services.get_order(order_id=placed.id, guest_token=wrong)


def test_reading_an_order_takes_two_statements() -> None:
    placed, token = checkout(*(line(make_stock().variant) for _ in range(5)))
    with CaptureQueriesContext(connection) as queries:
        services.get_order(order_id=placed.id, guest_token=token)
    assert len(queries) == 2


@pytest.mark.parametrize(
    ("change", "constraint"),
    [
        ({"total_minor": 7}, "orders_order_total_adds_up"),
        ({"shipping_minor": 1}, "orders_order_total_adds_up"),
        ({"discount_minor": -1, "tax_minor": 1}, "orders_order_amounts_positive"),
        ({"status": "teleported"}, "orders_order_status_known"),
        ({"currency": "ngn"}, "orders_order_currency_code"),
    ],
)
def test_the_database_refuses_impossible_orders(change: dict[str, Any], constraint: str) -> None:
    checkout(line(make_stock().variant))
    with pytest.raises(IntegrityError, match="orders_order_"), transaction.atomic():
        Order.objects.update(**change)
    assert constraint in {c.name for c in Order._meta.constraints}


@pytest.mark.parametrize(
    "change", [{"quantity": 0}, {"quantity": 2}, {"unit_minor": -1}, {"total_minor": 7}]
)
def test_the_database_refuses_impossible_lines(change: dict[str, int]) -> None:
    checkout(line(make_stock().variant))
    with pytest.raises(IntegrityError, match="orders_orderline_"), transaction.atomic():
        OrderLine.objects.update(**change)
