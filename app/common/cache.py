"""Django's cache on a Valkey or Redis Cluster, for requests that must not wait for it.

A cluster that is slow or away is a miss, or a write that does not happen, after 50 ms at most
(`app.common.cluster`); `fashionistar_cache_ops_total` counts both. So is a delete: give every
value a timeout that bounds how long it may be stale. The `a…` methods use no thread.

Values are what JSON gives back unchanged, and bytes; anything else is a TypeError when it is set,
never another type when it is read. No pickle: whoever can write to the cache could run code here.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, partial
from typing import Any, cast

import orjson
from django.core.cache import caches
from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache
from redis.exceptions import ResponseError

from app.common import cluster_access
from app.common.cluster import Client, Failure
from app.taskqueue.connection import Node, QueueAddress, parse
from app.taskqueue.lua import Command
from app.telemetry import metrics

CLEAR_SECONDS = 60.0
_BATCH = 500
_LONGEST = 10**13  # milliseconds, 300 years: the server refuses what overflows its clock
_MISSING: Any = object()

_INCREMENT = """if redis.call('EXISTS', KEYS[1]) == 0 then return false end
return redis.call('INCRBY', KEYS[1], ARGV[1])"""


def encode(value: Any) -> bytes:
    """The stored form: digits for a whole number (so the server can count), else a letter for the
    kind and the content. TypeError for what would come back as something else."""
    kind = type(value)
    if kind is int:
        return b"%d" % value
    if kind is bytes:
        return b"b" + cast(bytes, value)
    if kind is str:
        return b"s" + cast(str, value).encode()
    _require_plain(value)
    return b"j" + orjson.dumps(value)


def decode(stored: bytes) -> Any:
    """The value of a stored form. ValueError for what `encode` never wrote."""
    mark, content = stored[:1], stored[1:]
    if mark == b"j":
        return orjson.loads(content)
    if mark == b"s":
        return content.decode()
    if mark == b"b":
        return content
    return int(stored)


def _require_plain(value: Any) -> None:
    kind = type(value)
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise TypeError(f"a cached dict has text as keys, not {type(key).__name__}")
            _require_plain(item)
    elif kind is list:
        for item in value:
            _require_plain(item)
    else:
        _require_scalar(value, kind)


def _require_scalar(value: Any, kind: type) -> None:
    if kind is float and not math.isfinite(value):
        raise TypeError(f"{value} has no JSON form")
    if value is not None and kind not in {str, int, bool, float}:
        raise TypeError(
            f"cannot cache {kind.__name__}: store None, bool, whole numbers, floats, text, bytes, "
            "or lists and dicts of them"
        )


class ClusterCache(BaseCache):
    """`LOCATION` is the cluster's URL (`app.taskqueue.connection`); `OPTIONS`: `password`,
    `ca_file`, `prefix` (of every key) and `name` (the label in metrics)."""

    def __init__(self, location: str, params: dict[str, Any]) -> None:
        super().__init__(params)
        options = params.get("OPTIONS", {})
        self.address: QueueAddress = parse(
            location, options.get("password"), options.get("ca_file"), options["prefix"]
        )
        self._name = options.get("name", "default")
        self._run = partial(cluster_access.run, self.address)
        self._arun = partial(cluster_access.arun, self.address)

    # --- one key ---------------------------------------------------------------------------------
    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        """The value, or `default` for a miss."""
        return self._read(self._run([("GET", self._key(key, version))])[0], default)

    async def aget(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        """See get."""
        return self._read((await self._arun([("GET", self._key(key, version))]))[0], default)

    def set(
        self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> None:
        """Store; `timeout` in seconds, None = for ever, 0 or less = not at all."""
        self._wrote("set", self._run([self._set(key, value, timeout, version)])[0])

    async def aset(
        self,
        key: Any,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,  # noqa: ASYNC109
        version: int | None = None,
    ) -> None:
        """See set."""
        self._wrote("set", (await self._arun([self._set(key, value, timeout, version)]))[0])

    def add(
        self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> bool:
        """Store unless the key exists; whether it was stored."""
        return self._added(self._run([self._add(key, value, timeout, version)])[0])

    async def aadd(
        self,
        key: Any,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,  # noqa: ASYNC109
        version: int | None = None,
    ) -> bool:
        """See add."""
        return self._added((await self._arun([self._add(key, value, timeout, version)]))[0])

    def touch(self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """Set a new timeout; whether the key exists."""
        return self._wrote("touch", self._run(self._touch(key, timeout, version))[-1])

    async def atouch(
        self,
        key: Any,
        timeout: Any = DEFAULT_TIMEOUT,  # noqa: ASYNC109
        version: int | None = None,
    ) -> bool:
        """See touch."""
        return self._wrote("touch", (await self._arun(self._touch(key, timeout, version)))[-1])

    def delete(self, key: Any, version: int | None = None) -> bool:
        """Remove; whether the key existed."""
        return self._wrote("delete", self._run([("UNLINK", self._key(key, version))])[0])

    async def adelete(self, key: Any, version: int | None = None) -> bool:
        """See delete."""
        return self._wrote("delete", (await self._arun([("UNLINK", self._key(key, version))]))[0])

    def has_key(self, key: Any, version: int | None = None) -> bool:
        """Whether the key exists."""
        return self._found(self._run([("EXISTS", self._key(key, version))])[0])

    async def ahas_key(self, key: Any, version: int | None = None) -> bool:
        """See has_key."""
        return self._found((await self._arun([("EXISTS", self._key(key, version))]))[0])

    def incr(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """Add to a whole number in one step; its timeout stays. ValueError for a miss, and for a
        value that is none."""
        return self._number(key, self._run([self._incr(key, delta, version)])[0])

    async def aincr(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """See incr."""
        return self._number(key, (await self._arun([self._incr(key, delta, version)]))[0])

    # --- many keys -------------------------------------------------------------------------------
    def get_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        """The values of those keys that are there, from all nodes at once."""
        names = self._keys(keys, version)
        return self._read_many(names, self._run([("GET", name) for name in names.values()]))

    async def aget_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        """See get_many."""
        names = self._keys(keys, version)
        return self._read_many(names, await self._arun([("GET", name) for name in names.values()]))

    def set_many(
        self,
        data: Mapping[Any, Any],
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> list[Any]:
        """Store all; returns the keys that were not stored."""
        commands = [self._set(key, value, timeout, version) for key, value in data.items()]
        return self._not_written(data, self._run(commands))

    async def aset_many(
        self,
        data: Mapping[Any, Any],
        timeout: Any = DEFAULT_TIMEOUT,  # noqa: ASYNC109
        version: int | None = None,
    ) -> list[Any]:
        """See set_many."""
        commands = [self._set(key, value, timeout, version) for key, value in data.items()]
        return self._not_written(data, await self._arun(commands))

    def delete_many(self, keys: Iterable[Any], version: int | None = None) -> None:
        """Remove all."""
        for answer in self._run(self._unlink(keys, version)):
            self._wrote("delete", answer)

    async def adelete_many(self, keys: Iterable[Any], version: int | None = None) -> None:
        """See delete_many."""
        for answer in await self._arun(self._unlink(keys, version)):
            self._wrote("delete", answer)

    def clear(self) -> bool:  # type: ignore[override]  # says more than None
        """Remove this cache's keys, by prefix: others may live in the cluster. False when a node
        did not answer and some may be left."""
        return self._cleared(
            cluster_access.in_background(self._sweep, CLEAR_SECONDS, otherwise=False)
        )

    async def aclear(self) -> bool:  # type: ignore[override]
        """See clear."""
        return self._cleared(await self._sweep())

    def close(self, **kwargs: Any) -> None:
        """Nothing: connections belong to the process, not to a request."""

    async def aclose(self, **kwargs: Any) -> None:
        """See close."""

    # --- commands --------------------------------------------------------------------------------
    def _key(self, key: Any, version: int | None) -> str:
        return f"{self.address.prefix}:{self.make_and_validate_key(key, version)}"

    def _keys(self, keys: Iterable[Any], version: int | None) -> dict[Any, str]:
        return {key: self._key(key, version) for key in keys}

    def _set(self, key: Any, value: Any, timeout: Any, version: int | None) -> Command:
        name, stored, life = self._key(key, version), encode(value), self._life(timeout)
        if life == 0:
            return ("UNLINK", name)
        return ("SET", name, stored) if life is None else ("SET", name, stored, "PX", life)

    def _add(self, key: Any, value: Any, timeout: Any, version: int | None) -> Command:
        command = self._set(key, value, timeout, version)
        return (*command, "NX") if command[0] == "SET" else ("EXISTS", command[1])

    def _touch(self, key: Any, timeout: Any, version: int | None) -> list[Command]:
        name, life = self._key(key, version), self._life(timeout)
        if life is None:
            return [("PERSIST", name), ("EXISTS", name)]
        return [("PEXPIRE", name, life) if life else ("UNLINK", name)]

    def _incr(self, key: Any, delta: int, version: int | None) -> Command:
        if not isinstance(delta, int):
            raise TypeError("the cluster counts whole numbers only")
        return ("EVAL", _INCREMENT, 1, self._key(key, version), int(delta))

    def _unlink(self, keys: Iterable[Any], version: int | None) -> list[Command]:
        return [("UNLINK", name) for name in self._keys(keys, version).values()]

    def _life(self, timeout: Any) -> int | None:
        """Milliseconds; None = for ever, 0 = over already."""
        seconds = self.default_timeout if timeout is DEFAULT_TIMEOUT else timeout
        return None if seconds is None else min(max(round(seconds * 1000), 0), _LONGEST)

    # --- answers ---------------------------------------------------------------------------------
    def _read(self, answer: Any, default: Any) -> Any:
        if answer is None:
            return self._count("get", "miss", default)
        try:
            value = decode(answer) if isinstance(answer, bytes) else _MISSING
        except ValueError:  # written by somebody else, or by a newer release
            value = _MISSING
        if value is _MISSING:
            return self._count("get", _result(answer), default)
        return self._count("get", "hit", value)

    def _read_many(self, names: Mapping[Any, str], answers: Sequence[Any]) -> dict[Any, Any]:
        read = {key: self._read(a, _MISSING) for key, a in zip(names, answers, strict=True)}
        return {key: value for key, value in read.items() if value is not _MISSING}

    def _wrote(self, operation: str, answer: Any) -> bool:
        """Whether a write had something to do."""
        if isinstance(answer, Exception):
            return self._count(operation, _result(answer), value=False)
        return self._count(operation, "ok", bool(answer))

    def _added(self, answer: Any) -> bool:
        if isinstance(answer, Exception):
            return self._count("add", _result(answer), value=False)
        return self._count("add", "ok", answer in {b"OK", 0})

    def _found(self, answer: Any) -> bool:
        if isinstance(answer, Exception):
            return self._count("has_key", _result(answer), value=False)
        return self._count("has_key", "hit" if answer else "miss", bool(answer))

    def _number(self, key: Any, answer: Any) -> int:
        if isinstance(answer, int):
            return self._count("incr", "hit", answer)
        self._count("incr", "miss" if answer is None else _result(answer), None)
        if isinstance(answer, ResponseError):
            raise ValueError(f"cannot add to key {key!r}: {answer}")  # noqa: TRY004  # as Django's
        raise ValueError(f"Key {key!r} not found")

    def _not_written(self, data: Iterable[Any], answers: Sequence[Any]) -> list[Any]:
        for answer in answers:
            self._wrote("set", answer)
        return [key for key, a in zip(data, answers, strict=True) if isinstance(a, Exception)]

    def _cleared(self, done: bool) -> bool:  # noqa: FBT001
        return self._count("clear", "ok" if done else "error", done)

    def _count[T](self, operation: str, result: str, value: T) -> T:
        metrics.cache_ops.labels(self._name, operation, result).inc()
        return value

    # --- clear -----------------------------------------------------------------------------------
    async def _sweep(self) -> bool:
        client = cluster_access.client(self.address)
        alive = await client.on_each_primary("PING")
        outcomes = [await self._sweep_node(client, node) for node in alive]
        return bool(outcomes) and all(outcomes)

    async def _sweep_node(self, client: Client, node: Node) -> bool:
        """SCAN and UNLINK in batches; a node that serves others meanwhile is not blocked."""
        pattern = f"{_literal(self.address.prefix)}:*"
        cursor: Any = b"0"
        while True:
            scan: Command = ("SCAN", cursor, "MATCH", pattern, "COUNT", _BATCH)
            (page,) = await client.on_node(node, [scan])
            if not isinstance(page, list):
                return False
            cursor, names = page
            # One key a command: those of a batch lie in many slots.
            unlink: list[Command] = [("UNLINK", name) for name in names]
            removed = await client.on_node(node, unlink) if unlink else []
            if any(isinstance(answer, Exception) for answer in removed):
                return False
            if int(cursor) == 0:
                return True


@cache
def cache_address() -> QueueAddress:
    """Where the default cache is, for what else lives there (rate limits)."""
    return cast(ClusterCache, caches["default"]).address


def _literal(text: str) -> str:
    """`text` in a glob pattern."""
    return "".join(f"\\{letter}" if letter in "*?[]^\\" else letter for letter in text)


def _result(answer: Any) -> str:
    return answer.result if isinstance(answer, Failure) else "error"
