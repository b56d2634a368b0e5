"""`demo`: the story of one purchase, told over HTTP; fails when any of it is not true."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from typing import Any

from devstack.console import BOLD, DIM, RED, paint, say
from devstack.reports import result

_MAIL_SECONDS = 20.0
_DECIMALS = 2  # of NGN


class Unexpected(Exception):
    """The API did not do what the story says."""


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP answer with a JSON body."""

    status: int
    headers: Message
    body: Any


@dataclass(frozen=True, slots=True)
class Pick:
    """What is bought."""

    name: str
    variant: str
    sku: str
    price: dict[str, Any]
    available: int


def run(environment: Mapping[str, str]) -> int:
    """Buy one piece from the devstack described by `environment`; returns the exit code."""
    api, sink = environment["API_URL"], environment.get("SMTP_SINK_URL", "")
    email = f"ada.{uuid.uuid4().hex[:8]}@example.com"
    try:
        pick = _pick(api)
        order, trace = _buy(api, pick, email)
        _read_back(api, order)
        _check_stock(api, pick)
        mail = _mail(sink, email, order["id"])
    except (Unexpected, urllib.error.URLError, OSError) as error:
        say(paint(f"\n  {error}", RED))
        return result("demo", ok=False, error=str(error))
    return result("demo", ok=True, order=order["id"], trace=trace, mail_s=mail)


def _pick(api: str) -> Pick:
    _title("What is for sale?", f"GET {api}/api/v1/products?limit=5")
    products = _call(f"{api}/api/v1/products?limit=20", expect=200).body["items"]
    _require(products, "there are no products: is the devstack seeded?")
    for product in products[:5]:
        say(f"  {product['name']:<44} {_money(product['price']):>14}  {product['slug']}")
    for product in products:
        pick = _first_in_stock(api, product)
        if pick is not None:
            return pick
    raise Unexpected("none of the first 20 products is in stock")


def _first_in_stock(api: str, product: Mapping[str, Any]) -> Pick | None:
    detail = _call(f"{api}/api/v1/products/{product['slug']}", expect=200).body
    for variant in detail["variants"]:
        stock = _stock(api, variant["id"])
        if stock > 0 and variant["price"]:
            _title("Is one of them in stock?", f"GET {api}/api/v2/stock/{variant['id']}")
            say(f"  {product['name']}, {variant['sku']}: {stock} available")
            return Pick(product["name"], variant["id"], variant["sku"], variant["price"], stock)
    return None


def _buy(api: str, pick: Pick, email: str) -> tuple[dict[str, Any], str]:
    body = {
        "email": email,
        "currency": pick.price["currency"],
        "lines": [{"variant": pick.variant, "quantity": 1}],
    }
    _title(f"Buy one as {email}", f"POST {api}/api/v1/checkout {json.dumps(body)}")
    response = _call(f"{api}/api/v1/checkout", expect=201, body=body)
    order: dict[str, Any] = response.body
    trace = response.headers.get("traceresponse", "--").split("-")[1]
    say(f"  order {order['id']}, {order['status']}, total {_money(order['total'])}")
    say(paint(f"  trace {trace}", DIM))
    _require(order["total"] == pick.price, f"the total is {order['total']}, not {pick.price}")
    return order, trace


def _read_back(api: str, order: Mapping[str, Any]) -> None:
    url = f"{api}/api/v1/orders/{order['id']}"
    _title("Read it back", f"GET {url}  Order-Token: {order['guest_token'][:6]}…")
    seen = _call(url, expect=200, headers={"Order-Token": order["guest_token"]}).body
    for line in seen["lines"]:
        say(f"  {line['quantity']} x {line['name']} ({line['sku']}): {_money(line['total'])}")
    _require("guest_token" not in seen, "the token must not be shown again")
    for member in ("id", "status", "total", "lines"):
        _require(seen[member] == order[member], f"{member} differs: {seen[member]}")
    _call(url, expect=404, headers={"Order-Token": "wrong"})
    say(paint("  with a wrong token: 404", DIM))


def _check_stock(api: str, pick: Pick) -> None:
    _title("One piece less?", f"GET {api}/api/v2/stock/{pick.variant}")
    left = _stock(api, pick.variant)
    say(f"  {pick.available} before, {left} now")
    _require(left == pick.available - 1, f"expected {pick.available - 1}: did someone else buy?")


def _mail(sink: str, email: str, order_id: str) -> float | str:
    """Seconds until the e-mail had arrived, or why nobody looked."""
    _title("The e-mail", f"GET {sink}/messages?to={email}" if sink else "")
    if not sink:
        say("  skipped: EMAIL_URL is a real server, so look into your mailbox")
        return "skipped"
    began = time.monotonic()
    url = f"{sink}/messages?{urllib.parse.urlencode({'to': email})}"
    while not (messages := _call(url, expect=200).body):
        _require(
            time.monotonic() - began < _MAIL_SECONDS,
            f"no e-mail within {_MAIL_SECONDS:.0f} s: see `make logs` (run_relay, run_worker)",
        )
        time.sleep(0.05)
    waited = round(time.monotonic() - began, 2)
    message = messages[0]
    say(f"  From: {message['headers'].get('From', message['from'])}")
    say(f"  Subject: {message['subject']}")
    for line in message["text"].strip().splitlines():
        say(f"  | {line}")
    _require(len(messages) == 1, f"{len(messages)} e-mails instead of one")
    _require(order_id in message["text"] + message["subject"], f"it does not name {order_id}")
    return waited


def _stock(api: str, variant: str) -> int:
    return int(_call(f"{api}/api/v2/stock/{variant}", expect=200).body["available"])


def _call(
    url: str, *, expect: int, body: object = None, headers: Mapping[str, str] | None = None
) -> Response:
    data = None if body is None else json.dumps(body).encode()
    sent = {"Content-Type": "application/json"} if data else {}
    request = urllib.request.Request(url, data=data, headers=sent | dict(headers or {}))
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            response = Response(answer.status, answer.headers, json.load(answer))
    except urllib.error.HTTPError as error:
        with error:
            response = Response(error.code, error.headers, error.read().decode(errors="replace"))
    _require(response.status == expect, f"{url} answered {response.status}: {response.body}")
    return response


def _require(condition: object, otherwise: str) -> None:
    if not condition:
        raise Unexpected(otherwise)


def _title(text: str, request: str) -> None:
    say(f"\n{paint(text, BOLD)}")
    if request:
        say(paint(f"  {request}", DIM))


def _money(price: Mapping[str, Any] | None) -> str:
    if price is None:
        return "-"
    return f"{price['currency']} {price['amount_minor'] / 10**_DECIMALS:,.{_DECIMALS}f}"
