"""What the SMTP sink received."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any

from tests.support.waiting import wait_until


@dataclass(frozen=True, slots=True)
class Mailbox:
    """One sink, seen over HTTP. A message: from, to, subject, message_id, headers, text,
    received_at.
    """

    url: str

    def messages(self, *, to: str = "") -> list[dict[str, Any]]:
        """Oldest first; `to` keeps those for one recipient."""
        query = f"?{urllib.parse.urlencode({'to': to})}" if to else ""
        found: list[dict[str, Any]] = self._call("GET", f"/messages{query}")
        return found

    def wait_for(
        self, count: int = 1, *, to: str = "", timeout: float = 15.0
    ) -> list[dict[str, Any]]:
        """Wait until at least `count` messages are there and return all of them."""

        def enough() -> list[dict[str, Any]]:
            found = self.messages(to=to)
            return found if len(found) >= count else []

        return wait_until(enough, timeout=timeout, what=f"{count} messages to {to or 'anybody'}")

    def script(self, **fault: Any) -> None:
        """Add a fault, e.g. `script(code=451, times=2)`; the members are described in
        fakes/smtp.py.
        """
        self._call("POST", "/faults", fault)

    def clear(self) -> None:
        """Forget messages and faults."""
        self._call("DELETE", "/messages")
        self._call("DELETE", "/faults")

    def _call(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method)
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)
