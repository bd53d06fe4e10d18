"""PURE. Readers of Jobs and their pods, as the API server returns them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from pywharf_operator.cluster.live import labels_of
from pywharf_operator.render.pod.job_pod import CONTAINER

_JOB_LABEL: Final = "batch.kubernetes.io/job-name"
MAX_SHOWN: Final = 500
"""Most characters of a foreign text that a message shows."""


def is_finished(job: Mapping[str, Any]) -> bool:
    """Return whether the Job has completed or failed."""
    return _ending(job) is not None


def finished_at(job: Mapping[str, Any]) -> datetime | None:
    """Return when the Job ended, or 1970 if that is unreadable; None if it has not ended."""
    found = _ending(job)
    if found is None:
        return None
    return moment(found.get("lastTransitionTime")) or datetime.fromtimestamp(0, UTC)


def _ending(job: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return condition_of(job, "Complete") or condition_of(job, "Failed")


def condition_of(job: Mapping[str, Any], kind: str) -> Mapping[str, Any] | None:
    """Return the Job's condition of that type if it is true; otherwise None."""
    conditions = (job.get("status") or {}).get("conditions") or []
    return next((one for one in conditions if one.get("type") == kind and one.get("status") == "True"), None)


def created_at(manifest: Mapping[str, Any]) -> datetime | None:
    """Return when an object was created; None if that is missing or unreadable."""
    return moment(manifest["metadata"].get("creationTimestamp"))


def moment(text: object) -> datetime | None:
    """Parse a time of the API server; None if it is missing or unreadable."""
    try:
        return msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        return None


def pods_of(name: str, pods: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the pods of the Job of that name, the newest first."""
    own = [pod for pod in pods if job_of(pod) == name]
    return sorted(own, key=lambda pod: str(pod["metadata"].get("creationTimestamp")), reverse=True)


def job_of(pod: Mapping[str, Any]) -> str:
    """Return the name of the Job that created the pod."""
    return str(labels_of(pod).get(_JOB_LABEL))


def terminated(pod: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return how the container that updates the index ended. What other containers write is no report of ours."""
    found = []
    for container in (pod.get("status") or {}).get("containerStatuses") or []:
        if container.get("name") != CONTAINER:
            continue
        ended = (container.get("state") or {}).get("terminated")
        if isinstance(ended, Mapping):
            found.append(ended)
    return found


def index_ended(pod: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return how the container that updates the index ended; None if it has not."""
    return next(iter(terminated(pod)), None)


def others_running(pod: Mapping[str, Any]) -> list[str]:
    """Return the running containers that something else put into the pod."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    return [str(one.get("name")) for one in statuses if one.get("name") != CONTAINER and _is_running(one)]


def _is_running(container: Mapping[str, Any]) -> bool:
    return "running" in (container.get("state") or {})


def shown(text: str) -> str:
    """Return a foreign text, shortened and without control characters."""
    return "".join(c if c.isprintable() else " " for c in text[: MAX_SHOWN * 2]).strip()[:MAX_SHOWN]
