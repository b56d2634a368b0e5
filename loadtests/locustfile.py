"""Shoppers for Locust: `locust -f loadtests/locustfile.py --host http://…`, or `make load`.

Rules of a run, also in the web interface and distributed: any failed request, any bought order
that cannot be read back, or a run that buys nothing ends with exit code 1. A 409 `out_of_stock` is
an answer, not a failure: stock is finite. `max_retries` stays 0: a repeated POST would buy twice.

One file without siblings, so that a ConfigMap or a plain copy of it is a load test. Environment:
LOAD_CURRENCY (default NGN), LOAD_CHECKOUTS (end after so many answered checkouts; 0 = only by
time), LOAD_COUNTS (a file for the counts as JSON).
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import gevent
from locust import FastHttpUser, between, events, task
from locust.runners import WorkerRunner

if TYPE_CHECKING:
    from locust.contrib.fasthttp import ResponseContextManager
    from locust.env import Environment

PAGE = 20
KNOWN_PRODUCTS = 200
CURRENCY = os.environ.get("LOAD_CURRENCY", "NGN")
ENOUGH = int(os.environ.get("LOAD_CHECKOUTS", "0"))
TICKS = 5
"""Looks at the counts a second; one of them is printed."""

# Rows of Locust's report. The two POST rows and READ_BACK are also the counts of the verdict.
LIST = "/api/v1/products?cursor="
DETAIL = "/api/v1/products/{slug}"
STOCK = "/api/v2/stock/{variant}"
BUY = "/api/v1/checkout"
SOLD_OUT = "/api/v1/checkout (409 out_of_stock, expected)"
READ_BACK = "/api/v1/orders/{id} (own order)"

type Json = dict[str, Any]


class Shopper(FastHttpUser):
    """One visitor: walks the catalogue page by page, opens products, buys one now and then."""

    wait_time = between(0.05, 0.4)
    network_timeout = 15.0
    connection_timeout = 5.0
    max_retries = 0
    orders_seen: set[str] = set()  # noqa: RUF012  shared on purpose: an id is new to everybody

    def on_start(self) -> None:
        """Open the catalogue, so that there is something to read and buy."""
        self.cursor: str | None = None
        self.products: deque[str] = deque(maxlen=KNOWN_PRODUCTS)
        self.browse()

    @task(4)
    def browse(self) -> None:
        """Read the next page of the catalogue; after the last page start again."""
        path = f"/api/v1/products?limit={PAGE}&currency={CURRENCY}"
        if self.cursor:
            path += f"&cursor={quote(self.cursor)}"
        page = self._read(path, LIST)
        if page is not None:
            self.cursor = page["next"]
            self.products.extend(item["slug"] for item in page["items"] if item["price"])

    @task(8)
    def read(self) -> None:
        """Open the page of one product."""
        if self.products:
            self._detail()

    @task(2)
    def buy(self) -> None:
        """Buy one piece of a variant with stock, then read that order back."""
        variant = self._variant_with_stock()
        order = self._checkout(variant) if variant else None
        if order is not None:
            self._read_back(order)

    def _detail(self) -> Json | None:
        slug = random.choice(self.products)
        return self._read(f"/api/v1/products/{quote(slug)}?currency={CURRENCY}", DETAIL)

    def _variant_with_stock(self) -> str | None:
        product = self._detail() if self.products else None
        if product is None:
            return None
        variants = [each["id"] for each in product["variants"] if each["price"]]
        random.shuffle(variants)
        for variant in variants:
            stock = self._read(f"/api/v2/stock/{variant}", STOCK)
            if stock is not None and stock["in_stock"]:
                return str(variant)
        return None

    def _checkout(self, variant: str) -> Json | None:
        body = {
            "email": f"shopper-{random.getrandbits(48):x}@load.example",
            "currency": CURRENCY,
            "lines": [{"variant": variant, "quantity": 1}],
        }
        with self.client.post(BUY, json=body, name=BUY, catch_response=True) as answer:
            if answer.status_code == 409 and _problem_code(answer) == "out_of_stock":
                answer.request_meta["name"] = SOLD_OUT
                answer.success()
                return None
            if answer.status_code != 201:
                answer.failure(_why(answer))
                return None
            order: Json = answer.json()
            if order["id"] in self.orders_seen:
                answer.failure("the same order id twice")
                return None
            self.orders_seen.add(order["id"])
            return order

    def _read_back(self, bought: Json) -> None:
        """Read the order with its own token; it must say what the answer to the purchase said."""
        path, token = f"/api/v1/orders/{bought['id']}", {"Order-Token": bought["guest_token"]}
        with self.client.get(path, name=READ_BACK, headers=token, catch_response=True) as answer:
            if answer.status_code != 200:
                answer.failure(_why(answer))
            elif _facts(answer.json()) != _facts(bought):
                answer.failure("the order read back is not the order bought")

    def _read(self, path: str, name: str) -> Json | None:
        with self.client.get(path, name=name, catch_response=True) as answer:
            if answer.status_code != 200:
                answer.failure(_why(answer))
                return None
            found: Json = answer.json()
            return found


def _facts(order: Json) -> Json:
    return {key: order[key] for key in ("id", "currency", "total", "lines", "placed_at")}


def _problem_code(answer: ResponseContextManager) -> str:
    try:
        return str(answer.json().get("code"))
    except ValueError:
        return "without a problem document"


def _why(answer: ResponseContextManager) -> str:
    """One bounded reason, so that equal failures are one row of Locust's report."""
    if not answer.status_code:
        return f"no answer: {type(getattr(answer, 'error', None)).__name__}"
    return f"{answer.status_code} {_problem_code(answer)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The counts of one run. Times are milliseconds at the client, in a closed loop."""

    requests: int
    failures: int
    bought: int
    read_back: int
    out_of_stock: int
    crashed: int
    rps: float
    p50_ms: float
    p95_ms: float

    @property
    def reason(self) -> str:
        """Why the run is not good, or an empty string."""
        if self.failures:
            return "requests_failed"
        if self.crashed:
            return "shoppers_crashed"
        if self.bought != self.read_back:
            return "orders_read_back_differ_from_orders_bought"
        return "" if self.bought else "nothing_was_bought"


