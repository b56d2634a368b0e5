"""When the cluster test gives up early."""

from typing import Any

import pytest

from tests.cluster.release import hopeless


def pod(reason: str, message: str = "", restarts: int = 0) -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}} if reason else {"running": {}}
    entry = {"name": "web", "state": state, "restartCount": restarts}
    return {"metadata": {"name": "shop-web-1"}, "status": {"containerStatuses": [entry]}}


@pytest.mark.parametrize(
    ("seen", "verdict"),
    [
        (pod(""), ""),
        (pod("ContainerCreating"), ""),
        (pod("CreateContainerConfigError", "failed to sync secret cache: timed out"), ""),
        (
            pod("CreateContainerConfigError", 'secret "shop-app" not found'),
            "shop-web-1/web CreateContainerConfigError after 0 restarts",
        ),
        (pod("ErrImageNeverPull"), "shop-web-1/web ErrImageNeverPull after 0 restarts"),
        (pod("CrashLoopBackOff", restarts=3), "shop-web-1/web CrashLoopBackOff after 3 restarts"),
    ],
)
def test_only_what_cannot_mend_itself_is_hopeless(seen: dict[str, Any], verdict: str) -> None:
    assert hopeless([pod(""), seen]) == verdict
