"""Django's cache API on the real cluster, in threads and on an event loop."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
import redis
from django.core.cache import caches
from django.core.cache.backends.base import CacheKeyWarning
from prometheus_client import REGISTRY
from redis.crc import key_slot

from app.common import cluster, cluster_access
from app.common.cache import ClusterCache, decode, encode
from devstack.ports import HOST
from tests.support.session import Lane
from tests.support.waiting import wait_until


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an answer says is tested here, not how soon it comes: these machines are busy."""
    monkeypatch.setattr(cluster, "WITHIN", 5.0)


class Both:
    """The same calls through the thread side or the loop side."""

    def __init__(self, cache: ClusterCache, *, native: bool) -> None:
        self.cache = cache
        self.native = native
        self._runner = asyncio.Runner()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if not self.native:
            return getattr(self.cache, name)
        call = getattr(self.cache, f"a{name}")
        return lambda *args, **kwargs: self._runner.run(call(*args, **kwargs))

    def close(self) -> None:
        self._runner.run(cluster_access.close_clients())
        self._runner.close()


def make(lane: Lane, **params: Any) -> ClusterCache:
    options = {"prefix": f"{lane.prefix}{uuid4().hex[:8]}", "name": "default"}
    return ClusterCache(lane.stack.queue_url, {"OPTIONS": options} | params)


@pytest.fixture(params=["threads", "loop"])
def cache(lane: Lane, request: pytest.FixtureRequest) -> Iterator[Both]:
    """An empty cache."""
    both = Both(make(lane), native=request.param == "loop")
    yield both
    both.clear()
    both.close()


def counted(operation: str, result: str) -> float:
    labels = {"cache": "default", "op": operation, "result": result}
    return REGISTRY.get_sample_value("fashionistar_cache_ops_total", labels) or 0.0


def raw(lane: Lane, *words: Any) -> list[Any]:
    """One command on every node."""
    found = []
    for port in lane.stack.ports.valkey:
        with redis.Redis(HOST, port, decode_responses=True) as node:
            found.append(node.execute_command(*words))
    return found


VALUES: list[Any] = [
    None, True, False, 0, -7, 2**80, 1.5, "", "5", "ključ ☃", b"", b"\x00j{}", [], {},
    {"a": [1, None, {"b": "c"}], "d": 0.1}, "x" * 300_000,
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda v: repr(v)[:20])
def test_a_value_comes_back_as_it_was(cache: Both, value: Any) -> None:
    cache.set("key", value)
    found = cache.get("key", "default")

    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "value",
    [
        (1,), {1}, uuid4(), datetime.now(UTC), Decimal(1), {1: 2}, float("nan"), [float("inf")],
        {"a": [uuid4()]}, object(), bytearray(b"x"),
    ],
    ids=lambda v: type(v).__name__,
)  # fmt: skip
def test_what_would_come_back_as_something_else_is_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        encode(value)


def test_foreign_content_is_a_counted_miss(cache: Both, lane: Lane) -> None:
    cache.set("key", 1)
    (name,) = (key for keys in raw(lane, "KEYS", f"{cache.cache.address.prefix}*") for key in keys)
    for content in ("?{}", "j{", ""):
        before = counted("get", "error")
        for port in lane.stack.ports.valkey:
            with redis.Redis(HOST, port) as node:
                try:
                    node.set(name, content)
                except redis.exceptions.MovedError:
                    continue
        assert cache.get("key", "default") == "default"
        assert counted("get", "error") == before + 1
    with pytest.raises(ValueError, match="invalid literal"):
        decode(b"nonsense")


