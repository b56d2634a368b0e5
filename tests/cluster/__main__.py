"""`python -m tests.cluster`: the slice to the cluster, one line and one time per step.

Exit codes: 0 all steps hold; 1 one does not (states, events and logs follow it); 77 no cluster.
`install_s` is `helm install --wait` alone; `order_s` goes from the first checkout request to the
confirmation in the mail sink.
"""

from __future__ import annotations

import signal
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.cluster import diagnosis, where
from tests.cluster.purchase import Purchase, Shopper
from tests.cluster.release import Release
from tests.proofs.harness import finish, say

NAME = "cluster-test"
BOUND = 450.0
"""Seconds for everything but cleaning up."""


@dataclass(slots=True)
class Run:
    """Steps of one run and how long each took."""

    begin: float = field(default_factory=time.monotonic)
    seconds: dict[str, float] = field(default_factory=dict)
    step: str = ""

    def do[T](self, name: str, action: Callable[[], T]) -> T:
        """Run one step; its name stays in `step` when it raises."""
        self.step = name
        say(f"{NAME}: {name} …")
        begin = time.monotonic()
        result = action()
        self.seconds[name] = round(time.monotonic() - begin, 1)
        say(f"{NAME}: {name} ok in {self.seconds[name]:.1f} s" + (f": {result}" if result else ""))
        return result

    def left(self, most: float) -> float:
        """Seconds for a wait: at most this many, never past the bound of the run."""
        rest = BOUND - (time.monotonic() - self.begin)
        if rest < 1:
            raise TimeoutError(f"the run is bounded to {BOUND:.0f} s")
        return min(most, rest)


def main() -> int:
    """See the module; the exit code."""
    options = where.arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that cleaning up happens
    run = Run()
    values: dict[str, Any] = {}
    failure = ""
    cluster = None
    try:
        cluster = run.do("cluster", lambda: where.find(options))
        if cluster is None:
            say(f"{NAME}: SKIPPED. Set KUBECONFIG (kind, k3s, any cluster) to run it.")
            return finish(NAME, "SKIPPED", {"reason": "no cluster"}, details={})
        values = _release(Release(cluster), options, run)
    except (RuntimeError, TimeoutError, LookupError, ValueError, OSError) as error:
        failure = f"{run.step}: {error}"
        say(f"{NAME}: FAIL {failure}")
    finally:
        if cluster is not None:
            cluster.stop()
    details = {"steps": run.seconds, "failure": failure}
    if failure:
        return finish(NAME, "FAIL", {"step": run.step, **values}, details=details)
    values["total_s"] = round(time.monotonic() - run.begin)
    return finish(NAME, "ok", values, details=details)


def _release(release: Release, options: Namespace, run: Run) -> dict[str, Any]:
    """Everything between a running cluster and an empty namespace."""
    try:
        purchase = _steps(release, options, run)
    except BaseException:
        diagnosis.show(release)
        raise
    finally:
        if options.keep:
            say(f"{NAME}: kept in namespace {release.namespace}")
        else:
            run.do("clean up", release.remove)
    return {
        "install_s": run.seconds["install"],
        "order_s": round(run.seconds["buy"] + run.seconds["e-mail"], 1),
        "trace_id": purchase.trace_id,
    }


def _steps(release: Release, options: Namespace, run: Run) -> Purchase:
    run.do("build", release.build)
    run.do("load", release.load)
    run.do("namespace", release.make_namespace)
    run.do(
        "install",
        lambda: release.install(
            options.set, ingress_class=options.ingress_class, seconds=run.left(240)
        ),
    )
    shopper = Shopper(release)
    variant = run.do("products through the ingress", lambda: shopper.wait_for_shop(run.left(60)))
    purchase = run.do("buy", lambda: shopper.buy(variant))
    run.do("e-mail", lambda: shopper.wait_for_mail(purchase, run.left(30)))
    run.do("web log", lambda: shopper.wait_for_log("web", purchase, run.left(20)))
    run.do("worker log", lambda: shopper.wait_for_log("worker", purchase, run.left(20)))
    run.do("trace store", lambda: shopper.wait_for_trace(purchase, run.left(60)))
    run.do("scraped pods", lambda: shopper.wait_for_targets(4, run.left(120)))
    run.do("metric in Prometheus", lambda: shopper.wait_for_metric(run.left(60)))
    if not options.keep:
        run.do("uninstall", release.uninstall)
    return purchase


if __name__ == "__main__":
    sys.exit(main())
