"""What `up` is going to run, from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from devstack.environment import given_settings
from devstack.errors import DevstackError
from devstack.ports import HOST, require_free
from devstack.stack import Parts, Ports, Stack
from devstack.valkey import PRIMARIES

QUEUES = "default,orders,emails,sms,logistics,ai"
PRODUCTS = 200
_BUS_OFFSET = 10000


@dataclass(frozen=True, slots=True)
class Plan:
    """Ports, and which servers are somebody else's."""

    state: Path
    api_port: int
    metrics_port: int  # of the API; relay and worker have the next two
    ports: Ports
    given: dict[str, str]  # settings of the app that the caller has set

    @classmethod
    def from_environment(cls, state: Path) -> Plan:
        """Defaults, or API_PORT, POSTGRES_PORT, VALKEY_PORT, SMTP_PORT, … where set."""
        valkey = _port("VALKEY_PORT", 7100, last=65535 - _BUS_OFFSET - PRIMARIES)
        nodes = tuple(range(valkey, valkey + PRIMARIES))
        ports = Ports(
            postgres=_port("POSTGRES_PORT", 54320),
            valkey=nodes,
            valkey_bus=tuple(port + _BUS_OFFSET for port in nodes),
            smtp=_port("SMTP_PORT", 2525),
            smtp_http=_port("SMTP_HTTP_PORT", 8025),
        )
        api, metrics = _port("API_PORT", 8000), _port("METRICS_PORT", 9464, last=65533)
        return cls(state, api, metrics, ports, given_settings(os.environ))

    @property
    def parts(self) -> Parts:
        """A server whose URL is given is not started."""
        return Parts(
            postgres="DATABASE_URL" not in self.given,
            valkey="QUEUE_URL" not in self.given,
            smtp="EMAIL_URL" not in self.given,
        )

    @property
    def api_url(self) -> str:
        """Where the API answers."""
        return f"http://{HOST}:{self.api_port}"

    @property
    def metrics_urls(self) -> dict[str, str]:
        """By process."""
        names = ("serve", "run_relay", "run_worker")
        return {n: f"http://{HOST}:{self.metrics_port + i}/metrics" for i, n in enumerate(names)}

    @property
    def real_servers(self) -> list[str]:
        """`DATABASE_URL (db.example.com)` for each server that is not ours, without passwords."""
        names = ("DATABASE_URL", "QUEUE_URL", "EMAIL_URL")
        return [f"{n} ({_hosts(self.given[n])})" for n in names if n in self.given]

    def settings(self, stack: Stack) -> dict[str, str]:
        """All settings of the app's processes but METRICS_PORT."""
        own = stack.settings(PUBLIC_BASE_URL=self.api_url)
        del own["METRICS_PORT"]
        settings = own | self.given
        if "QUEUE_URL" in self.given and "CACHE_URL" not in self.given:
            for part in ("URL", "PASSWORD", "CA_FILE"):  # the cache lives beside the queue
                settings[f"CACHE_{part}"] = settings.get(f"QUEUE_{part}", "")
        return settings

    def require_ports(self) -> None:
        """DevstackError for the first port that somebody else uses."""
        for port, use, variable in self._listeners():
            require_free(port, use=use, variable=variable)

    def _listeners(self) -> list[tuple[int, str, str]]:
        ports = self.ports
        found = [(self.api_port, "the API", "API_PORT")]
        found += [(self.metrics_port + n, "metrics", "METRICS_PORT") for n in range(3)]
        if self.parts.postgres:
            found.append((ports.postgres, "PostgreSQL", "POSTGRES_PORT"))
        if self.parts.valkey:
            found += [(port, "Valkey", "VALKEY_PORT") for port in ports.valkey]
            found += [(port, "Valkey's cluster bus", "VALKEY_PORT") for port in ports.valkey_bus]
        if self.parts.smtp:
            found.append((ports.smtp, "the SMTP sink", "SMTP_PORT"))
            found.append((ports.smtp_http, "the SMTP sink's messages", "SMTP_HTTP_PORT"))
        return found


def _port(variable: str, default: int, *, last: int = 65535) -> int:
    text = os.environ.get(variable) or str(default)
    if not text.isdecimal() or not 1 <= int(text) <= last:
        raise DevstackError(
            f"{variable}={text} is no port: take a number from 1 to {last}, e.g. {default}."
        )
    return int(text)


def _hosts(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


def describe(plan: Plan, settings: Mapping[str, str]) -> dict[str, str]:
    """The content of `.devstack/env`: the settings and where everything answers."""
    urls = {"API_URL": plan.api_url, "METRICS_URL": plan.metrics_urls["serve"]}
    urls |= {
        "METRICS_URL_RELAY": plan.metrics_urls["run_relay"],
        "METRICS_URL_WORKER": plan.metrics_urls["run_worker"],
    }
    if plan.parts.smtp:
        urls["SMTP_SINK_URL"] = f"http://{HOST}:{plan.ports.smtp_http}"
    return dict(settings) | urls
