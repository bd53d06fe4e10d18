"""Pods of index Jobs on a control plane without a kubelet; the test decides how they end."""

import http
import json
from collections.abc import Callable, Mapping
from typing import Any

from support.cluster.kube_client import ApiError, Json, KubeClient
from support.cluster.resources import path
from support.waiting import wait_for

BATCH = "/apis/batch/v1"
REPO_LABEL = "pywharf.dev/repo"
Status = Mapping[str, Any]
"""The pod status that a kubelet or the scheduler would write."""
_MOMENT = "2026-01-01T00:00:00Z"


def ended(message: object = None, code: int = 0, **terminated: Any) -> Status:
    """Return the status of a container that ran. A `message` that is not a string is sent as JSON."""
    last = {"exitCode": code, "reason": "Error" if code else "Completed", "startedAt": _MOMENT, "finishedAt": _MOMENT}
    if message is not None:
        last["message"] = message if isinstance(message, str) else json.dumps(message)
    return {"phase": "Failed" if code else "Succeeded"} | _containers({"terminated": last | terminated})


def waiting(reason: str) -> Status:
    """Return the status of a container that does not start."""
    return {"phase": "Pending"} | _containers({"waiting": {"reason": reason}})


def unschedulable(message: str) -> Status:
    """Return the status of a pod that fits no node."""
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return {"phase": "Pending", "conditions": [condition]}


def _containers(state: Mapping[str, Any]) -> Json:
    container = {"name": "index", "image": "x", "imageID": "x", "ready": False, "restartCount": 0, "state": state}
    return {"containerStatuses": [container]}


class IndexPods:
    """A writer of statuses for the pods of repos' Jobs; it writes each pod's status once."""

    def __init__(self, kube: KubeClient, namespace: str, **of_repo: Status) -> None:
        """Take the statuses by repo name, with _ for -."""
        self._kube = kube
        self._namespace = namespace
        self.of_repo = {name.replace("_", "-"): status for name, status in of_repo.items()}
        self._done: set[str] = set()

    def play(self) -> None:
        """Write the statuses of all pods that do not have theirs yet."""
        for pod in self._kube.list(path("pods", self._namespace, group="/api/v1"), labelSelector=REPO_LABEL):
            metadata = pod["metadata"]
            status = self.of_repo.get(metadata["labels"][REPO_LABEL])
            if status is None or metadata["uid"] in self._done:
                continue
            try:
                self._kube.patch_status(path("pods", self._namespace, metadata["name"], "/api/v1"), status)
            except ApiError as error:
                if error.status != http.HTTPStatus.NOT_FOUND:
                    raise
            self._done.add(metadata["uid"])

    def until(self, condition: Callable[[], Any], what: str, *, longest_s: float = 60.0) -> Any:
        """Play until the condition holds."""

        def poll() -> Any:
            self.play()
            return condition()

        return wait_for(poll, what, longest_s=longest_s)


def jobs(kube: KubeClient, namespace: str, repo: str | None = None) -> list[Json]:
    """Return the Jobs of one repo (None: of all repos), oldest first."""
    selector = REPO_LABEL if repo is None else f"{REPO_LABEL}={repo}"
    found = kube.list(path("jobs", namespace, group=BATCH), labelSelector=selector)
    return sorted(found, key=lambda one: one["metadata"]["creationTimestamp"])


def events(kube: KubeClient, namespace: str, repo: str) -> list[tuple[str, str, str]]:
    """Return type, reason and message of the Events of a PackageRepo."""
    found = kube.list(path("events", namespace, group="/api/v1"), fieldSelector=f"involvedObject.name={repo}")
    return [
        (one["type"], one["reason"], one["message"])
        for one in sorted(found, key=lambda one: one["metadata"]["name"])
        if one["involvedObject"]["kind"] == "PackageRepo"
    ]


def annotate(kube: KubeClient, namespace: str, repo: str, value: str | None) -> None:
    """Set the annotation that requests an index update (None removes it)."""
    change = {"metadata": {"annotations": {"pywharf.dev/update-index": value}}}
    kube.patch(path("packagerepos", namespace, repo), change)
