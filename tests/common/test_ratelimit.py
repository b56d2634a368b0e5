"""Rate limits on the real cluster: exact, fair to parallel callers, visible in headers."""

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
import redis
from django.http import HttpRequest
from django.test import override_settings
from prometheus_client import REGISTRY

from app.common import cluster, cluster_access, ratelimit, synthetic
from app.common.errors import RateLimited
from app.common.ratelimit import Bucket, Verdict
from app.common.views import HotView, ServiceView, json_response
from app.telemetry.asgi import SYNTHETIC
from devstack.ports import HOST
from devstack.process import Process
from tests.support.session import Lane
from tests.support.waiting import wait_until

KEY = "a-key-of-a-secret"


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an answer says is tested here, not how soon it comes: these machines are busy."""
    monkeypatch.setattr(cluster, "WITHIN", 5.0)


def bucket(limit: int = 5, window: float = 60) -> Bucket:
    """A bucket that no other test uses."""
    return Bucket(name=f"test-{uuid4().hex[:8]}", limit=limit, window=window)


def arriving(address: str = "203.0.113.7", **scope: Any) -> HttpRequest:
    request = HttpRequest()
    request.method = "GET"
    request.META["REMOTE_ADDR"] = address
    request.scope = scope  # type: ignore[attr-defined]
    return request


@pytest.mark.parametrize(
    ("limit", "window"), [(1, 60), (5, 600), (7, 600), (60, 3600), (600, 36000)]
)
def test_exactly_the_limit_passes_at_once(limit: int, window: float) -> None:
    box = bucket(limit, window)
    verdicts = [ratelimit.hit(box, "a") for _ in range(limit + 2)]

    refused = [v for v in verdicts if not v.allowed]
    assert verdicts[0].remaining == limit - 1
    assert len(refused) == 2
    assert [v.remaining for v in refused] == [0, 0]
    assert all(0 < v.retry_after <= window / limit for v in refused)
    assert ratelimit.hit(box, "b").allowed  # each caller has a bucket


def test_eight_parallel_callers_share_one_bucket_exactly() -> None:
    box = bucket(100, 3600)
    verdicts: list[Verdict] = []

    def call() -> None:
        verdicts.extend([ratelimit.hit(box, "a") for _ in range(40)])

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(verdicts) == 320
    assert not any(v.failed_open for v in verdicts)
    allowed = [v for v in verdicts if v.allowed]
    assert len(allowed) == 100
    assert sorted(v.remaining for v in allowed) == list(range(100))  # nobody saw another's token


def test_the_bucket_refills_by_server_time() -> None:
    box = bucket(2, 1.0)
    assert [ratelimit.hit(box, "a").allowed for _ in range(3)] == [True, True, False]
    began = time.monotonic()
    wait_until(lambda: ratelimit.hit(box, "a").allowed, what="a token comes back")
    assert 0.2 < time.monotonic() - began < 5


def test_the_key_expires_when_the_bucket_is_full(lane: Lane) -> None:
    box = bucket(2, 1.0)
    ratelimit.hit(box, "a")
    ratelimit.hit(box, "a")

    def keys() -> list[Any]:
        found: list[Any] = []
        for port in lane.stack.ports.valkey:
            with redis.Redis(HOST, port) as node:
                found += node.keys(f"*{box.name}*")
        return found

    assert len(keys()) == 1
    wait_until(lambda: keys() == [], what="nothing is left")


def test_the_script_is_loaded_again_after_it_was_flushed(lane: Lane) -> None:
    box = bucket()
    ratelimit.hit(box, "a")
    for port in lane.stack.ports.valkey:
        with redis.Redis(HOST, port) as node:
            node.script_flush()

    assert ratelimit.hit(box, "a").remaining == 3


def test_coroutines_use_no_thread_and_the_same_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    box = bucket()
    ratelimit.hit(box, "a")
    used: list[str] = []

    async def calls() -> list[int]:
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(threading.Thread, "start", lambda self: used.append(self.name))
        monkeypatch.setattr(loop, "run_in_executor", lambda *_: used.append("executor"))
        found = [(await ratelimit.ahit(box, "a")).remaining for _ in range(4)]
        monkeypatch.undo()
        await cluster_access.close_clients()
        return found

    assert asyncio.run(calls()) == [3, 2, 1, 0]
    assert used == []


def test_headers_say_policy_rest_and_when_to_come_back() -> None:
    box = Bucket(name="checkout", limit=60, window=60)
    allowed = Verdict(bucket=box, remaining=59, full_after=0.4)
    assert allowed.headers == {
        "RateLimit-Policy": '"checkout";q=60;w=60',
        "RateLimit": '"checkout";r=59;t=1',
        "X-RateLimit-Limit": "60",
        "X-RateLimit-Remaining": "59",
        "X-RateLimit-Reset": "1",
    }
    refused = Verdict(bucket=box, allowed=False, retry_after=1.2, full_after=60)
    assert refused.headers["Retry-After"] == "2"
    assert refused.headers["RateLimit"] == '"checkout";r=0;t=60'


@pytest.mark.parametrize(
    ("address", "caller"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("", ""),
        ("x" * 200, "x" * 64),
    ],
)
def test_who_the_caller_is(address: str, caller: str) -> None:
    assert ratelimit.caller_of(arriving(address)) == caller


class Service(ServiceView):
    """Both views take from one bucket."""

    rate_limit = "test"

    def get(self, request: HttpRequest) -> Any:
        return json_response({})


class Hot(HotView):
    """See Service."""

    rate_limit = "test"

    async def get(self, request: HttpRequest) -> Any:
        return json_response({})


def test_both_view_bases_guard_and_show_headers() -> None:
    caller = uuid4().hex

    async def calls() -> list[Any]:
        views: list[Any] = [Service.as_view(), Hot.as_view(), Hot.as_view(), Service.as_view()]
        found = [await view(arriving(caller)) for view in views]
        await cluster_access.close_clients()
        return found

    with override_settings(RATE_LIMITS={"test": (2, 60.0)}):
        answers = asyncio.run(calls())

    assert [a.status_code for a in answers] == [200, 200, 429, 429]
    assert [a.headers["X-RateLimit-Remaining"] for a in answers] == ["1", "0", "0", "0"]
    assert all(1 <= int(a.headers["Retry-After"]) <= 30 for a in answers[2:])


def test_zero_is_off_and_synthetic_requests_are_exempt_and_counted() -> None:
    with override_settings(RATE_LIMITS={"test": (0, 60.0)}):
        assert ratelimit.guard(arriving(), "test") == {}
    labels = {"bucket": "test", "result": "exempt"}
    before = REGISTRY.get_sample_value("fashionistar_rate_limit_checks_total", labels) or 0
    caller = uuid4().hex
    with override_settings(RATE_LIMITS={"test": (1, 60.0)}):
        for _ in range(3):
            assert ratelimit.guard(arriving(caller, **{SYNTHETIC: True}), "test") == {}
        ratelimit.guard(arriving(caller), "test")
        with pytest.raises(RateLimited):
            ratelimit.guard(arriving(caller, **{SYNTHETIC: False}), "test")
    after = REGISTRY.get_sample_value("fashionistar_rate_limit_checks_total", labels)
    assert after == before + 3


def test_signatures_of_load_generators() -> None:
    check = synthetic.checker(KEY)
    assert check is not None
    good = synthetic.sign(KEY)
    end, _, signature = good.partition(".")
    assert check(good)
    assert synthetic.checker("") is None
    later = str(int(end) + 1)
    far = str(int(time.time()) + 7200)
    bad = [
        "", ".", "x.y", f"{end}.", f"{later}.{signature}", synthetic.sign("other"),
        f"-{end}.{signature}", f"٣.{signature}", f"{end}.ä", synthetic.sign(KEY, seconds=-5),
        f"{far}.{synthetic._signature(KEY, far)}", f"{'9' * 400}.{signature}",
    ]  # fmt: skip
    assert [value for value in bad if check(value)] == []
    assert synthetic.sign(KEY, seconds=10**9).partition(".")[0] <= str(int(time.time()) + 3600)


@pytest.fixture
def shop(django_db_setup: None, committed_db: None, lane: Lane) -> Iterator[Process]:
    """A server that lets three checkouts a minute pass, behind a proxy on this machine."""
    env = lane.env(RATE_LIMIT_CHECKOUT="3", SYNTHETIC_KEY=KEY, TRUSTED_PROXIES="127.0.0.1")
    process = lane.stack.spawn(["serve", "--port", "0"], env=env)
    process.wait_for("/readyz")
    yield process
    process.stop()


def test_over_http(shop: Process) -> None:
    def checkout(address: str, **headers: str) -> httpx.Response:
        headers |= {"X-Forwarded-For": f"198.51.100.1, {address}"}
        return httpx.post(f"{shop.url}/api/v1/checkout", json={}, headers=headers)

    answers = [checkout("203.0.113.7") for _ in range(5)]

    assert [a.status_code for a in answers] == [422, 422, 422, 429, 429]
    assert [a.headers["X-RateLimit-Remaining"] for a in answers] == ["2", "1", "0", "0", "0"]
    refused = answers[-1]
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert refused.headers["RateLimit-Policy"] == '"checkout";q=3;w=60'
    assert refused.headers["RateLimit"].startswith('"checkout";r=0;t=')
    assert 1 <= int(refused.headers["Retry-After"]) <= 20
    problem = refused.json()
    assert problem["code"] == "rate_limited"
    assert problem["title"] == "Too many requests"
    assert problem["instance"] == "/api/v1/checkout"
    assert problem["request_id"] == refused.headers["x-request-id"]

    assert checkout("203.0.113.8").status_code == 422  # another client
    generator = {synthetic.HEADER: synthetic.sign(KEY), "X-Request-ID": "synthetic-one"}
    assert checkout("203.0.113.7", **generator).status_code == 422
    forged = {synthetic.HEADER: synthetic.sign("guess"), "X-Request-ID": "forged-one"}
    assert checkout("203.0.113.7", **forged).status_code == 429
    wait_until(lambda: "forged-one" in shop.output, what="the log lines")
    lines = [line for line in shop.output.splitlines() if '"synthetic":true' in line]
    assert len(lines) == 1
    assert "synthetic-one" in lines[0]
