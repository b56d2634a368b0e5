"""The SMTP sink: what it keeps, what it shows, how it fails on request."""

from __future__ import annotations

import json
import smtplib
import time
import urllib.error
import urllib.request
from email.message import EmailMessage

import pytest

from devstack.ports import HOST
from tests.support.mailbox import Mailbox
from tests.support.session import Lane


def _send(lane: Lane, *, to: str = "ada@example.com", subject: str = "Hello") -> None:
    message = EmailMessage()
    message["From"] = "shop@example.com"
    message["To"] = to
    message["Subject"] = subject
    message["Message-ID"] = "<one@example.com>"
    message.set_content("Grüße aus Lagos\n")
    message.add_alternative("<p>Grüße</p>", subtype="html")
    with smtplib.SMTP(HOST, lane.smtp_port, timeout=10) as smtp:
        smtp.send_message(message)


def _post(url: str, body: bytes) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_a_message_is_kept_with_its_parts(mailbox: Mailbox, lane: Lane) -> None:
    _send(lane)
    [message] = mailbox.wait_for()
    assert message["from"] == "shop@example.com"
    assert message["to"] == ["ada@example.com"]
    assert message["subject"] == "Hello"
    assert message["message_id"] == "<one@example.com>"
    assert message["headers"]["From"] == "shop@example.com"
    assert message["text"] == "Grüße aus Lagos\n"


def test_messages_can_be_asked_for_by_recipient_and_forgotten(mailbox: Mailbox, lane: Lane) -> None:
    _send(lane, to="ada@example.com")
    _send(lane, to="bola@example.com")
    assert [m["to"] for m in mailbox.messages()] == [["ada@example.com"], ["bola@example.com"]]
    assert [m["to"] for m in mailbox.messages(to="bola@example.com")] == [["bola@example.com"]]
    mailbox.clear()
    assert mailbox.messages() == []


def test_a_code_is_answered_as_often_as_scripted(mailbox: Mailbox, lane: Lane) -> None:
    mailbox.script(code=451, message="try later", times=2, to="ada@")
    _send(lane, to="bola@example.com")  # does not match
    for _ in range(2):
        with pytest.raises(smtplib.SMTPDataError, match=r"451.*try later"):
            _send(lane)
    _send(lane)
    assert [m["to"] for m in mailbox.messages()] == [["bola@example.com"], ["ada@example.com"]]


def test_a_recipient_is_refused_before_the_message_is_sent(mailbox: Mailbox, lane: Lane) -> None:
    mailbox.script(at="rcpt", code=550, message="no such user", to="ada@")
    _send(lane, to="bola@example.com")  # does not match
    with pytest.raises(smtplib.SMTPRecipientsRefused, match=r"550.*no such user"):
        _send(lane)
    _send(lane)
    assert [m["to"] for m in mailbox.messages()] == [["bola@example.com"], ["ada@example.com"]]


def test_a_dropped_connection_keeps_nothing(mailbox: Mailbox, lane: Lane) -> None:
    mailbox.script(drop=True)
    with pytest.raises((smtplib.SMTPServerDisconnected, ConnectionError)):
        _send(lane)
    assert mailbox.messages() == []


def test_accept_then_drop_keeps_the_message_but_does_not_say_so(
    mailbox: Mailbox, lane: Lane
) -> None:
    mailbox.script(accept_then_drop=True)
    with pytest.raises((smtplib.SMTPServerDisconnected, ConnectionError)):
        _send(lane)
    assert len(mailbox.messages()) == 1


def test_a_delay_is_waited_out(mailbox: Mailbox, lane: Lane) -> None:
    mailbox.script(delay=0.2)
    began = time.monotonic()
    _send(lane)
    assert time.monotonic() - began >= 0.2
    assert len(mailbox.messages()) == 1


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "Expecting"),
        (b"[1]", "a fault is a JSON object"),
        (b'{"cod": 1}', "unknown member 'cod'; known: code, message"),
        (b'{"code": "451"}', "code must be int"),
        (b'{"code": true}', "code must be int"),
        (b'{"drop": 1}', "drop must be bool"),
        (b'{"at": "helo"}', "at must be one of data, rcpt"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(
    mailbox: Mailbox, lane: Lane, body: bytes, words: str
) -> None:
    status, answer = _post(f"{lane.sink_url}/faults", body)
    assert status == 400
    assert words in json.loads(answer)["error"]
    _send(lane)
    assert len(mailbox.messages()) == 1


def test_the_page_for_people_escapes(mailbox: Mailbox, lane: Lane) -> None:
    _send(lane, subject="<script>alert(1)</script>")
    with urllib.request.urlopen(lane.sink_url, timeout=10) as answer:
        page = answer.read().decode()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
