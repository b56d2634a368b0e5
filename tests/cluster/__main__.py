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

import httpx

from tests.cluster import diagnosis, where
from tests.cluster.purchase import Purchase, Shopper
from tests.cluster.release import Release
from tests.proofs.harness import finish, say

NAME = "cluster-test"
BOUND = 420
"""Seconds for everything but diagnosis and cleaning up."""
DIAGNOSIS = 30
"""Seconds."""


@dataclass(slots=True)
class Run:
    """Steps of one run and how long each took."""

    begin: float = field(default_factory=time.monotonic)
    seconds: dict[str, float] = field(default_factory=dict)
    step: str = ""

    def do[T](self, name: str, action: Callable[[], T]) -> T:
        """Run one step; its name stays in `step` when it raises."""
        self.step = name
        return self.timed(name, action)

    def timed[T](self, name: str, action: Callable[[], T]) -> T:
        """Run something, and say how long it took."""
        say(f"{NAME}: {name} …")
        begin = time.monotonic()
        result = action()
        self.seconds[name] = round(time.monotonic() - begin, 1)
        say(f"{NAME}: {name} ok in {self.seconds[name]:.1f} s" + (f": {result}" if result else ""))
        return result


def main() -> int:
    """See the module; the exit code."""
    options = where.arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that cleaning up happens
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(BOUND)
    run = Run()
    values: dict[str, Any] = {}
    failure = ""
    cluster = None
    try:
        run.step = "cluster"
        say(f"{NAME}: cluster …")
        cluster = where.find(options)
        if cluster is None:
            say(f"{NAME}: SKIPPED. Set KUBECONFIG (kind, k3s, any cluster) to run it.")
            return finish(NAME, "SKIPPED", {"reason": "no cluster"}, details={})
        values = _release(Release(cluster), options, run)
    except (RuntimeError, LookupError, ValueError, OSError, httpx.HTTPError) as error:
        failure = f"{run.step}: {error}"
        say(f"{NAME}: FAIL {failure}")
    finally:
        signal.alarm(0)
        if cluster is not None and not options.keep:
            cluster.stop()
    details = {"steps": run.seconds, "failure": failure}
    if failure:
        return finish(NAME, "FAIL", {"step": run.step, **values}, details=details)
    values["total_s"] = round(time.monotonic() - run.begin)
    return finish(NAME, "ok", values, details=details)


def _too_long(*_: object) -> None:
    raise TimeoutError(f"the run is bounded to {BOUND} s")


def _release(release: Release, options: Namespace, run: Run) -> dict[str, Any]:
    """Everything between a running cluster and an empty namespace."""
    try:
        purchase = _steps(release, options, run)
    except BaseException as error:
        say(f"{NAME}: {run.step} FAILED: {error}")
        signal.alarm(DIAGNOSIS)
        diagnosis.show(release)
        raise
    finally:
        signal.alarm(0)
        if options.keep:
            say(f"{NAME}: kept in namespace {release.namespace}")
        else:
            run.timed("clean up", release.remove)
    return {
        "install_s": run.seconds["install"],
        "order_s": round(run.seconds["buy"] + run.seconds["e-mail"], 1),
        "trace_id": purchase.trace_id,
        "image_mb": round(release.image_bytes / 1e6),
    }


def _steps(release: Release, options: Namespace, run: Run) -> Purchase:
    run.do("build", release.build)
    run.do("load", release.load)
    run.do("namespace", release.make_namespace)
    run.do(
        "install",
        lambda: release.install(options.set, ingress_class=options.ingress_class, seconds=240),
    )
    shopper = Shopper(release)
    variant = run.do("products through the ingress", lambda: shopper.wait_for_shop(60))
    purchase = run.do("buy", lambda: shopper.buy(variant))
    run.do("e-mail", lambda: shopper.wait_for_mail(purchase, 30))
    run.do("web log", lambda: shopper.wait_for_log("web", purchase, 20))
    run.do("worker log", lambda: shopper.wait_for_log("worker", purchase, 20))
    run.do("trace store", lambda: shopper.wait_for_trace(purchase, 60))
    run.do("scraped pods", lambda: shopper.wait_for_targets(4, 120))
    run.do("metric in Prometheus", lambda: shopper.wait_for_metric(60))
    run.do("no restarts", release.check_restarts)
    if not options.keep:
        run.do("uninstall", release.uninstall)
    return purchase


if __name__ == "__main__":
    sys.exit(main())
