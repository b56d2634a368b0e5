"""The mail server refuses the buyer's address: nothing but the order may show that address."""

from collections.abc import Iterator

import httpx
import redis
from django.db import transaction
from django.tasks import TaskResultStatus, task_backends

from app.common.ids import uuid7
from app.orders.models import Order
from app.orders.tasks import email_confirmation
from devstack.ports import HOST
from tests.inventory.factories import make_stock
from tests.support.mailbox import Mailbox
from tests.support.session import Lane
from tests.support.waiting import wait_until

BUYER = "only-in-the-order@refused.example"


def logged(lane: Lane) -> str:
    """What all processes of this run have written."""
    files = (lane.stack.state_dir / "log").glob("*.log")
    return "\n".join(file.read_text(errors="replace") for file in files)


def queued(lane: Lane) -> Iterator[str]:
    """Everything that the queue cluster keeps: envelopes, errors, results, dead letters."""
    for port in lane.stack.ports.valkey:
        with redis.Redis(HOST, port, decode_responses=True) as node:
            for key in node.scan_iter(match=f"*{lane.prefix}*"):
                read = {
                    "string": node.get,
                    "hash": node.hgetall,
                    "set": node.smembers,
                    "zset": lambda key, node=node: node.zrange(key, 0, -1),
                    "list": lambda key, node=node: node.lrange(key, 0, -1),
                }
                yield f"{key} {read[node.type(key)](key)}"


def test_a_refused_address_is_in_no_log_and_no_task(
    server: str, background: None, mailbox: Mailbox, lane: Lane
) -> None:
    mailbox.script(at="rcpt", code=550, message=f"<{BUYER}> is no mailbox here", times=1000)
    lines = [{"variant": make_stock().variant.pid, "quantity": 1}]
    order = {"email": BUYER, "currency": "NGN", "lines": lines}
    placed = httpx.post(f"{server}/api/v1/checkout", json=order).json()
    with transaction.atomic():  # and once more, with one attempt: a dead letter
        last = email_confirmation.using(max_attempts=1).enqueue(
            event_id=str(uuid7()), order_id=placed["id"]
        )
    results = task_backends["default"]
    wait_until(
        lambda: results.get_result(last.id).status == TaskResultStatus.FAILED,
        timeout=60,  # the worker may still be starting
        what="a dead letter",
    )
    (error,) = results.get_result(last.id).errors
    assert error.exception_class_path == "app.orders.errors.MailRefused"
    assert error.traceback.endswith("MailRefused: SMTP 550, permanent\n")
    wait_until(lambda: "SMTP 550, permanent" in logged(lane), what="a log line of the other task")

    kept = list(queued(lane))
    assert [text for text in kept if last.id in text and "MailRefused" in text]
    assert [text for text in kept if BUYER in text] == []
    assert [line for line in logged(lane).splitlines() if BUYER in line] == []
    assert Order.objects.get().email == BUYER
    assert mailbox.messages() == []
