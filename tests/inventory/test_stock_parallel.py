"""Holding stock from real parallel connections."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from django.db import connection
from django.db.models import F, Sum

from app.inventory import services
from app.inventory.errors import OutOfStock
from app.inventory.models import StockLevel
from tests.inventory.factories import counters, make_stock

pytestmark = pytest.mark.usefixtures("committed_db")

BUYERS = 6  # below DB_POOL_SIZE: each holds a connection, and so does the test


def together(buyer: Callable[[int], str]) -> Counter[str]:
    """Run `buyer(number)` in parallel, each on its own connection; how often each outcome came."""
    start = Barrier(BUYERS)

    def run(number: int) -> str:
        try:
            connection.ensure_connection()
            start.wait(10)
            return buyer(number)
        finally:
            connection.close()

    with ThreadPoolExecutor(BUYERS) as pool:
        return Counter(pool.map(run, range(BUYERS)))


def hold(reference: str, *lines: services.StockLine) -> str:
    try:
        services.reserve(reference=reference, lines=lines, expires_at=None)
    except OutOfStock:
        return "refused"
    return "held"


def books_balance() -> bool:
    sums = StockLevel.objects.annotate(
        hands=Sum("movements__on_hand_delta"), holds=Sum("movements__reserved_delta")
    )
    return not sums.exclude(on_hand=F("hands"), reserved=F("holds")).exists()


def test_the_last_unit_is_held_once() -> None:
    for number in range(5):
        stock = make_stock(on_hand=1)
        line = services.StockLine(variant=stock.variant.public_id, quantity=1)
        outcomes = together(lambda buyer: hold(f"ord_{number}_{buyer}", line))  # noqa: B023
        assert outcomes == {"held": 1, "refused": BUYERS - 1}
        assert counters(stock).reserved == 1
    assert books_balance()


def test_opposite_orders_of_lines_do_not_deadlock() -> None:
    stocks = [make_stock(on_hand=1000) for _ in range(4)]
    lines = [services.StockLine(variant=s.variant.public_id, quantity=1) for s in stocks]

    def buyer(number: int) -> str:
        mine = lines if number % 2 else lines[::-1]
        for round_number in range(20):
            assert hold(f"ord_{number}_{round_number}", *mine) == "held"
        return "done"

    assert together(buyer) == {"done": BUYERS}
    assert [counters(s).reserved for s in stocks] == [BUYERS * 20] * 4
    assert books_balance()


def test_nobody_is_refused_while_another_warehouse_has_it() -> None:
    first = make_stock(on_hand=3)
    others = [make_stock(first.variant, on_hand=n) for n in (1, 2)]
    line = services.StockLine(variant=first.variant.public_id, quantity=1)
    assert together(lambda buyer: hold(f"ord_{buyer}", line)) == {"held": BUYERS}
    assert [counters(s).reserved for s in (first, *others)] == [3, 1, 2]
    assert books_balance()


def test_a_hold_released_by_many_is_given_back_once() -> None:
    stock = make_stock(on_hand=10)
    hold("ord_1", services.StockLine(variant=stock.variant.public_id, quantity=4))
    hold("ord_2", services.StockLine(variant=stock.variant.public_id, quantity=1))
    outcomes = together(lambda _: str(services.release(reference="ord_1")))
    assert outcomes == {"True": 1, "False": BUYERS - 1}
    assert counters(stock).reserved == 1
    assert books_balance()
