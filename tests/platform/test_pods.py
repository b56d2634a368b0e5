"""Each pod: restricted, probed, with graces that add up, and with the settings the app asks for."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.platform.chart import (
    LOOKS_AT_THE_CHART,
    PRODUCTION,
    PROFILES,
    Document,
    Pod,
    documents,
    one,
    pods,
)
from tests.platform.restricted import violations

pytestmark = LOOKS_AT_THE_CHART

ALL = [(PRODUCTION, None), *(((), profile) for profile in PROFILES)]


@pytest.mark.parametrize(("sets", "profile"), ALL, ids=["production", *PROFILES])
def test_every_pod_is_restricted(sets: tuple[str, ...], profile: str | None) -> None:
    found = list(pods(documents(*sets, profile=profile)))
    assert len(found) >= 6
    assert [wrong for pod in found for wrong in violations(pod)] == []


def _container(change: Callable[[Document], Any]) -> Callable[[Document], Any]:
    return lambda spec: change(spec["containers"][0])


BREACHES: dict[str, Callable[[Document], Any]] = {
    "runAsNonRoot is not True": lambda s: s["securityContext"].pop("runAsNonRoot"),
    "runAsUser is not 10001": lambda s: s["securityContext"].update(runAsUser=0),
    "seccompProfile is not": lambda s: s["securityContext"].pop("seccompProfile"),
    "hostNetwork is on": lambda s: s.update(hostNetwork=True),
    "automountServiceAccountToken is not": lambda s: s.pop("automountServiceAccountToken"),
    "enableServiceLinks is not": lambda s: s.pop("enableServiceLinks"),
    "default service account": lambda s: s.pop("serviceAccountName"),
    "hostPath": lambda s: s["volumes"].append({"name": "x", "hostPath": {"path": "/"}}),
    "without sizeLimit": lambda s: s["volumes"].append({"name": "x", "emptyDir": {}}),
    "allowPrivilegeEscalation": _container(
        lambda c: c["securityContext"].pop("allowPrivilegeEscalation")
    ),
    "readOnlyRootFilesystem": _container(
        lambda c: c["securityContext"].update(readOnlyRootFilesystem=False)
    ),
    "capabilities": _container(lambda c: c["securityContext"].update(capabilities={})),
    "privileged is set": _container(lambda c: c["securityContext"].update(privileged=True)),
    "terminationMessagePolicy": _container(lambda c: c.pop("terminationMessagePolicy")),
    "no requests.cpu": _container(lambda c: c["resources"]["requests"].pop("cpu")),
    "without a version": _container(lambda c: c.update(image="registry:5000/shop")),
}


@pytest.mark.parametrize("breach", BREACHES)
def test_the_check_sees_each_breach(breach: str) -> None:
    pod = next(pods(documents(profile="values-ci.yaml")))
    spec = copy.deepcopy(pod.spec)
    BREACHES[breach](spec)
    found = violations(Pod(pod.owner, pod.labels, spec))
    assert len(found) == 1
    assert breach in found[0]


def test_web_stops_within_its_grace_period() -> None:
    sets = ("web.preStopSeconds=7", "web.drainSeconds=20")
    web = one(documents(*sets, profile="values-ci.yaml"), "Deployment", "-web")["spec"]
    spec = web["template"]["spec"]
    [container] = spec["containers"]
    assert spec["terminationGracePeriodSeconds"] == 7 + 20 + 15
    assert container["lifecycle"] == {"preStop": {"sleep": {"seconds": 7}}}
    assert {"name": "GRACEFUL_SECONDS", "value": "20"} in container["env"]
    assert web["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_web_probes_ask_the_right_questions() -> None:
    web = one(documents(profile="values-ci.yaml"), "Deployment", "-web")["spec"]["template"]
    [container] = web["spec"]["containers"]
    paths = {
        probe: container[f"{probe}Probe"]["httpGet"]["path"]
        for probe in ("startup", "readiness", "liveness")
    }
    assert paths == {"startup": "/livez", "readiness": "/readyz", "liveness": "/livez"}


@pytest.mark.parametrize("profile", PROFILES)
def test_every_long_running_container_is_probed_patiently(profile: str) -> None:
    for pod in pods(documents(profile=profile)):
        for container in pod.spec["containers"]:
            if not pod.owner.startswith("Job/"):
                assert container["livenessProbe"]["timeoutSeconds"] >= 5, pod.owner
                start = container["startupProbe"]
                assert start["periodSeconds"] * start["failureThreshold"] >= 90, pod.owner


def test_processes_wait_for_the_schema_and_migrate_does_not() -> None:
    waiting = {
        pod.labels["app.kubernetes.io/component"]
        for pod in pods(documents(profile="values-ci.yaml"))
        if [c["name"] for c in pod.spec.get("initContainers", [])] == ["wait-for-schema"]
    }
    assert waiting == {"web", "worker", "relay", "seed"}


def test_a_slow_migration_does_not_count_as_a_failed_rollout() -> None:
    for document in documents("migrations.deadlineSeconds=1800", profile="values-ci.yaml"):
        spec = document.get("spec", {})
        if document["kind"] == "Deployment" and "initContainers" in spec["template"]["spec"]:
            assert spec["progressDeadlineSeconds"] > 1800


def test_no_password_stands_in_a_pod_or_a_config_map() -> None:
    rendered = documents(profile="values-dev.yaml")
    secrets = [d for d in rendered if d["kind"] == "Secret"]
    values = [value for secret in secrets for value in secret["stringData"].values()]
    assert len(values) == 5
    others = str([d for d in rendered if d["kind"] != "Secret"])
    assert [value for value in values if value in others] == []


def test_existing_secrets_replace_all_of_the_chart() -> None:
    rendered = documents(*PRODUCTION)
    assert not [d for d in rendered if d["kind"] == "Secret"]
    web = one(rendered, "Deployment", "-web")["spec"]["template"]["spec"]["containers"][0]
    refs = {
        e["name"]: e["valueFrom"]["secretKeyRef"]
        for e in web["env"]
        if "secretKeyRef" in e.get("valueFrom", {})
    }
    assert refs == {
        "SECRET_KEY": {"name": "app-secret", "key": "secret-key"},
        "DATABASE_PASSWORD": {"name": "postgres-secret", "key": "app-a-password"},
        "QUEUE_PASSWORD": {"name": "valkey-secret", "key": "queue-password"},
        "CACHE_PASSWORD": {"name": "valkey-secret", "key": "queue-password"},
    }


def test_clients_are_limited_only_where_their_addresses_are_known() -> None:
    """Behind an ingress that is not trusted all of them would share its address, and one limit."""
    settings = one(documents(profile="values-dev.yaml"), "ConfigMap", "-settings")["data"]
    assert settings["CACHE_URL"] == settings["QUEUE_URL"]
    assert settings["RATE_LIMIT_CHECKOUT"] == "0"
    trusted = documents("app.trustedProxies={10.0.0.0/8}", profile="values-dev.yaml")
    assert "RATE_LIMIT_CHECKOUT" not in one(trusted, "ConfigMap", "-settings")["data"]


def test_the_other_login_role_brings_its_password() -> None:
    rendered = documents("postgres.login=app_b", profile="values-dev.yaml")
    settings = one(rendered, "ConfigMap", "-settings")["data"]
    assert settings["DATABASE_URL"].startswith("postgresql://app_b@shop-fashionistar-postgres:")
    web = one(rendered, "Deployment", "-web")["spec"]["template"]["spec"]["containers"][0]
    password = next(e for e in web["env"] if e["name"] == "DATABASE_PASSWORD")
    assert password["valueFrom"]["secretKeyRef"]["key"] == "app-b-password"


@pytest.mark.parametrize("component", ["web", "worker", "relay"])
def test_traces_say_where_they_come_from(component: str) -> None:
    rendered = documents("image.tag=v7", profile="values-ci.yaml")
    pod = next(p for p in pods(rendered) if p.labels["app.kubernetes.io/component"] == component)
    [container] = pod.spec["containers"]
    env = {e["name"]: e.get("value") for e in container["env"]}
    assert env["OTEL_SERVICE_NAME"] == f"fashionistar-{component}"
    assert env["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://otel-collector.tracing:4318"
    pairs = dict(pair.split("=", 1) for pair in str(env["OTEL_RESOURCE_ATTRIBUTES"]).split(","))
    assert pairs["service.version"] == "v7"
    assert pairs["k8s.pod.name"] == "$(POD_NAME)"
    assert pairs["deployment.environment.name"] == "ci"
    names = [e["name"] for e in container["env"]]
    assert names.index("POD_NAME") < names.index("OTEL_RESOURCE_ATTRIBUTES")
    assert {"name": "metrics", "containerPort": 9464} in container["ports"]


def test_the_queue_cluster_syncs_every_write_and_evicts_nothing() -> None:
    rendered = documents(profile="values-ci.yaml")
    lines = one(rendered, "ConfigMap", "-valkey-queue")["data"]["valkey.conf"].splitlines()
    assert {"appendonly yes", "appendfsync always", "maxmemory-policy noeviction"} <= set(lines)
    assert one(rendered, "StatefulSet", "-valkey-queue")["spec"]["replicas"] == 1


def test_the_demo_brings_its_mail_server_and_nothing_else_does() -> None:
    def email(sets: tuple[str, ...], profile: str | None) -> str:
        return str(one(documents(*sets, profile=profile), "ConfigMap", "-settings")["data"])

    assert "smtp://shop-fashionistar-fakes:1025" in email((), "values-dev.yaml")
    assert "smtp://mail.test:25" in email(PRODUCTION, None)
    assert "fakes" not in str(documents(*PRODUCTION))


def _millicores(quantity: object) -> float:
    text = str(quantity)
    return float(text[:-1]) if text.endswith("m") else float(text) * 1000


def test_the_ci_profile_fits_beside_the_add_ons() -> None:
    """The scheduler counts, per pod, the larger of its init containers and its containers."""
    cpu = memory = 0.0
    for document in documents(profile="values-ci.yaml"):
        for pod in pods([document]):
            replicas = document["spec"].get("replicas", 1)
            wanted = [c["resources"]["requests"] for c in pod.containers()]
            cpu += replicas * max(_millicores(r["cpu"]) for r in wanted)
            memory += replicas * max(float(r["memory"].removesuffix("Mi")) for r in wanted)
    assert cpu <= 1600
    assert memory <= 5 * 1024