def test_the_documented_calls(cache: Both) -> None:
    """docs.djangoproject.com, "Basic usage" of the cache API, call by call."""
    assert cache.get("my_key") is None
    assert cache.get("my_key", "has expired") == "has expired"
    cache.set("my_key", "hello", 30)
    assert cache.get("my_key") == "hello"
    assert cache.add("add_key", "Initial value") is True
    assert cache.add("add_key", "New value") is False
    assert cache.get("add_key") == "Initial value"
    assert cache.get_or_set("my_new_key", "my new value", 100) == "my new value"
    assert cache.get_or_set("called", lambda: 5) == 5
    assert cache.set_many({"a": 1, "b": 2, "c": 3}) == []
    assert cache.get_many(["a", "b", "c", "gone"]) == {"a": 1, "b": 2, "c": 3}
    assert cache.delete("a") is True
    assert cache.delete("a") is False
    cache.delete_many(["b", "c"])
    assert cache.get_many(iter(["a", "b", "c"])) == {}
    assert cache.touch("my_key", 10) is True
    assert cache.touch("gone", 10) is False


def test_the_documented_counting(cache: Both) -> None:
    """The same page's incr and decr, and has_key."""
    cache.set("num", 1)
    assert [cache.incr("num"), cache.incr("num", 10), cache.decr("num"), cache.decr("num", 5)] == [
        2, 12, 11, 6,
    ]  # fmt: skip
    assert cache.get("num") == 6
    for call in (cache.incr, cache.decr):
        with pytest.raises(ValueError, match="not found"):
            call("gone")
    assert cache.has_key("num")
    assert not cache.has_key("gone")
    assert "num" in cache.cache


def test_versions_and_key_prefix_keep_keys_apart(cache: Both, lane: Lane) -> None:
    cache.set("key", "one")
    cache.set("key", "two", version=2)
    assert (cache.get("key"), cache.get("key", version=2)) == ("one", "two")
    assert cache.incr_version("key", version=2) == 3
    assert (cache.get("key", version=2), cache.get("key", version=3)) == (None, "two")
    assert cache.decr_version("key", version=3) == 2
    with pytest.raises(ValueError, match="not found"):
        cache.incr_version("gone")

    options = {"prefix": cache.cache.address.prefix}
    other = ClusterCache(lane.stack.queue_url, {"KEY_PREFIX": "other", "OPTIONS": options})
    assert other.get("key") is None


def ttl(lane: Lane, cache: Both, key: str) -> int:
    """Seconds that the key still lives; -1 = for ever."""
    name = f"{cache.cache.address.prefix}::1:{key}"
    with redis.RedisCluster(host=HOST, port=lane.stack.ports.valkey[0]) as cluster:
        return int(cluster.ttl(name))


def test_timeouts(cache: Both, lane: Lane) -> None:
    cache.set("default", 1)
    cache.set("never", 1, None)
    cache.set("short", 1, 0.05)
    cache.set("over", 1)
    cache.set("over", 1, 0)
    cache.set("negative", 1, -1)
    assert cache.get_many(["over", "negative"]) == {}
    assert cache.add("absent", 1, 0) is True
    assert cache.get("absent") is None
    wait_until(lambda: cache.get("short") is None, what="it expires")

    assert 290 <= ttl(lane, cache, "default") <= 300
    assert ttl(lane, cache, "never") == -1
    cache.set("count", 1, 60)
    cache.incr("count")
    assert 50 <= ttl(lane, cache, "count") <= 60


def test_touch(cache: Both, lane: Lane) -> None:
    cache.set("never", 1, None)
    assert cache.touch("never", 60)
    assert 50 <= ttl(lane, cache, "never") <= 60
    assert cache.touch("never", None)
    assert cache.touch("never", None)  # again: it exists, though there is nothing to do
    assert ttl(lane, cache, "never") == -1
    assert cache.touch("gone", None) is False
    assert cache.touch("never", 0) is True
    assert cache.has_key("never") is False


def test_counting_is_exact_and_refuses_text(cache: Both) -> None:
    cache.set("text", "5")
    with pytest.raises(ValueError, match="cannot add"):
        cache.incr("text")
    with pytest.raises(TypeError):
        cache.incr("text", 0.5)


