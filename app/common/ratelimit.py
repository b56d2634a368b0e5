"""Rate limits on the cache cluster, by server time: token buckets.

A bucket of `limit` tokens refills evenly within `window` seconds, so `limit` requests may come at
once and `limit` per window in the long run (at most twice `limit` within one window, and never a
burst at the turn of a fixed window). It is one number per caller, the moment when the bucket will
be full again (GCRA), read and moved by one script; it expires when the bucket is full.

When the cluster does not answer within 50 ms the request is allowed, and counted so.
"""

import ipaddress
import math
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha1
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from redis.exceptions import NoScriptError

from app.common import cluster_access
from app.common.cache import cache_address
from app.common.errors import RateLimited
from app.taskqueue.lua import Command
from app.telemetry import metrics
from app.telemetry.asgi import SYNTHETIC

# KEYS[1] the bucket; ARGV microseconds per token, tokens. Returns: allowed, tokens left,
# microseconds until one is there, microseconds until the bucket is full.
_SCRIPT = """local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local token, capacity = tonumber(ARGV[1]), ARGV[1] * ARGV[2]
local full = tonumber(redis.call('GET', KEYS[1]) or now)
full = math.min(math.max(full, now), now + capacity)
local after = full + token
if after - now > capacity then
  return {0, 0, after - capacity - now, full - now}
end
redis.call('SET', KEYS[1], string.format('%.0f', after), 'PX', math.ceil((after - now) / 1000))
return {1, math.floor((capacity - (after - now)) / token), 0, after - now}"""
_SHA = sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """`limit` requests per `window` seconds and caller, under a name that stands in headers, keys
    and metrics."""

    name: str
    limit: int
    window: float

    def take(self, prefix: str, caller: str) -> tuple[Command, Command]:
        """Take one token: the short command, and the one that also carries the script."""
        token = max(int(self.window * 1e6 / self.limit), 1)
        arguments = (1, f"{prefix}.limit:{self.name}:{caller}", token, self.limit)
        return ("EVALSHA", _SHA, *arguments), ("EVAL", _SCRIPT, *arguments)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the bucket said. Times in seconds; `failed_open`: the cluster did not answer."""

    bucket: Bucket
    allowed: bool = True
    remaining: int = 0
    retry_after: float = 0.0
    full_after: float = 0.0
    failed_open: bool = False

    @property
    def headers(self) -> dict[str, str]:
        """`RateLimit-Policy` and `RateLimit` (IETF draft 10), and the older `X-RateLimit-*`, whose
        reset is in seconds from now. None when nothing is known."""
        if self.failed_open:
            return {}
        bucket, reset = self.bucket, math.ceil(self.full_after)
        headers = {
            "RateLimit-Policy": f'"{bucket.name}";q={bucket.limit};w={math.ceil(bucket.window)}',
            "RateLimit": f'"{bucket.name}";r={self.remaining};t={reset}',
            "X-RateLimit-Limit": str(bucket.limit),
            "X-RateLimit-Remaining": str(self.remaining),
            "X-RateLimit-Reset": str(reset),
        }
        if not self.allowed:
            headers["Retry-After"] = str(max(math.ceil(self.retry_after), 1))
        return headers


def hit(bucket: Bucket, caller: str) -> Verdict:
    """Take one token for `caller`. For threads."""
    address = cache_address()
    short, long = bucket.take(address.prefix, caller)
    (answer,) = cluster_access.run(address, [short])
    if isinstance(answer, NoScriptError):
        (answer,) = cluster_access.run(address, [long])
    return _verdict(bucket, answer)


async def ahit(bucket: Bucket, caller: str) -> Verdict:
    """Take one token for `caller`. For coroutines: without a thread."""
    address = cache_address()
    short, long = bucket.take(address.prefix, caller)
    (answer,) = await cluster_access.arun(address, [short])
    if isinstance(answer, NoScriptError):
        (answer,) = await cluster_access.arun(address, [long])
    return _verdict(bucket, answer)


def guard(request: HttpRequest, name: str) -> Mapping[str, str]:
    """Take one token of bucket `name` for the request's client; returns headers for the answer.

    Raises RateLimited. For threads; `name` stands in settings.RATE_LIMITS.
    """
    bucket = _bucket_for(request, name)
    return _judge(hit(bucket, caller_of(request))) if bucket else {}


async def aguard(request: HttpRequest, name: str) -> Mapping[str, str]:
    """See guard. For HotView and Ninja: without a thread."""
    bucket = _bucket_for(request, name)
    return _judge(await ahit(bucket, caller_of(request))) if bucket else {}


def caller_of(request: HttpRequest) -> str:
    """The client's address (the server has believed forwarded headers of TRUSTED_PROXIES only);
    of IPv6 the network of 64 bits, which one customer has whole."""
    host: str = request.META.get("REMOTE_ADDR", "")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host[:64]
    if address.version == 4:
        return str(address)
    mapped = address.ipv4_mapped
    return str(mapped or ipaddress.ip_network((int(address) >> 64 << 64, 64)))


def _bucket_for(request: HttpRequest, name: str) -> Bucket | None:
    limit, window = settings.RATE_LIMITS[name]
    if not limit:
        return None
    if getattr(request, "scope", {}).get(SYNTHETIC):
        metrics.rate_limits.labels(name, "exempt").inc()
        return None
    return Bucket(name=name, limit=limit, window=window)


def _judge(verdict: Verdict) -> Mapping[str, str]:
    if verdict.allowed:
        return verdict.headers
    seconds = verdict.headers["Retry-After"]
    error = RateLimited(f"Try again in {seconds} s.")
    error.headers = verdict.headers
    raise error


def _verdict(bucket: Bucket, answer: Any) -> Verdict:
    if not isinstance(answer, list):
        metrics.rate_limits.labels(bucket.name, "failed_open").inc()
        return Verdict(bucket=bucket, failed_open=True)
    allowed, remaining, retry_after, full_after = map(int, answer)
    metrics.rate_limits.labels(bucket.name, "allowed" if allowed else "refused").inc()
    return Verdict(
        bucket=bucket,
        allowed=bool(allowed),
        remaining=remaining,
        retry_after=retry_after / 1e6,
        full_after=full_after / 1e6,
    )
