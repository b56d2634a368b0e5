"""Renders of the chart, and the parts of Kubernetes objects that the tests look at."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import yaml

from tests.platform import helm

CHART = helm.ROOT / "charts" / "fashionistar"
PROFILES = ("values-dev.yaml", "values-ci.yaml")
LOOKS_AT_THE_CHART = pytest.mark.skipif(
    helm.binary() is None, reason="NO HELM: `make chart` puts one into .tools/"
)

type Document = dict[str, Any]

SECRETS = (
    "app.existingSecret=app-secret",
    "postgres.existingSecret=postgres-secret",
    "valkey.existingSecret=valkey-secret",
)
"""What the default values need besides."""
PRODUCTION = (
    *SECRETS,
    "email.url=smtp://mail.test:25",
    "ingress.enabled=true",
    "ingress.hosts={shop.test}",
    "telemetry.podMonitor.enabled=true",
)


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod template and where it stands."""

    owner: str
    labels: dict[str, str]
    spec: Document

    def containers(self) -> list[Document]:
        """Init containers and containers."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]


@cache
def text(
    *sets: str, profile: str | None = None, release: str = "shop", namespace: str = "shops"
) -> str:
    """The rendered chart. AssertionError with helm's message when it does not render."""
    done = _template(sets, profile, release, namespace)
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def _documents(sets: tuple[str, ...], profile: str | None, release: str) -> list[Document]:
    rendered = text(*sets, profile=profile, release=release)
    return [document for document in yaml.safe_load_all(rendered) if document]


def documents(*sets: str, profile: str | None = None, release: str = "shop") -> list[Document]:
    """The rendered objects, a copy of their own."""
    return copy.deepcopy(_documents(sets, profile, release))


def refusal(*sets: str, profile: str | None = None) -> str:
    """Helm's message for values that must not render."""
    done = _template(sets, profile, "shop", "shops")
    assert done.returncode != 0, "these values rendered"
    return done.stderr


def one(documents: list[Document], kind: str, suffix: str) -> Document:
    """The only object of that kind whose name ends so."""
    found = [d for d in documents if d["kind"] == kind and d["metadata"]["name"].endswith(suffix)]
    assert len(found) == 1, [d["metadata"]["name"] for d in documents if d["kind"] == kind]
    return found[0]


def job_name(documents: list[Document], component: str) -> str:
    """The name of the Job of that component."""
    names = [
        d["metadata"]["name"]
        for d in documents
        if d["kind"] == "Job" and d["metadata"]["labels"][COMPONENT] == component
    ]
    assert len(names) == 1, names
    return str(names[0])


COMPONENT = "app.kubernetes.io/component"


def pods(documents: list[Document]) -> Iterator[Pod]:
    """The pod templates of all workloads."""
    for document in documents:
        template = document.get("spec", {}).get("template")
        if document["kind"] in {"Deployment", "StatefulSet", "DaemonSet", "Job"} and template:
            owner = f"{document['kind']}/{document['metadata']['name']}"
            yield Pod(owner, template["metadata"]["labels"], template["spec"])


def _template(sets: tuple[str, ...], profile: str | None, release: str, namespace: str) -> Any:
    arguments = ["template", release, str(CHART), "--namespace", namespace]
    if profile:
        arguments += ["--values", str(CHART / profile)]
    for item in sets:
        arguments += ["--set", item]
    return helm.run(*arguments)