def test_parallel_counting_loses_nothing(lane: Lane) -> None:
    cache = make(lane)
    cache.set("n", 0)
    threads = [
        threading.Thread(target=lambda: [cache.incr("n") for _ in range(50)]) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert cache.get("n") == 400
    cache.clear()


def test_many_keys_over_all_slots_are_one_round_per_node(cache: Both, lane: Lane) -> None:
    data = {f"key-{n}": n for n in range(600)}
    prefix = cache.cache.address.prefix
    thirds = {key_slot(f"{prefix}::1:{key}".encode()) * 3 // 16384 for key in data}
    assert thirds == {0, 1, 2}
    assert cache.set_many(data) == []
    hits = counted("get", "hit")
    assert cache.get_many([*data, "gone"]) == data
    assert counted("get", "hit") - hits == 600
    cache.delete_many(data)
    assert cache.get_many(data) == {}
    assert cache.get_many([]) == {}
    assert cache.set_many({}) == []
    cache.delete_many([])


def test_clear_removes_this_cache_and_nothing_else(cache: Both, lane: Lane) -> None:
    prefix = cache.cache.address.prefix
    cache.set_many({f"key-{n}": n for n in range(1500)})
    similar = ClusterCache(lane.stack.queue_url, {"OPTIONS": {"prefix": f"{prefix}x"}})
    similar.set("key", 1)
    queue = f"{{{prefix}:emails:0}}:ready"
    with redis.RedisCluster(host=HOST, port=lane.stack.ports.valkey[0]) as cluster:
        cluster.set(queue, "task")

        assert cache.clear() is True

        assert cluster.get(queue) == b"task"
        cluster.delete(queue)
    assert similar.get("key") == 1
    assert similar.clear()
    assert sum(map(len, raw(lane, "KEYS", f"{prefix}:*"))) == 0


def test_a_prefix_is_no_pattern(lane: Lane) -> None:
    one = ClusterCache(lane.stack.queue_url, {"OPTIONS": {"prefix": f"{lane.prefix}a"}})
    star = ClusterCache(lane.stack.queue_url, {"OPTIONS": {"prefix": f"{lane.prefix}*"}})
    one.set("key", 1)
    star.set("key", 2)
    assert star.clear()
    assert (one.get("key"), star.get("key")) == (1, None)
    one.clear()


def test_keys_that_memcached_would_refuse_warn_as_everywhere_in_django(cache: Both) -> None:
    with pytest.warns(CacheKeyWarning):
        cache.set("with space", 1)
    with pytest.warns(CacheKeyWarning):
        assert cache.get("with space") == 1


def test_the_loop_side_uses_no_thread(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    monkeypatch.setattr(threading.Thread, "start", lambda self: started.append(self.name))
    monkeypatch.setattr(
        asyncio.BaseEventLoop, "run_in_executor", lambda *_: started.append("executor")
    )
    cache = make(lane)

    async def calls() -> None:
        await cache.aset("key", 1)
        assert await cache.aget("key") == 1
        assert await cache.aget_or_set("other", 2) == 2
        assert await cache.aadd("third", 3)
        assert await cache.aincr("third") == 4
        assert await cache.adecr("third") == 3
        assert await cache.atouch("third")
        assert await cache.ahas_key("third")
        assert await cache.aset_many({"a": 1, "b": 2}) == []
        assert await cache.aget_many(["a", "b"]) == {"a": 1, "b": 2}
        await cache.adelete_many(["a", "b"])
        assert await cache.aincr_version("third") == 2
        assert await cache.adelete("third", version=2)
        assert await cache.aclear()
        await cache.aclose()
        for client in [c for (loop, _), c in cluster_access._clients.items() if _is_mine(loop)]:
            await client.close()

    asyncio.run(calls())
    assert started == []


def _is_mine(loop: asyncio.AbstractEventLoop) -> bool:
    return loop is asyncio.get_running_loop()


def test_the_settings_name_this_cache(lane: Lane) -> None:
    cache = caches["default"]
    assert isinstance(cache, ClusterCache)
    assert cache.address.prefix == f"{lane.prefix}cache"
    began = time.perf_counter()
    for _ in range(100):
        ClusterCache(lane.stack.queue_url, {"OPTIONS": {"prefix": "x"}})
    assert time.perf_counter() - began < 1  # Django makes one per thread and per request
