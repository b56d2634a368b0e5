"""Public API of the orders domain."""

import hashlib
import secrets
import smtplib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parseaddr
from uuid import UUID

import structlog
from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.db import transaction
from django.template.loader import render_to_string
from django.utils import timezone

from app.common import ids
from app.common.errors import FieldError, Invalid
from app.common.events import publish
from app.common.money import Money
from app.inventory import services as inventory
from app.orders.errors import MailRefused, OrderNotFound
from app.orders.events import OrderPlaced
from app.orders.models import Order, OrderLine

HOLD = timedelta(minutes=10)
"""How long the stock of a placed order waits for its payment."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedLine:
    """A line of an order, as bought."""

    variant: str
    sku: str
    name: str
    quantity: int
    unit: Money
    total: Money


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedOrder:
    """An order as its buyer may see it."""

    id: str
    status: str
    subtotal: Money
    total: Money
    lines: tuple[PlacedLine, ...]
    placed_at: datetime


@transaction.atomic
def checkout(
    *, email: str, currency: str, lines: Sequence[inventory.StockLine]
) -> tuple[PlacedOrder, str]:
    """Place a guest's order and hold its stock; returns it with the token that reads it back.

    Prices are those of this moment. Lines of one variant become one line. Raises Invalid for
    variants that are not for sale in `currency`, OutOfStock when a line cannot be served.
    """
    offers = inventory.quote(variants={line.variant for line in lines}, currency=currency)
    _refuse_unsold(lines, offers, currency)
    now, token = timezone.now(), secrets.token_urlsafe(32)
    order = Order(email=email, currency=currency, guest_token_hash=_digest(token), placed_at=now)
    order.reservation_reference = order.pid
    inventory.reserve(reference=order.pid, lines=lines, expires_at=now + HOLD)
    items = _lines(order, lines, offers)
    order.subtotal_minor = order.total_minor = sum(item.total_minor for item in items)
    order.save(force_insert=True)
    OrderLine.objects.bulk_create(items)
    publish(OrderPlaced(order_id=order.pid))
    return _view(order, items), token


def get_order(*, order_id: str, guest_token: str) -> PlacedOrder:
    """A guest's order. Raises OrderNotFound for a wrong id and a wrong token alike."""
    order = _find(order_id)
    # Compared whether or not the order exists, so that the time taken tells nothing.
    known = bytes(order.guest_token_hash) if order and order.guest_token_hash else bytes(32)
    if not secrets.compare_digest(known, _digest(guest_token)) or order is None:
        raise OrderNotFound("No order has this id and token.")
    return _view(order, order.lines.order_by("pk"))


def send_confirmation(*, order_id: str) -> None:
    """E-mail the buyer what was ordered, once: a second call finds `confirmation_sent_at` set.

    The message leaves before the mark is written, outside any transaction: a crash in between
    sends it again with the same Message-ID, and never loses it. Raises MailRefused when the mail
    server refuses, OSError when it cannot be reached.
    """
    order = _find(order_id)
    if order is None:
        raise OrderNotFound(f"No order {order_id}.")
    if order.confirmation_sent_at is not None:
        return
    _send(_confirmation(order))
    unsent = Order.objects.filter(pk=order.pk, confirmation_sent_at=None)
    unsent.update(confirmation_sent_at=timezone.now())
    log.info("order.confirmation_sent", order_id=order_id)


def _refuse_unsold(
    lines: Sequence[inventory.StockLine],
    offers: Mapping[UUID, inventory.Offer],
    currency: str,
) -> None:
    errors = []
    for index, line in enumerate(lines):
        offer, pointer = offers.get(line.variant), f"/lines/{index}/variant"
        if offer is None:
            errors.append(FieldError(pointer, "unknown_variant", "It is not on sale."))
        elif offer.unit is None:
            errors.append(FieldError(pointer, "no_price", f"It has no price in {currency}."))
    if errors:
        raise Invalid("Remove or replace the listed lines.", errors=errors)


def _lines(
    order: Order,
    lines: Sequence[inventory.StockLine],
    offers: Mapping[UUID, inventory.Offer],
) -> list[OrderLine]:
    quantities: dict[UUID, int] = {}
    for line in lines:
        quantities[line.variant] = quantities.get(line.variant, 0) + line.quantity
    return [_line(order, offers[variant], quantity) for variant, quantity in quantities.items()]


def _line(order: Order, offer: inventory.Offer, quantity: int) -> OrderLine:
    assert offer.unit is not None
    return OrderLine(
        order=order,
        seller_id=offer.seller_key,
        variant_public_id=offer.variant,
        sku=offer.sku,
        name=offer.name,
        quantity=quantity,
        unit_minor=offer.unit.amount_minor,
        total_minor=offer.unit.amount_minor * quantity,
        currency=order.currency,
    )


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _find(order_id: str) -> Order | None:
    try:
        public_id = ids.decode(Order.PREFIX, order_id)
    except ValueError:
        return None
    return Order.objects.filter(public_id=public_id).first()


def _view(order: Order, items: Iterable[OrderLine]) -> PlacedOrder:
    return PlacedOrder(
        id=order.pid,
        status=order.status,
        subtotal=Money(order.subtotal_minor, order.currency),
        total=Money(order.total_minor, order.currency),
        lines=tuple(
            PlacedLine(
                variant=ids.encode("var", item.variant_public_id),
                sku=item.sku,
                name=item.name,
                quantity=item.quantity,
                unit=Money(item.unit_minor, item.currency),
                total=Money(item.total_minor, item.currency),
            )
            for item in items
        ),
        placed_at=order.placed_at,
    )


def _send(message: EmailMultiAlternatives) -> None:
    """Send it. Raises MailRefused instead of errors that quote the recipient's address."""
    try:
        message.send(using="default")
    except smtplib.SMTPException as error:
        raise _refusal(error) from None
    except ValueError:  # the address is one that no message can carry
        raise MailRefused(0, permanent=True) from None


def _refusal(error: smtplib.SMTPException) -> MailRefused:
    """Only a refused recipient or content is permanent: a refused sender, greeting or login is a
    matter of our own settings and ends when somebody corrects them.
    """
    match error:
        case smtplib.SMTPRecipientsRefused():
            code = max((code for code, _ in error.recipients.values()), default=0)
            return MailRefused(code, permanent=code >= 500)
        case smtplib.SMTPResponseException():
            refused = error.smtp_code >= 500 and isinstance(error, smtplib.SMTPDataError)
            return MailRefused(error.smtp_code, permanent=refused)
    return MailRefused(0, permanent=False)


def _confirmation(order: Order) -> EmailMultiAlternatives:
    context = {"order": _view(order, order.lines.order_by("pk"))}
    subject, text, html = (
        render_to_string(f"orders/confirmation.html#{part}", context).strip()
        for part in ("subject", "text", "html")
    )
    domain = parseaddr(settings.DEFAULT_FROM_EMAIL)[1].rpartition("@")[2]
    message = EmailMultiAlternatives(
        subject,
        text,
        to=[order.email],
        headers={"Message-ID": f"<{order.pid}.confirmation@{domain}>"},
    )
    message.attach_alternative(html, "text/html")
    return message
