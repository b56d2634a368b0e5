"""Catalogue and stock. The database enforces what the comments promise."""

from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from app.common.models import PublicModel

CURRENCY = r"^[A-Z]{3}$"
MAX_AMOUNT_MINOR = 10**12
"""Highest unit price: 100 lines of 1,000 pieces still fit into 64 bits."""


class ProductStatus(models.TextChoices):
    DRAFT = "draft"
    ACTIVE = "active"
    ARCHIVED = "archived"


class Product(PublicModel):
    """A design that a seller offers, in one or more variants."""

    PREFIX = "prd"

    seller = models.ForeignKey("authentication.Seller", models.PROTECT, related_name="+")
    slug = models.SlugField(max_length=120, db_index=False)
    name = models.CharField(max_length=200)
    description = models.TextField(blank=True, default="")
    status = models.CharField(max_length=16, choices=ProductStatus, default=ProductStatus.DRAFT)
    version = models.BigIntegerField(default=1)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["slug"], name="inventory_product_slug"),
            models.CheckConstraint(
                condition=Q(status__in=ProductStatus.values), name="inventory_product_status_known"
            ),
            # Target of the composite foreign key that keeps a variant with its product's seller.
            models.UniqueConstraint(fields=["id", "seller"], name="inventory_product_id_seller"),
        ]
        indexes: ClassVar = [
            # Newest first, as public ids are ordered by time: one index serves every page.
            models.Index(fields=["status", "-public_id"], name="inventory_product_keyset"),
        ]

    def __str__(self) -> str:
        return self.slug


class Variant(PublicModel):
    """What can be bought: one size and colour of a product, known to its seller by the SKU."""

    PREFIX = "var"

    product = models.ForeignKey(
        Product, models.PROTECT, related_name="variants", db_index=False
    )  # its index is the one on (product, position)
    seller = models.ForeignKey(
        "authentication.Seller", models.PROTECT, related_name="+", db_index=False
    )
    sku = models.CharField(max_length=64)
    options = models.JSONField(default=dict)
    position = models.PositiveSmallIntegerField(default=0)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["seller", "sku"], name="inventory_variant_sku"),
            # Target of the composite foreign key that keeps stock with its variant's seller.
            models.UniqueConstraint(fields=["id", "seller"], name="inventory_variant_id_seller"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["product", "position"], name="inventory_variant_in_product"),
        ]

    def __str__(self) -> str:
        return self.sku


class Price(models.Model):
    """What one piece of a variant costs in one currency."""

    variant = models.ForeignKey(Variant, models.CASCADE, related_name="prices", db_index=False)
    currency = models.CharField(max_length=3)
    amount_minor = models.BigIntegerField()

    class Meta:
        constraints: ClassVar = [
            # With the amount inside: the list finds its cheapest prices in the index alone.
            models.UniqueConstraint(
                fields=["variant", "currency"], include=["amount_minor"], name="inventory_price_one"
            ),
            models.CheckConstraint(
                condition=Q(amount_minor__gte=0, amount_minor__lte=MAX_AMOUNT_MINOR),
                name="inventory_price_amount_range",
            ),
            models.CheckConstraint(
                condition=Q(currency__regex=CURRENCY), name="inventory_price_currency_code"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.currency} {self.amount_minor}"


class Warehouse(PublicModel):
    """A place where a seller keeps stock."""

    PREFIX = "whs"

    seller = models.ForeignKey(
        "authentication.Seller", models.PROTECT, related_name="+", db_index=False
    )
    name = models.CharField(max_length=120)
    country = models.CharField(max_length=2)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["seller", "name"], name="inventory_warehouse_name"),
            models.CheckConstraint(
                condition=Q(country__regex=r"^[A-Z]{2}$"), name="inventory_warehouse_country_code"
            ),
            # Target of the composite foreign key that keeps stock with its warehouse's seller.
            models.UniqueConstraint(fields=["id", "seller"], name="inventory_warehouse_id_seller"),
        ]

    def __str__(self) -> str:
        return self.name


