"""Pods that the cluster refuses: what controllers report about them.

A quota, a LimitRange, the Pod Security admission, OpenShift's security context constraints or a policy refuse a pod,
not the Job or the Deployment that wants it. For a Job only Events report the refusal; for a Deployment its condition
ReplicaFailure does.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from pywharf_operator.cluster.kube import Json, Kube, KubeError
from pywharf_operator.cluster.live import is_being_deleted
from pywharf_operator.index_updates.jobs import created_at, is_finished, job_of
from pywharf_operator.spec.kinds import EVENT

LATE: Final = timedelta(seconds=10)
"""Time after which the Events of a Job without a pod are read. Its controller creates the pod within a second."""
_EVENTS: Final = "involvedObject.kind=Job,type=Warning,reason=FailedCreate"
_FORBIDDEN: Final = 403


def without_pod(jobs: Iterable[Json], pods: Iterable[Json]) -> list[Json]:
    """Return the running Jobs that have no pod among `pods`."""
    with_pod = {job_of(pod) for pod in pods}
    return [
        job
        for job in jobs
        if str(job["metadata"]["name"]) not in with_pod
        and not is_finished(job)
        and not (job.get("spec") or {}).get("suspend")
        and not is_being_deleted(job)
    ]


def is_late(job: Json, now: datetime) -> bool:
    """Return whether the Job has existed for long enough to have its pod."""
    created = created_at(job)
    return created is not None and now - created > LATE


async def refused_jobs(kube: Kube, namespace: str) -> Mapping[str, str]:
    """Return the newest reason why a Job gets no pod, by the Job's uid. Raises KubeError.

    The result is empty if the operator may not list Events: a Role that was written by hand may lack that.
    """
    try:
        events = await kube.list(EVENT, namespace, fields=_EVENTS)
    except KubeError as error:
        if error.status == _FORBIDDEN:
            return {}
        raise
    events.sort(key=_time_of)
    return {
        str((one.get("involvedObject") or {}).get("uid")): _without_name(str(one.get("message") or ""))
        for one in events
    }


def _time_of(event: Json) -> str:
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return str(next((time for time in times if time), ""))


def _without_name(message: str) -> str:
    """Drop the pod's generated name, which differs each time, so that the same refusal is the same text."""
    return re.sub(r'^Error creating: (pods "[^"]*" is |)', "", message)


def refused_replica(deployment: Mapping[str, Any] | None) -> str | None:
    """Return why a Deployment gets no further pod; None if it does."""
    conditions = ((deployment or {}).get("status") or {}).get("conditions") or []
    for one in conditions:
        if one.get("type") == "ReplicaFailure" and one.get("status") == "True":
            return _without_name(f"Error creating: {one.get('message')}")
    return None
