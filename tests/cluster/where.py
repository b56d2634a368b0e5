"""Which cluster the test runs on, and where its add-ons answer."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.platform import helm
from tests.proofs.harness import ROOT, say

SHARED = Path(os.environ.get("SHARED") or ROOT.parent / "shared") / "cluster"
ADDONS = ("prometheus", "otel", "ingress")


@dataclass(slots=True)
class Cluster:
    """A cluster and the addresses of its add-ons, as seen from this machine."""

    ingress: str
    prometheus: str
    traces: str
    otlp: str
    load: list[str]
    env: dict[str, str] = field(repr=False)
    started: bool = False
    """True: this run started the shared cluster, and stops it."""

    def run(
        self, *command: str, stdin: str | None = None, seconds: float = 60, check: bool = True
    ) -> str:
        """Output of kubectl, helm or a script. RuntimeError with its message when it fails."""
        try:
            done = subprocess.run(
                command,
                input=stdin,
                env=self.env,
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"{' '.join(command[:4])} took more than {seconds:.0f} s") from None
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command[:4])}: {(done.stderr or done.stdout).strip()}")
        return done.stdout

    def kubectl(self, *arguments: str, seconds: float = 60, check: bool = True) -> str:
        """Output of one kubectl command."""
        return self.run("kubectl", *arguments, seconds=seconds, check=check)

    def stop(self) -> None:
        """Stop the shared cluster if this run started it: an idle one costs half a core."""
        if self.started:
            say("cluster-test: stopping the cluster this run started (KEEP_CLUSTER=1 leaves it)")
            self.run(str(SHARED / "down"), seconds=120, check=False)


def until[T](what: str, condition: Callable[[], T | None], seconds: float) -> T:
    """Ask twice a second (a question is a process or a request elsewhere) until there is an
    answer; TimeoutError names what was waited for.
    """
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {seconds:.0f} s still waiting for {what}")
        time.sleep(0.5)
    return answer


def arguments() -> argparse.Namespace:
    """Options; each has a variable of the same meaning."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.cluster",
        description="Build, load, install, buy through the ingress, find the trace, uninstall. "
        "Needs KUBECONFIG, or a cluster of its own beside this repository.",
    )
    for name, default, text in (
        ("ingress", "http://127.0.0.1:8080", "the ingress controller"),
        ("prometheus", "http://127.0.0.1:30090", "the Prometheus API"),
        ("traces", "http://127.0.0.1:30686", "the Jaeger API"),
        ("otlp", "http://otel-collector.tracing:4318", "OTLP over HTTP, as pods see it"),
        ("load", "", "command that puts images (its arguments) into the cluster, e.g. "
         "'kind load docker-image'; empty: the cluster pulls"),
        ("ingress-class", "", "IngressClass; empty: the cluster's default"),
    ):  # fmt: skip
        variable = f"CLUSTER_{name.upper().replace('-', '_')}"
        given = os.environ.get(variable, default)
        parser.add_argument(f"--{name}", default=given, help=f"{text} ({variable}; {given or '-'})")
    parser.add_argument("--set", action="append", default=[], help="more values, as for helm")
    parser.add_argument("--keep", action="store_true", help="leave the release for a closer look")
    return parser.parse_args()


def find(options: argparse.Namespace) -> Cluster | None:
    """The cluster of KUBECONFIG, else the shared one (started if need be), else None."""
    cluster = Cluster(
        ingress=options.ingress,
        prometheus=options.prometheus,
        traces=options.traces,
        otlp=options.otlp,
        load=options.load.split(),
        env=dict(os.environ),
    )
    if not os.environ.get("KUBECONFIG"):
        if not (SHARED / "up").exists():
            return None
        try:
            _start_shared(cluster)
        except BaseException:
            cluster.stop()
            raise
    if shutil.which("helm", path=cluster.env.get("PATH")) is None:
        folder = Path(helm.fetch()).parent
        cluster.env["PATH"] = f"{folder}:{cluster.env.get('PATH', '')}"
    cluster.kubectl("get", "--raw", "/readyz", seconds=20)
    return cluster


def _start_shared(cluster: Cluster) -> None:
    running = (SHARED / "status").exists() and "Ready" in _nodes(cluster)
    cluster.started = not running and not os.environ.get("KEEP_CLUSTER")
    up = (str(SHARED / "up"), "--nodes", "2")
    try:
        exports = cluster.run(*up, seconds=240)
    except RuntimeError as error:
        # Seen: containerd answered before it could remove pods. A second `up` goes on from there.
        say(f"cluster-test: once more after: {error}")
        exports = cluster.run(*up, seconds=240)
    script = 'eval "$1"; printf "%s\\n%s\\n" "$KUBECONFIG" "$PATH"'
    kubeconfig, path = cluster.run("bash", "-c", script, "-", exports).split()
    cluster.env |= {"KUBECONFIG": kubeconfig, "PATH": path}
    cluster.load = cluster.load or [str(SHARED / "load")]
    cluster.run(str(SHARED / "addons" / "up"), *ADDONS, seconds=300)


def _nodes(cluster: Cluster) -> str:
    try:
        return cluster.run(str(SHARED / "status"), seconds=30, check=False)
    except RuntimeError:
        return ""
