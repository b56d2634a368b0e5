"""Holding stock and giving it back, in one connection."""

import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models import F, Sum
from django.test.utils import CaptureQueriesContext

from app.common.ids import uuid7
from app.inventory import services
from app.inventory.errors import OutOfStock
from app.inventory.models import (
    MovementKind,
    Reservation,
    ReservationLine,
    StockLevel,
    StockMovement,
    Variant,
)
from tests.inventory.factories import (
    Counters,
    counters,
    ledger,
    make_stock,
    make_variant,
)

pytestmark = pytest.mark.django_db

EXPIRY = datetime(2026, 12, 1, 9, 30, tzinfo=UTC)


def line(variant: Variant, quantity: int = 1) -> services.StockLine:
    return services.StockLine(variant=variant.public_id, quantity=quantity)


def reserve(*lines: services.StockLine, reference: str = "ord_1") -> None:
    services.reserve(reference=reference, lines=lines, expires_at=EXPIRY)


def written() -> dict[str, int]:
    """Rows that only a hold makes."""
    return {
        "reservations": Reservation.objects.count(),
        "lines": ReservationLine.objects.count(),
        "movements": StockMovement.objects.exclude(kind=MovementKind.RECEIVED).count(),
        "reserved": StockLevel.objects.aggregate(n=Sum("reserved"))["n"],
    }


NOTHING = {"reservations": 0, "lines": 0, "movements": 0, "reserved": 0}


def test_reserve_holds_the_pieces_and_says_so_in_the_ledger() -> None:
    stock = make_stock(on_hand=10)
    reserve(line(stock.variant, 3))
    assert counters(stock) == Counters(on_hand=10, reserved=3)
    assert stock.version == 2
    assert ledger(stock) == [("received", 10, 0, "test"), ("reserved", 0, 3, "ord_1")]
    held = Reservation.objects.get()
    assert (held.reference, held.state, held.expires_at) == ("ord_1", "held", EXPIRY)
    assert list(held.lines.values_list("stock", "quantity")) == [(stock.pk, 3)]


def test_lines_of_one_variant_are_summed() -> None:
    stock = make_stock(on_hand=5)
    reserve(line(stock.variant, 2), line(stock.variant, 3))
    assert counters(stock) == Counters(on_hand=5, reserved=5)
    assert ledger(stock)[1:] == [("reserved", 0, 5, "ord_1")]


def test_the_sum_is_refused_though_each_line_alone_would_fit() -> None:
    stock = make_stock(on_hand=4)
    with pytest.raises(OutOfStock) as refusal, transaction.atomic():
        reserve(line(stock.variant, 2), line(stock.variant, 3))
    assert refusal.value.errors == [
        {
            "pointer": f"/lines/{index}/quantity",
            "code": "out_of_stock",
            "detail": "4 available.",
            "asked": 5,
            "available": 4,
        }
        for index in (0, 1)
    ]
    assert written() == NOTHING


def test_one_short_line_refuses_all_and_names_only_itself() -> None:
    plenty, short = make_stock(on_hand=9), make_stock(on_hand=1)
    with pytest.raises(OutOfStock) as refusal, transaction.atomic():
        reserve(line(plenty.variant), line(short.variant, 2), line(plenty.variant))
    assert [(e["pointer"], e["asked"], e["available"]) for e in refusal.value.errors] == [
        ("/lines/1/quantity", 2, 1)
    ]
    assert written() == NOTHING


@pytest.mark.parametrize("make", [make_variant, lambda: Variant(public_id=uuid7())])
def test_a_variant_without_stock_row_has_nothing(make: Callable[[], Variant]) -> None:
    make_stock()
    with pytest.raises(OutOfStock) as refusal, transaction.atomic():
        reserve(line(make()))
    assert refusal.value.errors[0]["available"] == 0
    assert written() == NOTHING


def test_the_first_warehouse_that_has_all_of_it_serves() -> None:
    first = make_stock(on_hand=2)
    second = make_stock(first.variant, on_hand=5)
    third = make_stock(first.variant, on_hand=9)
    reserve(line(first.variant, 4))
    assert [counters(s).reserved for s in (first, second, third)] == [0, 4, 0]


def test_no_warehouse_has_all_of_it() -> None:
    first = make_stock(on_hand=2)
    make_stock(first.variant, on_hand=3)
    with pytest.raises(OutOfStock) as refusal, transaction.atomic():
        reserve(line(first.variant, 4))
    assert refusal.value.errors[0]["available"] == 3
    assert written() == NOTHING


def test_a_hold_without_expiry() -> None:
    stock = make_stock()
    services.reserve(reference="ord_1", lines=[line(stock.variant)], expires_at=None)
    assert Reservation.objects.get().expires_at is None


def test_a_reference_has_one_live_hold() -> None:
    stock = make_stock()
    reserve(line(stock.variant))
    with (
        pytest.raises(IntegrityError, match="inventory_reservation_one_live"),
        transaction.atomic(),
    ):
        reserve(line(stock.variant))
    services.release(reference="ord_1")
    reserve(line(stock.variant))
    assert list(Reservation.objects.order_by("pk").values_list("state", flat=True)) == [
        "released",
        "held",
    ]


