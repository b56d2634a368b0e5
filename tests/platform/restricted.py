"""PodSecurity `restricted`, and our own baseline on top of it, as a list of what is wrong."""

from __future__ import annotations

from typing import Any

from tests.platform.chart import Document, Pod

VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim"}
VOLUMES |= {"projected", "secret"}


def violations(pod: Pod) -> list[str]:
    """Everything in the pod that `restricted` or the baseline forbids, each with its place."""
    wrong = [f"{pod.owner}: {what}" for what in _pod(pod.spec)]
    for container in pod.containers():
        wrong += [f"{pod.owner}/{container['name']}: {what}" for what in _container(container)]
    return wrong


def _pod(spec: Document) -> list[str]:
    security = spec.get("securityContext", {})
    expected: dict[str, Any] = {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "runAsGroup": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    wrong = [
        f"{key} is not {value}" for key, value in expected.items() if security.get(key) != value
    ]
    wrong += [f"{key} is on" for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    wrong += [
        f"{key} is not false"
        for key in ("automountServiceAccountToken", "enableServiceLinks")
        if spec.get(key) is not False
    ]
    if spec.get("serviceAccountName") in {None, "default"}:
        wrong.append("the namespace's default service account")
    return (
        wrong
        + [
            f"volume {volume['name']}: {', '.join(set(volume) - {'name'} - VOLUMES)}"
            for volume in spec.get("volumes", [])
            if set(volume) - {"name"} - VOLUMES
        ]
        + [
            f"volume {volume['name']}: emptyDir without sizeLimit"
            for volume in spec.get("volumes", [])
            if "emptyDir" in volume and not volume["emptyDir"].get("sizeLimit")
        ]
    )


def _container(container: Document) -> list[str]:
    security = container.get("securityContext", {})
    expected: dict[str, Any] = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    wrong = [
        f"{key} is not {value}" for key, value in expected.items() if security.get(key) != value
    ]
    wrong += [
        f"{key} is set" for key in ("privileged", "runAsUser", "procMount") if key in security
    ]
    if container.get("terminationMessagePolicy") != "FallbackToLogsOnError":
        wrong.append("terminationMessagePolicy is not FallbackToLogsOnError")
    resources = container.get("resources", {})
    wrong += [
        f"no {part}.{what}"
        for part, what in (("requests", "cpu"), ("requests", "memory"), ("limits", "memory"))
        if what not in resources.get(part, {})
    ]
    wrong += [f"hostPort {p['hostPort']}" for p in container.get("ports", []) if "hostPort" in p]
    image = container["image"]
    if image.endswith(":latest") or ":" not in image.rpartition("/")[2]:
        wrong.append(f"image without a version: {image}")
    return wrong
