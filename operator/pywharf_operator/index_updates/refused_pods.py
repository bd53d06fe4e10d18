"""Pods that the cluster refuses: what controllers report, and what to do.

A quota, a LimitRange, the Pod Security admission, OpenShift's security context constraints or a policy refuse a pod,
not the Job or the Deployment that wants it. For a Job only Events report the refusal; for a Deployment its condition
ReplicaFailure does.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from pywharf_operator.cluster.kube import Json, Kube, KubeError
from pywharf_operator.index_updates.state import is_finished
from pywharf_operator.render.labels import Component
from pywharf_operator.spec.kinds import EVENT

LATE: Final = timedelta(seconds=10)
"""Time after which the Events of a Job without a pod are read. Its controller creates the pod within a second."""
_EVENTS: Final = "involvedObject.kind=Job,type=Warning,reason=FailedCreate"
_FORBIDDEN: Final = 403
_JOB_LABEL: Final = "batch.kubernetes.io/job-name"
_MAX_SHOWN: Final = 500
_RESOURCES: Final = {"server": "spec.resources", "index": "spec.jobs.resources"}
_POD_TEMPLATE: Final = {"server": "spec.podTemplate", "index": "spec.jobs.podTemplate"}
_REMEDIES: Final = (
    (
        r"failed quota|must specify",
        "a ResourceQuota asks for each of these amounts; name them in {resources} of the PackageServer",
    ),
    (
        r"exceeded quota",
        "free some of the ResourceQuota or raise it, or ask for less in {resources} of the PackageServer",
    ),
    (
        r"(maximum|minimum) \S+ usage per|(limit|request) ratio",
        "a LimitRange bounds these amounts; set {resources} of the PackageServer within its bounds",
    ),
    (
        r"security context constraint|runAsUser|fsGroup",
        "where the cluster gives the user ids, set spec.security.userIDs of the PackageServer to FromCluster",
    ),
    (
        r"violates PodSecurity",
        "remove what it names from {template} and spec.podTemplate of the PackageServer",
    ),
    (
        r"label|annotation",
        "set what is missing in spec.labels or spec.annotations of the PackageServer",
    ),
)
"""Remedies, by a pattern of the API server's message."""


def remedy(message: str, component: Component) -> str:
    """Return what to do about a refused pod of the server or of an index Job; empty if no remedy is known."""
    text = next((text for pattern, text in _REMEDIES if re.search(pattern, message)), "")
    return text.format(resources=_RESOURCES[component], template=_POD_TEMPLATE[component])


def with_remedy(message: str, component: Component = "index") -> str:
    """Return the message as one or two sentences, the remedy last."""
    shown = "".join(c if c.isprintable() else " " for c in message[: _MAX_SHOWN * 2]).strip()[:_MAX_SHOWN].rstrip(".")
    advice = remedy(message, component)
    return f"{shown}; {advice}." if advice else f"{shown}."


def without_pod(jobs: Iterable[Json], pods: Iterable[Json]) -> list[Json]:
    """Return the running Jobs that have no pod among `pods`."""
    with_pod = {str((pod["metadata"].get("labels") or {}).get(_JOB_LABEL)) for pod in pods}
    return [
        job
        for job in jobs
        if str(job["metadata"]["name"]) not in with_pod
        and not is_finished(job)
        and not (job.get("spec") or {}).get("suspend")
        and job["metadata"].get("deletionTimestamp") is None
    ]


def is_late(job: Json, now: datetime) -> bool:
    """Return whether the Job has existed for long enough to have its pod."""
    try:
        created = msgspec.convert(job["metadata"].get("creationTimestamp"), datetime)
    except msgspec.ValidationError:
        return False
    return now - created > LATE


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
