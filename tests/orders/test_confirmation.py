"""The confirmation e-mail."""

import smtplib
from email.message import EmailMessage as Parsed
from traceback import format_exception
from typing import Any

import pytest
from django.core import mail
from django.core.mail.backends.locmem import EmailBackend
from django.db import connection, transaction

from app.common.events import publish
from app.inventory.services import StockLine
from app.orders import services
from app.orders.errors import MailRefused, OrderNotFound
from app.orders.events import OrderPlaced
from app.orders.models import Order
from app.taskqueue.testing import drain
from tests.inventory.factories import make_product, make_stock, make_variant

pytestmark = pytest.mark.django_db


@pytest.fixture
def order_id() -> str:
    product = make_product(name="Ankara <b>Shirt</b> & Tie")
    stock = make_stock(make_variant(product=product, sku="A-1", prices={"NGN": 1_250_000}))
    line = StockLine(variant=stock.variant.public_id, quantity=2)
    placed, _ = services.checkout(email="ada@example.com", currency="NGN", lines=[line])
    return placed.id


def only_message() -> Any:
    (message,) = mail.outbox
    return message


def test_the_buyer_learns_what_was_ordered(order_id: str) -> None:
    services.send_confirmation(order_id=order_id)
    message = only_message()
    assert message.to == ["ada@example.com"]
    assert message.subject == f"Your FASHIONISTAR order {order_id}"
    assert message.body == (
        f"Thank you for your order {order_id}.\n\n"
        "2 x Ankara <b>Shirt</b> & Tie (A-1): NGN 25,000.00\n\n"
        "Total: NGN 25,000.00"
    )
    assert Order.objects.get().confirmation_sent_at is not None


def test_a_name_cannot_inject_html(order_id: str) -> None:
    services.send_confirmation(order_id=order_id)
    (alternative,) = only_message().alternatives
    assert alternative.mimetype == "text/html"
    assert "2 &times; Ankara &lt;b&gt;Shirt&lt;/b&gt; &amp; Tie (A-1)" in alternative.content
    assert "<b>" not in alternative.content


def test_a_second_delivery_sends_nothing(order_id: str) -> None:
    services.send_confirmation(order_id=order_id)
    sent_at = Order.objects.get().confirmation_sent_at
    services.send_confirmation(order_id=order_id)
    assert len(mail.outbox) == 1
    assert Order.objects.get().confirmation_sent_at == sent_at


def test_the_message_id_is_fixed_per_order(order_id: str) -> None:
    for _ in range(2):
        services.send_confirmation(order_id=order_id)
        Order.objects.update(confirmation_sent_at=None)  # as if we died before the mark
    ids = [message.message()["Message-ID"] for message in mail.outbox]
    assert ids == [f"<{order_id}.confirmation@fashionistar.example>"] * 2


def test_a_refused_message_is_not_marked_sent(
    order_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise smtplib.SMTPServerDisconnected

    with monkeypatch.context() as patch:
        patch.setattr(EmailBackend, "send_messages", refuse)
        with pytest.raises(MailRefused, match="SMTP 0, temporary"):
            services.send_confirmation(order_id=order_id)
    assert Order.objects.get().confirmation_sent_at is None
    services.send_confirmation(order_id=order_id)
    assert len(mail.outbox) == 1


BUYER = "ada@example.com"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            smtplib.SMTPRecipientsRefused({BUYER: (550, b"no ada@example.com")}),
            "SMTP 550, permanent",
        ),
        (
            smtplib.SMTPRecipientsRefused({BUYER: (450, b"no ada@example.com yet")}),
            "SMTP 450, temporary",
        ),
        (smtplib.SMTPDataError(554, "ada@example.com gets no spam"), "SMTP 554, permanent"),
        (smtplib.SMTPDataError(451, "ada@example.com later"), "SMTP 451, temporary"),
        # A matter of our settings: it ends when somebody corrects them.
        (
            smtplib.SMTPSenderRefused(553, b"not for ada@example.com", "us@example.com"),
            "SMTP 553, temporary",
        ),
        (smtplib.SMTPAuthenticationError(535, "wrong password"), "SMTP 535, temporary"),
        (smtplib.SMTPConnectError(554, "busy"), "SMTP 554, temporary"),
        (
            smtplib.SMTPServerDisconnected("gone while sending to ada@example.com"),
            "SMTP 0, temporary",
        ),
        (smtplib.SMTPNotSupportedError("no SMTPUTF8 for ada@example.com"), "SMTP 0, temporary"),
        (ValueError("Invalid address 'ada@example.com'"), "SMTP 0, permanent"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_refusal_names_no_address(
    order_id: str,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    told: str,
) -> None:
    def refuse(*_: object) -> int:
        raise error

    monkeypatch.setattr(EmailBackend, "send_messages", refuse)
    with pytest.raises(MailRefused) as refusal:
        services.send_confirmation(order_id=order_id)
    text = "".join(format_exception(refusal.value))
    assert text.endswith(f"MailRefused: {told}\n")
    assert BUYER not in text
    assert Order.objects.get().confirmation_sent_at is None


def test_an_unreachable_server_stays_an_os_error(
    order_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise ConnectionRefusedError

    monkeypatch.setattr(EmailBackend, "send_messages", refuse)
    with pytest.raises(ConnectionRefusedError):
        services.send_confirmation(order_id=order_id)


def test_the_message_leaves_outside_any_transaction(
    order_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    depth = len(connection.savepoint_ids)
    seen: list[int] = []

    def send(_: object, messages: list[Parsed]) -> int:
        seen.append(len(connection.savepoint_ids))
        return len(messages)

    monkeypatch.setattr(EmailBackend, "send_messages", send)
    services.send_confirmation(order_id=order_id)
    assert seen == [depth]


def test_an_order_that_does_not_exist() -> None:
    with pytest.raises(OrderNotFound):
        services.send_confirmation(order_id="ord_00000000000000000000000000")
    assert mail.outbox == []


def test_the_fact_delivered_twice_sends_one_message(order_id: str) -> None:
    with transaction.atomic():
        publish(OrderPlaced(order_id=order_id))
    results = drain(queues=["emails"])  # checkout's own task, and the second delivery
    assert [result.status for result in results] == ["SUCCESSFUL", "SUCCESSFUL"]
    assert len(mail.outbox) == 1