@pytest.mark.parametrize("size", [1, 50])
def test_statements_do_not_grow_with_the_lines(size: int) -> None:
    lines = [line(make_stock().variant) for _ in range(size)]
    with CaptureQueriesContext(connection) as queries:
        reserve(*lines)
    assert [q["sql"].split()[0] for q in queries] == ["WITH", "INSERT", "INSERT"]
    with CaptureQueriesContext(connection) as queries:
        services.release(reference="ord_1")
    assert [q["sql"].split()[0] for q in queries] == ["WITH"]


def test_release_gives_back_once() -> None:
    stocks = [make_stock(on_hand=10) for _ in range(2)]
    reserve(line(stocks[0].variant, 3), line(stocks[1].variant, 4))
    reserve(line(stocks[0].variant, 2), reference="ord_2")
    assert services.release(reference="ord_1") is True
    assert services.release(reference="ord_1") is False
    assert [counters(s) for s in stocks] == [Counters(10, 2), Counters(10, 0)]
    assert ledger(stocks[1])[1:] == [("reserved", 0, 4, "ord_1"), ("released", 0, -4, "ord_1")]
    assert Reservation.objects.get(reference="ord_1").state == "released"
    assert Reservation.objects.get(reference="ord_2").state == "held"


@pytest.mark.parametrize("state", ["committed", "expired"])
def test_release_leaves_what_is_not_held(state: str) -> None:
    stock = make_stock()
    reserve(line(stock.variant, 3))
    Reservation.objects.update(state=state, expires_at=None)
    assert services.release(reference="ord_1") is False
    assert counters(stock).reserved == 3


def test_counters_are_the_sums_of_the_ledger_after_a_random_walk() -> None:
    dice = random.Random(4)
    stocks = [make_stock(on_hand=12) for _ in range(4)]
    live: list[str] = []
    outcomes = dict.fromkeys(("reserved", "refused", "released"), 0)
    for step in range(120):
        if live and dice.random() < 0.4:
            services.release(reference=live.pop(dice.randrange(len(live))))
            outcomes["released"] += 1
            continue
        lines = [line(dice.choice(stocks).variant, dice.randint(1, 4)) for _ in range(3)]
        try:
            with transaction.atomic():
                reserve(*lines, reference=f"ord_{step}")
        except OutOfStock:
            outcomes["refused"] += 1
        else:
            outcomes["reserved"] += 1
            live.append(f"ord_{step}")
    assert min(outcomes.values()) > 5, outcomes
    sums = StockLevel.objects.annotate(
        hands=Sum("movements__on_hand_delta"), holds=Sum("movements__reserved_delta")
    )
    assert sums.filter(on_hand=F("hands"), reserved=F("holds")).count() == len(stocks)
    held = ReservationLine.objects.filter(reservation__state="held").aggregate(n=Sum("quantity"))
    assert held["n"] == sum(counters(s).reserved for s in stocks)


@pytest.mark.parametrize(
    "change", [{"reserved": 11}, {"reserved": -1}, {"on_hand": -1}, {"on_hand": 3, "reserved": 4}]
)
def test_the_database_refuses_impossible_counters(change: dict[str, int]) -> None:
    stock = make_stock(on_hand=10)
    with pytest.raises(IntegrityError, match="inventory_stocklevel_reserved_on_hand"):
        StockLevel.objects.filter(pk=stock.pk).update(**change)


@pytest.mark.parametrize(
    "change", [lambda rows: rows.update(reference="forged"), lambda rows: rows.delete()]
)
def test_the_ledger_is_append_only(change: Callable[[Any], Any]) -> None:
    stock = make_stock()
    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
        change(StockMovement.objects.all())
    assert ledger(stock) == [("received", 10, 0, "test")]


@pytest.mark.parametrize("tables", ["inventory_stockmovement", "inventory_stocklevel CASCADE"])
def test_the_ledger_cannot_be_truncated(tables: str) -> None:
    stock = make_stock()
    connection.check_constraints()  # PostgreSQL would refuse because of checks that still wait
    with (
        pytest.raises(IntegrityError, match="inventory_stockmovement is append-only"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(f"TRUNCATE {tables}")
    assert ledger(stock) == [("received", 10, 0, "test")]


@pytest.mark.parametrize(
    ("kind", "on_hand", "reserved"),
    [
        ("received", 0, 0),
        ("received", -1, 0),
        ("reserved", 0, -1),
        ("reserved", 1, 1),
        ("released", 0, 1),
        ("deducted", -1, 0),
        ("deducted", 1, 1),
        ("adjusted", 0, 0),
        ("adjusted", 1, 1),
        ("invented", 1, 0),
    ],
)
def test_the_ledger_refuses_a_movement_of_the_wrong_sign(
    kind: str, on_hand: int, reserved: int
) -> None:
    stock = make_stock()
    with pytest.raises(IntegrityError, match="inventory_stockmovement_sign"):
        StockMovement.objects.create(
            stock=stock, kind=kind, on_hand_delta=on_hand, reserved_delta=reserved, reference="x"
        )


def test_a_committed_hold_never_expires() -> None:
    with pytest.raises(IntegrityError, match="inventory_reservation_committed_stays"):
        Reservation.objects.create(reference="ord_1", state="committed", expires_at=EXPIRY)
