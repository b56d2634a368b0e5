"""The chart as a whole: deterministic, hook-free, named and labelled so that it can grow."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.platform import helm
from tests.platform.chart import (
    CHART,
    COMPONENT,
    LOOKS_AT_THE_CHART,
    PRODUCTION,
    PROFILES,
    Document,
    documents,
    job_name,
    one,
    pods,
    text,
)

pytestmark = LOOKS_AT_THE_CHART

ALL = [(PRODUCTION, None), *(((), profile) for profile in PROFILES)]
LABELS = ["name", "instance", "component", "managed-by"]


@pytest.mark.parametrize(("sets", "profile"), ALL, ids=["production", *PROFILES])
def test_two_renders_give_the_same_bytes(sets: tuple[str, ...], profile: str | None) -> None:
    first = text(*sets, profile=profile)
    text.cache_clear()
    assert text(*sets, profile=profile) == first


def test_no_template_asks_the_clock_the_dice_or_the_cluster() -> None:
    forbidden = re.compile(
        r"\b(rand\w+|now|lookup|gen(PrivateKey|SelfSigned\w+|CA\w*|SignedCert\w*)|uuidv4"
        r"|bcrypt|htpasswd|unixEpoch|ago)\b(?=[^}]*}})|\.Capabilities|helm\.sh/hook"
    )
    for template in (CHART / "templates").rglob("*"):
        if template.suffix in {".yaml", ".tpl"}:
            assert not forbidden.search(template.read_text()), template.name


@pytest.mark.parametrize("profile", PROFILES)
def test_lint(profile: str) -> None:
    done = helm.run("lint", str(CHART), "--strict", "--values", str(CHART / profile))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout


@pytest.mark.parametrize(("sets", "profile"), ALL, ids=["production", *PROFILES])
def test_selectors_pick_exactly_the_pods_of_their_owner(
    sets: tuple[str, ...], profile: str | None
) -> None:
    rendered = documents(*sets, profile=profile)
    everyone = list(pods(rendered))
    for document in rendered:
        selector = document["spec"].get("selector", {}) if "spec" in document else {}
        wanted = selector.get("matchLabels", selector)
        if not wanted:
            continue
        picked = {p.owner for p in everyone if wanted.items() <= p.labels.items()}
        assert picked == _expected(document, {p.owner for p in everyone}), document["metadata"]


def _expected(document: Document, everyone: set[str]) -> set[str]:
    kind, name = document["kind"], document["metadata"]["name"]
    if kind == "PodMonitor":
        return everyone
    if kind == "Service":
        base = name.removesuffix("-pods")
        return {owner for owner in everyone if owner.partition("/")[2] == base}
    return {f"{kind}/{name}"}


@pytest.mark.parametrize(("sets", "profile"), ALL, ids=["production", *PROFILES])
def test_every_object_and_pod_carries_the_four_labels(
    sets: tuple[str, ...], profile: str | None
) -> None:
    wanted = {f"app.kubernetes.io/{label}" for label in LABELS}
    rendered = documents(*sets, profile=profile)
    for document in rendered:
        assert wanted <= document["metadata"]["labels"].keys(), document["metadata"]["name"]
    for pod in pods(rendered):
        assert wanted <= pod.labels.keys(), pod.owner


def test_claims_carry_only_labels_that_never_change() -> None:
    for document in documents(*PRODUCTION):
        for claim in document.get("spec", {}).get("volumeClaimTemplates", []):
            labels = {f"app.kubernetes.io/{label}" for label in LABELS[:3]}
            assert claim["metadata"]["labels"].keys() == labels


@pytest.mark.parametrize("release", ["shop", "a", "r" * 53, "fashionistar"])
def test_names_stay_within_52_characters_and_differ(release: str) -> None:
    group = "workers.a-group-of-20-chars1"
    sets = [f"{group}.{key}" for key in ("queues={ai}", "concurrency=1", "replicas=1")]
    sets += [f"{group}.{key}" for key in ("drainSeconds=9", "resources.limits.memory=1Gi")]
    sets += [f"{group}.resources.requests.{key}" for key in ("cpu=1", "memory=1Gi")]
    found = [
        (d["kind"], d["metadata"]["name"])
        for d in documents(*sets, profile="values-dev.yaml", release=release)
    ]
    assert len(set(found)) == len(found)
    assert max(len(name) for _, name in found) <= 52
    assert all(re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", name) for _, name in found)


def test_long_releases_of_one_namespace_do_not_meet() -> None:
    first, second = (
        {(d["kind"], d["metadata"]["name"]) for d in documents(profile=PROFILES[0], release=name)}
        for name in ("r" * 52 + "1", "r" * 52 + "2")
    )
    assert not first & second


def test_the_roles_are_those_of_the_repository() -> None:
    config = one(documents(profile="values-dev.yaml"), "ConfigMap", "-postgres")
    assert config["data"]["roles.sql"] == (CHART / "files" / "roles.sql").read_text()


def test_scripts_in_config_maps_parse() -> None:
    scripts = [
        body
        for document in documents(profile="values-dev.yaml")
        if document["kind"] == "ConfigMap"
        for name, body in document["data"].items()
        if name.endswith(".sh")
    ]
    assert len(scripts) == 2
    for body in scripts:
        done = subprocess.run(["sh", "-n"], input=body, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr


def test_the_migrate_job_is_named_by_what_it_runs() -> None:
    base = documents("image.tag=v1", profile="values-dev.yaml")
    name = job_name(base, "migrate")
    same = ["web.replicas=7", "app.logLevel=DEBUG", "demo.products=5", "telemetry.hotRatio=0.5"]
    for change in same:
        changed = documents("image.tag=v1", change, profile="values-dev.yaml")
        assert job_name(changed, "migrate") == name, change
    other = ["image.tag=v2", "postgres.database=other", "migrations.backoffLimit=1"]
    for change in other:
        changed = documents("image.tag=v1", change, profile="values-dev.yaml")
        assert job_name(changed, "migrate") != name, change


def test_one_name_is_one_job_spec() -> None:
    """A Job's spec cannot be changed, so equal names must mean equal specs."""
    seen: dict[str, Document] = {}
    changes = ["image.tag=v1", "web.replicas=3", "app.extraEnv[0].name=A", "postgres.login=app_b"]
    changes += ["email.existingSecret=mail", "imagePullSecrets[0].name=a", "demo.products=7"]
    for change in changes:
        for document in documents(change, profile="values-dev.yaml"):
            if document["kind"] == "Job":
                name = document["metadata"]["name"]
                assert seen.setdefault(name, document["spec"]) == document["spec"], change


def test_jobs_are_not_deleted_behind_git_ops() -> None:
    for document in documents(profile="values-dev.yaml"):
        if document["kind"] == "Job":
            assert "ttlSecondsAfterFinished" not in document["spec"]
            assert document["spec"]["activeDeadlineSeconds"] > 0


def test_a_changed_setting_rolls_the_pods_that_read_it() -> None:
    def annotations(change: str) -> dict[str, str]:
        return {
            d["metadata"]["labels"][COMPONENT]: str(d["spec"]["template"]["metadata"])
            for d in documents(change, profile="values-dev.yaml")
            if d["kind"] in {"Deployment", "StatefulSet"}
        }

    before = annotations("app.logLevel=INFO")
    after = annotations("app.logLevel=DEBUG")
    changed = {component for component in before if before[component] != after[component]}
    assert changed == {"web", "worker", "relay"}
    assert annotations("valkey.queue.maxmemory=64mb")["valkey-queue"] != before["valkey-queue"]
