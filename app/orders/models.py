"""Orders and their lines: snapshots of what was bought, for how much, from whom."""

from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from app.common.models import PublicModel

CURRENCY = r"^[A-Z]{3}$"


class OrderStatus(models.TextChoices):
    PLACED = "placed"  # stock is held, payment is open
    PAID = "paid"
    DELIVERED = "delivered"
    CANCELLED = "cancelled"
    REFUNDED = "refunded"


class Order(PublicModel):
    """A purchase. All amounts are minor units of `currency`.

    `tax_minor` is what is added on top of the lines; tax inside the prices is 0 here. A guest reads
    the order with a token of which only the SHA-256 is kept.
    """

    PREFIX = "ord"

    status = models.CharField(max_length=16, choices=OrderStatus, default=OrderStatus.PLACED)
    email = models.EmailField(max_length=254)
    currency = models.CharField(max_length=3)
    subtotal_minor = models.BigIntegerField()
    discount_minor = models.BigIntegerField(default=0)
    shipping_minor = models.BigIntegerField(default=0)
    tax_minor = models.BigIntegerField(default=0)
    total_minor = models.BigIntegerField()
    user = models.ForeignKey(
        "authentication.User", models.PROTECT, null=True, blank=True, related_name="+"
    )
    guest_token_hash = models.BinaryField(max_length=32, null=True, blank=True)
    reservation_reference = models.CharField(max_length=64)
    placed_at = models.DateTimeField(default=timezone.now, editable=False)
    confirmation_sent_at = models.DateTimeField(null=True, blank=True)
    version = models.BigIntegerField(default=1)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(status__in=OrderStatus.values), name="orders_order_status_known"
            ),
            models.CheckConstraint(
                condition=Q(currency__regex=CURRENCY), name="orders_order_currency_code"
            ),
            models.CheckConstraint(
                condition=Q(
                    subtotal_minor__gte=0,
                    discount_minor__gte=0,
                    shipping_minor__gte=0,
                    tax_minor__gte=0,
                    total_minor__gte=0,
                ),
                name="orders_order_amounts_positive",
            ),
            models.CheckConstraint(
                condition=Q(
                    total_minor=F("subtotal_minor")
                    - F("discount_minor")
                    + F("shipping_minor")
                    + F("tax_minor")
                ),
                name="orders_order_total_adds_up",
            ),
        ]

    def __str__(self) -> str:
        return self.pid


class OrderLine(models.Model):
    """One variant in an order, as it was called and priced when the order was placed."""

    order = models.ForeignKey(Order, models.PROTECT, related_name="lines")
    seller = models.ForeignKey("authentication.Seller", models.PROTECT, related_name="+")
    variant_public_id = models.UUIDField()
    sku = models.CharField(max_length=64)
    name = models.CharField(max_length=200)
    quantity = models.IntegerField()
    unit_minor = models.BigIntegerField()
    total_minor = models.BigIntegerField()
    currency = models.CharField(max_length=3)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(quantity__gt=0), name="orders_orderline_quantity_positive"
            ),
            models.CheckConstraint(
                condition=Q(unit_minor__gte=0, total_minor=F("unit_minor") * F("quantity")),
                name="orders_orderline_total_adds_up",
            ),
            models.CheckConstraint(
                condition=Q(currency__regex=CURRENCY), name="orders_orderline_currency_code"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.quantity} {self.sku}"
