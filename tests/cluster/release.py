"""The release under test: its images, its namespace, its way in and out."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import yaml

from tests.cluster.where import Cluster, until
from tests.proofs.harness import ROOT, say

CHART = "charts/fashionistar"
HOST = "shop.test"
IMAGE_LIMIT = 250_000_000
"""Bytes of the product's image, unpacked."""
RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"
LEFT_ALONE = (
    "persistentvolumeclaim/",
    "event",
    "configmap/kube-root-ca.crt",
    "serviceaccount/default",
)
"""What may stay behind: the claims, and what every namespace has."""


FATAL = {"CreateContainerConfigError", "ErrImageNeverPull", "ImagePullBackOff", "InvalidImageName"}


@dataclass(slots=True)
class Release:
    """One installation in a namespace of its own."""

    cluster: Cluster
    name: str = "shop"
    namespace: str = ""
    images: dict[str, str] = field(default_factory=dict)
    """Repository -> full name."""
    image_bytes: int = 0
    installed: bool = False

    def __post_init__(self) -> None:
        self.namespace = self.namespace or f"fashionistar-test-{time.time_ns() % 1_000_000:06d}"

    def kubectl(self, *arguments: str, seconds: float = 60, check: bool = True) -> str:
        """kubectl in the release's namespace."""
        return self.cluster.kubectl(
            "--namespace", self.namespace, *arguments, seconds=seconds, check=check
        )

    def get(self, kind: str) -> list[dict[str, Any]]:
        """The objects of that kind."""
        return list(json.loads(self.kubectl("get", kind, "--output", "json"))["items"])

    def build(self) -> None:
        """Build both images; RuntimeError when the product's is too big."""
        names = self.cluster.run("bash", "docker/build.sh", seconds=240).split()
        self.images = {name.rpartition(":")[0]: name for name in names}
        image = self.images["fashionistar"]
        self.image_bytes = int(_docker("image", "inspect", "--format", "{{.Size}}", image))
        say(f"cluster-test:   {' '.join(names)}, {self.image_bytes / 1e6:.0f} MB")
        if self.image_bytes >= IMAGE_LIMIT:
            raise RuntimeError(f"{image} has {self.image_bytes / 1e6:.0f} MB, 250 are allowed")

    def load(self) -> None:
        """Put every image the chart names onto the nodes that lack it, where there is a way."""
        wanted = [*self.images.values(), *self._foreign_images()]
        if self.cluster.load:
            lacking = [image for image in wanted if not self._on_every_node(image)]
            local = [image for image in lacking if _docker("image", "ls", "--quiet", image)]
            if local:
                self.cluster.run(*self.cluster.load, *local, seconds=240)

    def _foreign_images(self) -> list[str]:
        values = yaml.safe_load((ROOT / CHART / "values.yaml").read_text())
        found = values["postgres"]["bundled"]["image"], values["valkey"]["image"]
        return [f"{image['repository']}:{image['tag']}" for image in found]

    def _on_every_node(self, image: str) -> bool:
        nodes = json.loads(self.cluster.kubectl("get", "nodes", "--output", "json"))["items"]
        return all(
            any(
                name.endswith(f"/{image}")
                for entry in node["status"]["images"]
                for name in entry["names"]
            )
            for node in nodes
        )

    def make_namespace(self) -> None:
        """A namespace that refuses every pod that is not `restricted`."""
        self.cluster.kubectl("create", "namespace", self.namespace)
        self.cluster.kubectl("label", "namespace", self.namespace, RESTRICTED)

    def install(self, sets: list[str], *, ingress_class: str, seconds: float) -> None:
        """`helm install --wait` with the ci profile, telling who is ready meanwhile."""
        command = ["helm", "install", self.name, CHART, "--namespace", self.namespace]
        command += ["--values", f"{CHART}/values-ci.yaml", "--wait", "--timeout", f"{seconds:.0f}s"]
        tags = {"image": "fashionistar", "demo.fakes.image": "fashionistar-fakes"}
        values = [f"{key}.tag={self.images[name].rpartition(':')[2]}" for key, name in tags.items()]
        values += [f"ingress.hosts={{{HOST}}}", f"telemetry.otlpEndpoint={self.cluster.otlp}"]
        values += [f"ingress.className={ingress_class}", *sets]
        for value in values:
            command += ["--set", value]
        self.installed = True
        with subprocess.Popen(
            command,
            cwd=ROOT,
            env=self.cluster.env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process:
            self._watch(process, seconds + 20)
            output = process.communicate(timeout=10)[0]
        if process.returncode:
            raise RuntimeError(f"helm install: {output.strip()}")

    def _watch(self, process: subprocess.Popen[str], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        shown = ""
        while process.poll() is None:
            if time.monotonic() > deadline:
                process.terminate()
                raise RuntimeError(f"helm install did not end within {seconds:.0f} s")
            try:
                process.wait(2)
            except subprocess.TimeoutExpired:
                pods = self.get("pods")
                if reason := hopeless(pods):
                    process.terminate()
                    raise RuntimeError(f"helm install cannot succeed: {reason}") from None
                line = readiness(pods)
                if line != shown:
                    say(f"cluster-test:   {line}")
                    shown = line

    def check_restarts(self) -> None:
        """RuntimeError when a container had to be started twice, or a Job's pod failed."""
        for pod in self.get("pods"):
            failed = pod["status"]["phase"] == "Failed"
            for entry in statuses(pod):
                if entry["restartCount"] or failed:
                    raise RuntimeError(f"{pod['metadata']['name']}/{entry['name']} failed once")

    def uninstall(self) -> None:
        """`helm uninstall`; RuntimeError when more than the volume claims stays behind."""
        self.cluster.run(
            "helm", "uninstall", self.name, "--namespace", self.namespace, "--wait",
            "--timeout", "90s", seconds=110,
        )  # fmt: skip
        self.installed = False
        left: list[str] = []

        def gone() -> bool:
            left[:] = [n for n in self._everything() if not n.startswith(LEFT_ALONE)]
            return not left

        try:
            until("nothing but claims", gone, 45)
        except TimeoutError:
            raise RuntimeError(f"helm uninstall left {', '.join(left)}") from None
        claims = self.kubectl("get", "persistentvolumeclaims", "--output", "name").split()
        if len(claims) != 2:
            raise RuntimeError(f"two claims must survive, there are: {claims}")

    def _everything(self) -> list[str]:
        kinds = self.cluster.kubectl(
            "api-resources", "--namespaced", "--verbs=list,delete", "--output", "name"
        ).split()
        kinds = [kind for kind in kinds if not kind.endswith("metrics.k8s.io")]
        return self.kubectl(
            "get", ",".join(kinds), "--output", "name", "--ignore-not-found"
        ).split()

    def remove(self) -> None:
        """The namespace with all that is in it; never raises."""
        steps: list[Callable[[], str]] = []
        if self.installed:
            steps.append(lambda: self.cluster.run(
                "helm", "uninstall", self.name, "--namespace", self.namespace,
                seconds=60, check=False,
            ))  # fmt: skip
        steps.append(lambda: self.cluster.kubectl(
            "delete", "namespace", self.namespace, "--ignore-not-found", "--timeout=90s",
            seconds=100, check=False,
        ))  # fmt: skip
        for step in steps:
            try:
                step()
            except RuntimeError as error:
                say(f"cluster-test: while cleaning up: {error}")


def statuses(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """Of init containers and containers."""
    status = pod["status"]
    return [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]


def readiness(pods: list[dict[str, Any]]) -> str:
    """`web 1/2  worker 0/1 …`, one entry per component."""
    counts: dict[str, list[int]] = {}
    for pod in pods:
        component = pod["metadata"]["labels"].get("app.kubernetes.io/component", "?")
        entry = counts.setdefault(component, [0, 0])
        conditions = pod["status"].get("conditions", [])
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
        entry[0] += ready or pod["status"].get("phase") == "Succeeded"
        entry[1] += 1
    return "  ".join(f"{name} {done}/{of}" for name, (done, of) in sorted(counts.items()))


def hopeless(pods: list[dict[str, Any]]) -> str:
    """Why it is pointless to wait any longer, or an empty string."""
    for pod in pods:
        for entry in statuses(pod):
            waiting = entry["state"].get("waiting", {})
            reason = waiting.get("reason", "")
            if "failed to sync" in waiting.get("message", ""):
                continue  # a busy kubelet has not read the Secret yet; it tries again
            if reason in FATAL or entry["restartCount"] > 2:
                last = entry.get("lastState", {}).get("terminated", {}).get("reason", "")
                name = f"{pod['metadata']['name']}/{entry['name']}"
                return f"{name} {reason or last} after {entry['restartCount']} restarts"
    return ""


def _docker(*arguments: str) -> str:
    docker = shutil.which("docker") or "docker"
    done = subprocess.run([docker, *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip()
