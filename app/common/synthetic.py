"""Requests of load generators: `X-Synthetic: <unix time of its end>.<HMAC-SHA256, hex>`.

Generators share one address, so whoever holds SYNTHETIC_KEY is exempt from rate limits, and marked
in log and span. A shell can sign, too:
`end=$(($(date +%s) + 600)); echo $end.$(printf synthetic.$end | openssl dgst -sha256 -hmac KEY -r)`
(without what follows the first space).
"""

import hmac
import time
from collections.abc import Callable

HEADER = "X-Synthetic"
LONGEST = 3600
"""Seconds that a signature may be valid, so that one which leaks is soon worthless."""


def sign(key: str, *, seconds: int = 600) -> str:
    """A header value that is valid for `seconds`, at most LONGEST."""
    end = str(int(time.time()) + min(seconds, LONGEST))
    return f"{end}.{_signature(key, end)}"


def checker(key: str) -> Callable[[str], bool] | None:
    """Tells valid header values from others; None without a key: the header means nothing then."""
    if not key:
        return None

    def is_synthetic(value: str) -> bool:
        end, _, signature = value.partition(".")
        if not (end.isascii() and end.isdigit() and len(end) <= 12 and signature.isascii()):
            return False
        if not 0 < int(end) - time.time() <= LONGEST:
            return False
        return hmac.compare_digest(signature, _signature(key, end))

    return is_synthetic


def _signature(key: str, end: str) -> str:
    return hmac.digest(key.encode(), f"synthetic.{end}".encode(), "sha256").hex()
