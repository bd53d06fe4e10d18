"""PURE. Jobs that do not start, and pods that do not end."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from pywharf_operator.index_updates.jobs import (
    created_at,
    finished_at,
    index_ended,
    moment,
    others_running,
    pods_of,
    shown,
)
from pywharf_operator.render import Finding
from pywharf_operator.render.pod.job_pod import CONTAINER

_MOST_NAMES: Final = 3
LINGERS_S: Final = 30.0
"""Seconds after which a pod is reported that runs on after its index is updated. Most sidecars end by themselves."""
_STARTS_WITHIN: Final = timedelta(minutes=5)
"""Time after which a pod that has not started is reported."""
_WAITING: Final = {
    "ImagePullBackOff": "its image cannot be pulled; check the PackageServer's image and imagePullSecrets",
    "ErrImagePull": "its image cannot be pulled; check the PackageServer's image and imagePullSecrets",
    "InvalidImageName": "its image's name is invalid; correct the PackageServer's image",
    "CreateContainerConfigError": "what it mounts is missing; see its pod's Events",
    "CreateContainerError": "its container cannot be made; see its pod's Events",
}


def lingering(pod: Mapping[str, Any], now: datetime) -> str | None:
    """Return the rest of a sentence about a pod that runs on although its index is updated; None for another pod."""
    ended, others = index_ended(pod), others_running(pod)
    if ended is None or ended.get("exitCode") or not others:
        return None
    finished = moment(ended.get("finishedAt"))
    if finished is not None and (now - finished).total_seconds() < LINGERS_S:
        return None
    names = ", ".join(shown(name) for name in others[:_MOST_NAMES])
    return (
        f"has updated the index, and its pod does not end because {names} runs on, so that the next update waits. Keep "
        "sidecars out of the Jobs' pods by annotations or labels of spec.jobs of the PackageServer (for Istio "
        'sidecar.istio.io/inject: "false"), or inject them as native sidecars.'
    )


def is_stuck(job: Mapping[str, Any], pods: Sequence[Mapping[str, Any]], now: datetime) -> bool:
    """Return whether a Job that has not finished cannot start."""
    return stuck([job], pods, now) is not None


def stuck(jobs: Sequence[Mapping[str, Any]], pods: Sequence[Mapping[str, Any]], now: datetime) -> Finding | None:
    """Return why a running Job cannot start; None if all can."""
    for job in jobs:
        name, of_job = str(job["metadata"]["name"]), job.get("spec") or {}
        if finished_at(job) is not None or of_job.get("suspend"):
            continue
        own = pods_of(name, pods)
        why = next((why for pod in own if (why := _not_started(pod, now)) is not None), None)
        if why is None and not own and _is_late(job, now):
            why = f"has no pod; `kubectl describe job {name}` says why"
        if why is not None:
            return Finding(status=False, reason="UpdateStuck", message=f"Job {name} {why}.")
    return None


def _not_started(pod: Mapping[str, Any], now: datetime) -> str | None:
    status = pod.get("status") or {}
    for container in [*(status.get("containerStatuses") or []), *(status.get("initContainerStatuses") or [])]:
        reason = ((container.get("state") or {}).get("waiting") or {}).get("reason")
        if reason in _WAITING and container.get("name") == CONTAINER:
            return f"cannot start: {_WAITING[reason]}"
        if reason in _WAITING:
            name = shown(str(container.get("name")))
            return f"cannot start: the container {name}, which something else put into its pod, says {reason}"
    for one in status.get("conditions") or []:
        if one.get("type") == "PodScheduled" and one.get("reason") == "Unschedulable":
            return f"finds no node: {shown(str(one.get('message'))).rstrip('.')}"
    if status.get("phase") == "Pending" and _is_late(pod, now):
        return f"has not started; `kubectl describe pod {pod['metadata']['name']}` says why"
    return None


def _is_late(started: Mapping[str, Any], now: datetime) -> bool:
    created = created_at(started)
    return created is not None and now - created > _STARTS_WITHIN