def judge(environment: Environment) -> Verdict:
    """Count a run from its statistics, which a master has already summed over its workers."""
    stats, runner = environment.stats, environment.runner
    total = stats.total
    return Verdict(
        requests=total.num_requests,
        failures=total.num_failures,
        bought=_answered(environment, "POST", BUY),
        read_back=_answered(environment, "GET", READ_BACK),
        out_of_stock=_answered(environment, "POST", SOLD_OUT),
        crashed=sum(each["count"] for each in runner.exceptions.values()) if runner else 0,
        rps=round(total.total_rps, 1),
        p50_ms=float(total.get_response_time_percentile(0.5) or 0),
        p95_ms=float(total.get_response_time_percentile(0.95) or 0),
    )


def _answered(environment: Environment, method: str, name: str) -> int:
    if (name, method) not in environment.stats.entries:
        return 0
    entry = environment.stats.get(name, method)
    return int(entry.num_requests - entry.num_failures)


@events.test_start.add_listener
def show_progress(environment: Environment, **_: object) -> None:
    """Print a line a second while the run lasts; a worker of a distributed run says nothing."""
    if not isinstance(environment.runner, WorkerRunner):
        gevent.spawn(_progress, environment)


def _progress(environment: Environment) -> None:
    runner = environment.runner
    begin, end = ("\r\x1b[K", "") if sys.stderr.isatty() else ("", "\n")
    ticks = 0
    while runner is not None and runner.state not in {"stopping", "stopped", "cleanup"}:
        gevent.sleep(1 / TICKS)
        ticks += 1
        now = judge(environment)
        if 0 < ENOUGH <= now.bought + now.out_of_stock:
            gevent.spawn(runner.quit)
        if ticks % TICKS:
            continue
        sys.stderr.write(
            f"{begin}load {ticks // TICKS:>3} s  shoppers={runner.user_count}"
            f" requests/s={environment.stats.total.current_rps:.0f} requests={now.requests}"
            f" failures={now.failures} bought={now.bought} read_back={now.read_back}{end}"
        )
        sys.stderr.flush()
    sys.stderr.write("" if end else "\n")


@events.quitting.add_listener
def decide(environment: Environment, **_: object) -> None:
    """Set the exit code by the rules above and write the counts, if LOAD_COUNTS asks for them."""
    if environment.runner is None or isinstance(environment.runner, WorkerRunner):
        return
    found = judge(environment)
    environment.process_exit_code = 1 if found.reason else 0
    target = os.environ.get("LOAD_COUNTS")
    if target:
        Path(target).write_text(json.dumps({**asdict(found), "reason": found.reason}))
