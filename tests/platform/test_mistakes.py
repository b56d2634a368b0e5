"""Wrong values stop the install and say how to mend them; the mended values render."""

from __future__ import annotations

import pytest

from tests.platform.chart import LOOKS_AT_THE_CHART, PRODUCTION, SECRETS, refusal, text

pytestmark = LOOKS_AT_THE_CHART

TYPOS = {
    "web.replica=2": ["/web", "replica"],
    "web.replicas=two": ["/web/replicas"],
    "web.resources.requests.cpus=1": ["/web/resources/requests", "cpus"],
    "web.resources.requests.memory=1GB": ["/web/resources/requests/memory"],
    "webs.replicas=2": ["webs"],
    "image.tag=": None,
    "image.digest=abc": ["/image/digest"],
    "image.pullPolicy=Sometimes": ["/image/pullPolicy"],
    "ingress.hosts=shop.test": ["/ingress/hosts"],
    "ingress.hosts={Shop.test}": ["/ingress/hosts/0"],
    "workers.default.queues={}": ["/workers/default/queues"],
    "workers.Emails.concurrency=1": ["/workers"],
    "workers.default.concurrency=0": ["/workers/default/concurrency"],
    "postgres.login=root": ["/postgres/login"],
    "postgres.bundled.storage.sise=1Gi": ["/postgres/bundled/storage", "sise"],
    "valkey.queue.maxmemory=1Gi": ["/valkey/queue/maxmemory"],
    "valkey.image.tag=": ["/valkey/image/tag"],
    "telemetry.hotRatio=2": ["/telemetry/hotRatio"],
    "telemetry.otlpEndpoint=collector:4318": ["/telemetry/otlpEndpoint"],
    "app.publicBaseUrl=shop.test": ["/app/publicBaseUrl"],
    "email.url=mail.test": ["/email/url"],
    "demo.enabled=maybe": ["/demo/enabled"],
    "relay.drainSeconds=null": ["/relay", "drainSeconds"],
    "global.anything=1": None,
    "enabled=true": None,
}


@pytest.mark.parametrize("mistake", TYPOS)
def test_a_typo_or_a_wrong_type_fails_with_its_path(mistake: str) -> None:
    expected = TYPOS[mistake]
    if expected is None:
        text(*PRODUCTION, mistake)
        return
    message = refusal(*PRODUCTION, mistake)
    assert "values don't meet the specifications of the schema" in message
    for part in expected:
        assert part.replace("/", ".").strip(".") in message.replace("/", "."), message


COMMANDS = {
    "app.existingSecret": (
        "kubectl create secret generic shop-fashionistar-app --namespace shops"
        ' --from-literal=secret-key="$(openssl rand -hex 24)"'
    ),
    "postgres.existingSecret": (
        "kubectl create secret generic shop-fashionistar-postgres --namespace shops"
        ' --from-literal=superuser-password="$(openssl rand -hex 24)"'
        ' --from-literal=app-a-password="$(openssl rand -hex 24)"'
        ' --from-literal=app-b-password="$(openssl rand -hex 24)"'
    ),
    "valkey.existingSecret": (
        "kubectl create secret generic shop-fashionistar-valkey --namespace shops"
        ' --from-literal=queue-password="$(openssl rand -hex 24)"'
    ),
}


@pytest.mark.parametrize("missing", COMMANDS)
def test_a_missing_secret_names_the_command_that_makes_it(missing: str) -> None:
    others = [item for item in PRODUCTION if not item.startswith(missing)]
    message = refusal(*others)
    lines = [line.strip() for line in message.splitlines()]
    assert COMMANDS[missing] in lines
    assert sum(line.startswith("kubectl") for line in lines) == 1
    fix = next(line for line in lines if missing in line).partition("--set ")[2]
    text(*others, fix)


def test_all_missing_secrets_are_named_at_once() -> None:
    message = refusal(*(item for item in PRODUCTION if item not in SECRETS))
    for command in COMMANDS.values():
        assert command in message
    text(*(i for i in PRODUCTION if i not in SECRETS), "dev.insecureSecrets=true")


HOSTLESS = tuple(i for i in PRODUCTION if not i.startswith("ingress.hosts"))
FIXES = {
    "no mail server is named": (PRODUCTION, "email.url=", "email.url=smtp://mail.example.com:25"),
    "the Ingress needs at least one host name": (
        HOSTLESS,
        "app.publicBaseUrl=http://a.test",
        "ingress.hosts={shop.example.com}",
    ),
    "where do clients reach the shop?": (
        HOSTLESS,
        "ingress.enabled=false",
        "app.publicBaseUrl=https://shop.example.com",
    ),
    "names no version": (PRODUCTION, "image.tag=latest", "image.tag=v1.2.3"),
}


@pytest.mark.parametrize("message", FIXES)
def test_a_mistake_in_the_whole_names_its_fix(message: str) -> None:
    values, mistake, fix = FIXES[message]
    assert message in refusal(*values, mistake)
    text(*values, mistake, fix)
