"""Stock: holding it, giving it back, and how much of it can be bought.

The two writes are one statement each. They lock stock rows in the order of their keys, so that
buyers of the same variants wait for each other and never deadlock.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection, transaction
from django.db.models import F, Max, QuerySet, UUIDField, Value
from django.db.models.functions import Coalesce

from app.common.hotquery import HotQuery, Param
from app.inventory.errors import OutOfStock, VariantNotFound
from app.inventory.models import ProductStatus, Reservation, ReservationLine, Variant


@dataclass(frozen=True, slots=True, kw_only=True)
class StockLine:
    """Pieces of a variant that somebody asks for."""

    variant: UUID
    quantity: int


@transaction.atomic(savepoint=False)
def reserve(*, reference: str, lines: Sequence[StockLine], expires_at: datetime | None) -> None:
    """Hold every line for `reference`, or raise OutOfStock and hold nothing.

    Lines of one variant are summed; each variant comes from the first warehouse that has all of
    it. With `expires_at` None the hold lasts until it is released.
    """
    asked: Counter[UUID] = Counter()
    for line in lines:
        asked[line.variant] += line.quantity
    taken = _take(reference, asked)
    served = {variant: row.stock_id for variant, row in taken.items() if row.stock_id is not None}
    if len(served) < len(asked):
        raise _out_of_stock(lines, asked, taken)
    hold = Reservation.objects.create(reference=reference, expires_at=expires_at)
    ReservationLine.objects.bulk_create(
        ReservationLine(reservation=hold, stock_id=stock_id, quantity=asked[variant])
        for variant, stock_id in served.items()
    )


def release(*, reference: str) -> bool:
    """Give back what `reference` holds. False when it holds nothing (any more): runs once."""
    with connection.cursor() as cursor:
        cursor.execute(_RELEASE, {"reference": reference})
        return bool(cursor.rowcount)


async def get_stock(*, variant: UUID) -> int:
    """The most pieces of a variant that one order can have now. Raises VariantNotFound.

    `reserve` takes a variant from one warehouse, so this is what the best warehouse has free, not
    the sum of all. Once an order may be split, both change together.
    """
    row = await _STOCK.first(variant=variant)
    if row is None:
        raise VariantNotFound("No variant on sale has this identifier.")
    return int(row[0])


def enough() -> str:
    """The condition that keeps a piece from being sold twice, on the locked stock row `s`.

    A function of its own so that a proof can replace it and must then notice. The constraint
    inventory_stocklevel_reserved_on_hand is the second defence; such a proof drops it first.
    """
    return "s.on_hand - s.reserved >= want.quantity"


class _Taken(NamedTuple):
    """The stock row that serves a variant (None: none can), and what was free before."""

    stock_id: int | None
    available: int


def _take(reference: str, asked: Mapping[UUID, int]) -> dict[UUID, _Taken]:
    """Reserve all or none, with ledger rows; a row for each variant asked."""
    values: dict[str, Any] = {
        "reference": reference,
        "variants": list(asked),
        "quantities": [*asked.values()],
    }
    with connection.cursor() as cursor:
        cursor.execute(_TAKE.format(enough=enough()), values)
        return {variant: _Taken(stock, free) for variant, stock, free in cursor.fetchall()}


# FOR UPDATE waits for other buyers and then sees what they left, so the choice is made on values
# that nobody else can change before we commit. UPDATE runs only when every variant was served.
_TAKE = """
WITH want AS (
    SELECT asked.public_id, asked.quantity, variant.id AS variant_id
    FROM unnest(%(variants)s::uuid[], %(quantities)s::bigint[]) AS asked (public_id, quantity)
    LEFT JOIN inventory_variant variant USING (public_id)
), locked AS (
    SELECT stock.id, stock.variant_id, stock.warehouse_id, stock.on_hand, stock.reserved
    FROM inventory_stocklevel stock JOIN want USING (variant_id)
    ORDER BY stock.id FOR UPDATE OF stock
), chosen AS (
    SELECT DISTINCT ON (s.variant_id) s.id, s.variant_id, want.quantity
    FROM locked s JOIN want USING (variant_id)
    WHERE {enough}
    ORDER BY s.variant_id, s.warehouse_id
), moved AS (
    UPDATE inventory_stocklevel stock
    SET reserved = stock.reserved + chosen.quantity, version = stock.version + 1
    FROM chosen
    WHERE stock.id = chosen.id
      AND (SELECT count(*) FROM chosen) = (SELECT count(*) FROM want)
    RETURNING stock.id
), ledger AS (
    INSERT INTO inventory_stockmovement
        (stock_id, kind, on_hand_delta, reserved_delta, reference, created_at)
    SELECT id, 'reserved', 0, quantity, %(reference)s, now()
    FROM moved JOIN chosen USING (id)
)
SELECT want.public_id, chosen.id, coalesce(max(locked.on_hand - locked.reserved), 0)
FROM want LEFT JOIN chosen USING (variant_id) LEFT JOIN locked USING (variant_id)
GROUP BY want.public_id, chosen.id
"""

# The state is the guard: of two releases at once one changes the hold, the other finds none.
_RELEASE = """
WITH hold AS (
    UPDATE inventory_reservation SET state = 'released', updated_at = now()
    WHERE reference = %(reference)s AND state = 'held'
    RETURNING id
), locked AS (
    SELECT stock.id, line.quantity
    FROM inventory_stocklevel stock
    JOIN inventory_reservationline line ON line.stock_id = stock.id
    JOIN hold ON hold.id = line.reservation_id
    ORDER BY stock.id FOR UPDATE OF stock
), moved AS (
    UPDATE inventory_stocklevel stock
    SET reserved = stock.reserved - locked.quantity, version = stock.version + 1
    FROM locked WHERE stock.id = locked.id
    RETURNING stock.id, locked.quantity
)
INSERT INTO inventory_stockmovement
    (stock_id, kind, on_hand_delta, reserved_delta, reference, created_at)
SELECT id, 'released', 0, -quantity, %(reference)s, now() FROM moved
"""


def _out_of_stock(
    lines: Sequence[StockLine], asked: Mapping[UUID, int], taken: Mapping[UUID, _Taken]
) -> OutOfStock:
    errors = [
        {
            "pointer": f"/lines/{index}/quantity",
            "code": OutOfStock.code,
            "detail": f"{taken[line.variant].available} available.",
            "asked": asked[line.variant],
            "available": taken[line.variant].available,
        }
        for index, line in enumerate(lines)
        if taken[line.variant].stock_id is None
    ]
    return OutOfStock("Lower the quantity of the listed lines.", errors=errors)


def _free() -> QuerySet[Variant, Any]:
    """Free pieces of each variant on sale, in the warehouse that has the most of it."""
    return (
        Variant.objects.filter(
            product__status=ProductStatus.ACTIVE, product__seller__status="active"
        )
        .values("pk")
        .annotate(free=Coalesce(Max(F("stock__on_hand") - F("stock__reserved")), Value(0)))
        .values_list("free")
    )


_STOCK = HotQuery(lambda: _free().filter(public_id=Param("variant", UUIDField())))