class StockLevel(models.Model):
    """Pieces of a variant in a warehouse, both of one seller. The counters are the sums of the
    ledger's deltas.
    """

    seller = models.ForeignKey("authentication.Seller", models.PROTECT, related_name="+")
    warehouse = models.ForeignKey(Warehouse, models.PROTECT, related_name="+", db_index=False)
    variant = models.ForeignKey(Variant, models.PROTECT, related_name="stock")
    on_hand = models.IntegerField(default=0)
    reserved = models.IntegerField(default=0)
    version = models.BigIntegerField(default=1)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["warehouse", "variant"], name="inventory_stocklevel_one"
            ),
            # The last line of defence against selling what is not there.
            models.CheckConstraint(
                condition=Q(reserved__gte=0, on_hand__gte=F("reserved")),
                name="inventory_stocklevel_reserved_on_hand",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.reserved} of {self.on_hand}"


class ReservationState(models.TextChoices):
    HELD = "held"
    COMMITTED = "committed"
    RELEASED = "released"
    EXPIRED = "expired"


class Reservation(models.Model):
    """A hold on stock for a cart or an order, named by that thing's public id.

    `held` ends by itself at `expires_at` (None = does not expire); `committed` is paid for and
    never expires; `released` and `expired` gave the stock back.
    """

    reference = models.CharField(max_length=64)
    state = models.CharField(max_length=16, choices=ReservationState, default=ReservationState.HELD)
    expires_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(state__in=ReservationState.values),
                name="inventory_reservation_state_known",
            ),
            models.CheckConstraint(
                condition=~Q(state="committed") | Q(expires_at__isnull=True),
                name="inventory_reservation_committed_stays",
            ),
            # An expired hold may be acquired again; two live ones of a reference never exist.
            models.UniqueConstraint(
                fields=["reference"],
                condition=Q(state__in=["held", "committed"]),
                name="inventory_reservation_one_live",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["reference"], name="inventory_reservation_ref"),
            models.Index(
                fields=["expires_at"], condition=Q(state="held"), name="inventory_reservation_due"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.reference} {self.state}"


class ReservationLine(models.Model):
    """Pieces that a reservation holds in one stock row."""

    reservation = models.ForeignKey(
        Reservation, models.PROTECT, related_name="lines", db_index=False
    )
    stock = models.ForeignKey(StockLevel, models.PROTECT, related_name="+")
    quantity = models.IntegerField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["reservation", "stock"], name="inventory_reservationline_one"
            ),
            models.CheckConstraint(
                condition=Q(quantity__gt=0), name="inventory_reservationline_positive"
            ),
        ]

    def __str__(self) -> str:
        return str(self.quantity)


class MovementKind(models.TextChoices):
    RECEIVED = "received"  # new pieces on hand
    RESERVED = "reserved"  # held for a reference
    RELEASED = "released"  # given back: cancelled or expired
    DEDUCTED = "deducted"  # sold pieces leave: both counters fall
    ADJUSTED = "adjusted"  # recount, loss or return, by a person


class StockMovement(models.Model):
    """The ledger: one row for each change of a counter. Triggers refuse UPDATE, DELETE and
    TRUNCATE.
    """

    stock = models.ForeignKey(StockLevel, models.PROTECT, related_name="movements")
    kind = models.CharField(max_length=16, choices=MovementKind)
    on_hand_delta = models.IntegerField(default=0)
    reserved_delta = models.IntegerField(default=0)
    reference = models.CharField(max_length=64)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(kind="received", on_hand_delta__gt=0, reserved_delta=0)
                | Q(kind="reserved", on_hand_delta=0, reserved_delta__gt=0)
                | Q(kind="released", on_hand_delta=0, reserved_delta__lt=0)
                | Q(kind="deducted", on_hand_delta__lt=0, reserved_delta=F("on_hand_delta"))
                | (Q(kind="adjusted", reserved_delta=0) & ~Q(on_hand_delta=0)),
                name="inventory_stockmovement_sign",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.on_hand_delta:+} {self.reserved_delta:+}"
