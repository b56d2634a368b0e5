"""One purchase through the ingress, and its traces in every place that must have them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import httpx

from tests.cluster.release import HOST, Release
from tests.cluster.where import until

TRACERESPONSE = re.compile(r"00-([0-9a-f]{32})-[0-9a-f]{16}-0[1357]")
"""A sampled trace; the other bits of the flags are the caller's business."""
ROUTE = "/api/v1/checkout"
EMAIL = "ada@cluster.test"


@dataclass(frozen=True, slots=True)
class Purchase:
    """What was bought."""

    order: str
    trace_id: str


class Shopper:
    """Speaks to the API through the ingress, to the sink through the API server."""

    def __init__(self, release: Release) -> None:
        self._release = release
        self._cluster = release.cluster
        self._http = httpx.Client(
            base_url=release.cluster.ingress, headers={"Host": HOST}, timeout=10
        )

    def wait_for_shop(self, seconds: float) -> str:
        """Until the ingress knows the route and the seed has run; a variant that can be bought."""

        def variant() -> str | None:
            products = self._try("/api/v1/products?limit=20").get("items", [])
            for product in products:
                for item in self._try(f"/api/v1/products/{product['slug']}").get("variants", []):
                    if self._try(f"/api/v2/stock/{item['id']}").get("in_stock"):
                        return str(item["id"])
            return None

        return until("a product in stock", variant, seconds)

    def buy(self, variant: str) -> Purchase:
        """Check out as a guest and read the order back."""
        body = {
            "email": EMAIL,
            "currency": "NGN",
            "lines": [{"variant": variant, "quantity": 1}],
        }
        answer = self._http.post(ROUTE, json=body)
        placed = _expect(answer, 201)
        read = _expect(
            self._http.get(
                f"/api/v1/orders/{placed['id']}", headers={"Order-Token": placed["guest_token"]}
            ),
            200,
        )
        if (read["id"], read["total"]) != (placed["id"], placed["total"]):
            raise RuntimeError(f"the order reads back as {read}, it was placed as {placed}")
        header = answer.headers.get("traceresponse", "")
        match = TRACERESPONSE.fullmatch(header)
        if match is None:
            raise RuntimeError(f"traceresponse is {header!r}")
        return Purchase(order=placed["id"], trace_id=match[1])

    def wait_for_mail(self, purchase: Purchase, seconds: float) -> None:
        """Until the sink has the confirmation; RuntimeError when there are two."""
        service = f"{self._release.name}-fashionistar-fakes:http"
        path = f"/api/v1/namespaces/{self._release.namespace}/services/{service}/proxy/messages"

        def arrived() -> list[Any]:
            messages = json.loads(self._cluster.kubectl("get", "--raw", path))
            return [m for m in messages if purchase.order in json.dumps(m)]

        mails = until(f"the e-mail about {purchase.order}", arrived, seconds)
        if len(mails) != 1 or EMAIL not in json.dumps(mails[0]["to"]):
            raise RuntimeError(f"one mail to {EMAIL} was expected: {mails}")

    def wait_for_log(self, component: str, purchase: Purchase, seconds: float) -> str:
        """Until a log line of that component carries the trace id; its message."""

        def line() -> str | None:
            for entry in self._logs(component):
                if entry.get("trace.id") == purchase.trace_id:
                    return str(entry.get("message"))
            return None

        return until(f"trace {purchase.trace_id} in the {component} log", line, seconds)

    def _logs(self, component: str) -> Iterator[dict[str, Any]]:
        selector = (
            f"app.kubernetes.io/instance={self._release.name},"
            f"app.kubernetes.io/component={component}"
        )
        text = self._release.kubectl(
            "logs", "--selector", selector, "--container", component, "--tail=-1"
        )
        for line in text.splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                raise RuntimeError(f"a log line of {component} is not JSON: {line!r}") from None
            yield entry

    def wait_for_trace(self, purchase: Purchase, seconds: float) -> int:
        """Until the store has spans of web and worker in that trace; how many spans there are."""
        services = {"fashionistar-web", "fashionistar-worker"}

        def complete() -> int:
            answer = _ask(f"{self._cluster.traces}/api/traces/{purchase.trace_id}", "--traces")
            if answer.status_code != 200:
                return 0
            [trace] = answer.json()["data"]
            found = {process["serviceName"] for process in trace["processes"].values()}
            return len(trace["spans"]) if services <= found else 0

        return until(f"trace {purchase.trace_id} in the store", complete, seconds)

    def wait_for_metric(self, seconds: float) -> float:
        """Until Prometheus has counted the checkout; the value."""
        namespace = f'namespace="{self._release.namespace}"'
        query = (
            f"sum(http_server_request_duration_seconds_count{{{namespace},"
            f'http_route="{ROUTE}",http_request_method="POST"}})'
        )
        return until("the checkout in Prometheus", lambda: self._value(query), seconds)

    def wait_for_targets(self, expected: int, seconds: float) -> None:
        """Until Prometheus scrapes that many pods."""
        query = f'sum(up{{namespace="{self._release.namespace}"}})'
        until(f"{expected} scraped pods", lambda: self._value(query) == expected or None, seconds)

    def _value(self, query: str) -> float:
        url = f"{self._cluster.prometheus}/api/v1/query?{urlencode({'query': query})}"
        answer = _ask(url, "--prometheus")
        result = answer.json()["data"]["result"] if answer.status_code == 200 else []
        return float(result[0]["value"][1]) if result else 0.0

    def _try(self, path: str) -> dict[str, Any]:
        """The JSON of a 200, else {}: the ingress answers 404 or 502 before it knows the pods."""
        try:
            answer = self._http.get(path)
        except httpx.TransportError:
            return {}
        return dict(answer.json()) if answer.status_code == 200 else {}


def _ask(url: str, option: str) -> httpx.Response:
    try:
        return httpx.get(url, timeout=10)
    except httpx.TransportError as error:
        raise RuntimeError(f"{url} does not answer ({error}): see {option}") from error


def _expect(answer: httpx.Response, status: int) -> dict[str, Any]:
    if answer.status_code != status:
        raise RuntimeError(
            f"{answer.request.method} {answer.request.url.path}: "
            f"{answer.status_code} {answer.text[:500]}"
        )
    return dict(answer.json())
