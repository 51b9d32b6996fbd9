"""Objects of a Kubernetes cluster as `kubectl get --output=json` shows them, as far as our programs look at them."""

from typing import Any


def job(*conditions: tuple[str, str], completed: bool = True, retries: int = 3, **metadata: Any) -> dict[str, Any]:
    """An MPIJob with conditions (type, message) that hold."""
    status: dict[str, Any] = {
        "conditions": [{"type": kind, "status": "True", "message": message} for kind, message in conditions]
    }
    if completed and any(kind in ("Succeeded", "Failed") for kind, _ in conditions):
        status["completionTime"] = "2026-01-01T00:00:00Z"
    return {
        "metadata": {"name": "prune"} | metadata,
        "spec": {"runPolicy": {"backoffLimit": retries}},
        "status": status,
    }


def pod(name: str, phase: str = "Running", role: str = "worker", number: int = 0, **status: Any) -> dict[str, Any]:
    """A pod, the `number`th that was made."""
    metadata = {
        "name": name,
        "creationTimestamp": f"2026-01-01T00:00:{number:02d}Z",
        "labels": {"training.kubeflow.org/job-role": role},
    }
    return {"metadata": metadata, "status": {"phase": phase} | status}


def launcher(exit_code: int | None = None, name: str = "prune-launcher-a", number: int = 1, restarts: int = 0) -> dict:
    """A launcher's pod that runs or, with an exit code, has ended."""
    state = {"running": {}} if exit_code is None else {"terminated": {"exitCode": exit_code}}
    phase = "Running" if exit_code is None else "Failed" if exit_code else "Succeeded"
    containers = [{"name": "launcher", "restartCount": restarts, "state": state}]
    return pod(name, phase, "launcher", number, containerStatuses=containers)


def unschedulable(name: str = "prune-worker-0") -> dict[str, Any]:
    """A pod that no node takes."""
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
    }
    return pod(name, "Pending", conditions=[condition])


def container_waiting(
    reason: str, message: str = "", init: bool = False, name: str = "prune-worker-0"
) -> dict[str, Any]:
    """A pod whose container waits for `reason`."""
    container = {
        "name": "folders" if init else "worker",
        "image": "registry.example.com/trimflow:gpu-1",
        "state": {"waiting": {"reason": reason, "message": message}},
    }
    return pod(name, "Pending", **{"initContainerStatuses" if init else "containerStatuses": [container]})
