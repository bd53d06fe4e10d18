"""PURE. The state of a repo's index, from its Jobs and their pods."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from pywharf.core.reports import IndexReport
from pywharf_operator.render import Finding
from pywharf_operator.render.pod.job_pod import CONTAINER
from pywharf_operator.spec import PackageRepo
from pywharf_operator.spec.package_repo import TRIGGER_ANNOTATION, IndexStatus

_MAX_RESULT: Final = 500
_MOST_NAMES: Final = 3
_MAX_TRIGGER: Final = 1000
_FAILED: Final = "Failed: "
"""Prefix of a failed update's result."""
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


def due_trigger(repo: PackageRepo) -> str | None:
    """Return the value of the annotation that requests an update; None if it is missing or was acted upon already."""
    value = (repo.metadata.annotations or {}).get(TRIGGER_ANNOTATION)
    if not isinstance(value, str) or not value:
        return None
    index = repo.status.index if repo.status is not None else None
    value = value[:_MAX_TRIGGER]
    return None if index is not None and index.last_trigger == value else value


def needs_first_update(repo: PackageRepo) -> bool:
    """Return whether no update is known yet, so that one runs immediately and not only by the schedule."""
    index = repo.status.index if repo.status is not None else None
    return not repo.spec.index.suspend and (index is None or index.last_job is None)


def jobs_of_repo(repo: PackageRepo, jobs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the repo's Jobs, without those of a former repo of the same name."""
    since = repo.metadata.creation_timestamp
    return [job for job in jobs if since is None or (created := _created(job)) is None or created >= since]


def index_state(
    repo: PackageRepo, jobs: Sequence[Mapping[str, Any]], pods: Sequence[Mapping[str, Any]], now: datetime
) -> tuple[Finding, IndexStatus]:
    """Return the condition IndexUpToDate and `status.index`. What is no longer known stays as in the last status."""
    previous = (repo.status.index if repo.status is not None else None) or IndexStatus()
    finished = sorted((job for job in jobs if _is_newer(job, previous)), key=_order)
    finding, state = (
        _state_of_last_job(repo, finished[-1], pods, previous) if finished else (_remembered(repo, previous), previous)
    )
    kept = _kept_by_sidecar(jobs, pods)
    if kept is not None:
        name, pod = kept
        found = _of_pod(name, pod, state)
        if found is not None:
            finding, state = _updated(found), found
        message = lingering(pod, now)
        if message is not None:
            return Finding(status=False, reason="SidecarRunning", message=f"Job {name} {message}"), state
    return (_stuck(jobs, pods, now) or finding), state


def lingering(pod: Mapping[str, Any], now: datetime) -> str | None:
    """Return the rest of a sentence about a pod that runs on although its index is updated; None for another pod."""
    ended, others = _index_ended(pod), _others_running(pod)
    if ended is None or ended.get("exitCode") or not others:
        return None
    finished = _moment(ended.get("finishedAt"))
    if finished is not None and (now - finished).total_seconds() < LINGERS_S:
        return None
    names = ", ".join(_shown(name) for name in others[:_MOST_NAMES])
    return (
        f"has updated the index, and its pod does not end because {names} runs on, so that the next update waits. Keep "
        "sidecars out of the Jobs' pods by annotations or labels of spec.jobs of the PackageServer (for Istio "
        'sidecar.istio.io/inject: "false"), or inject them as native sidecars.'
    )


def _kept_by_sidecar(
    jobs: Sequence[Mapping[str, Any]], pods: Sequence[Mapping[str, Any]]
) -> tuple[str, Mapping[str, Any]] | None:
    """Return the newest unfinished Job whose index container has succeeded, and its pod; None if there is none."""
    for job in sorted(jobs, key=lambda one: str(one["metadata"].get("creationTimestamp")), reverse=True):
        if is_finished(job):
            continue
        name = str(job["metadata"]["name"])
        for pod in _newest_first(name, pods):
            ended = _index_ended(pod)
            if ended is not None and not ended.get("exitCode") and _others_running(pod):
                return name, pod
    return None


def _of_pod(name: str, pod: Mapping[str, Any], previous: IndexStatus) -> IndexStatus | None:
    """Return the index status from the pod's report; None if it has no report, or one older than what is known."""
    ended = _index_ended(pod) or {}
    report, finished = _decoded(ended.get("message")), _moment(ended.get("finishedAt"))
    if report is None or finished is None:
        return None
    if previous.last_update_time is not None and finished < previous.last_update_time:
        return None
    return _state(report, name, finished, previous)


def _index_ended(pod: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return how the container that updates the index ended; None if it has not."""
    return next(iter(_terminated(pod)), None)


def _others_running(pod: Mapping[str, Any]) -> list[str]:
    """Return the running containers that something else put into the pod."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    return [str(one.get("name")) for one in statuses if one.get("name") != CONTAINER and _is_running(one)]


def _is_running(container: Mapping[str, Any]) -> bool:
    return "running" in (container.get("state") or {})


def _moment(text: object) -> datetime | None:
    try:
        return msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        return None


def _is_newer(job: Mapping[str, Any], previous: IndexStatus) -> bool:
    """Return whether the Job finished, and not before the last known update.

    Jobs are removed in another order than they were created.
    """
    finished = _finished_at(job)
    return finished is not None and (previous.last_update_time is None or finished >= previous.last_update_time)


def _state_of_last_job(
    repo: PackageRepo, job: Mapping[str, Any], pods: Sequence[Mapping[str, Any]], previous: IndexStatus
) -> tuple[Finding, IndexStatus]:
    name = str(job["metadata"]["name"])
    own = _newest_first(name, pods)
    if previous.last_job == name and not any(_terminated(pod) for pod in own):
        return _remembered(repo, previous), previous  # its pod is gone; its report is in the last status
    if not _condition(job, "Complete"):
        # Another container of the pod may have failed, or have kept the pod running until the Job's deadline.
        done = next((found for pod in own[:1] if (found := _state_of_succeeded_pod(name, pod, previous))), None)
        if done is not None:
            return _updated(done), done
        return _failed(repo, name, _failure(job, name, own), previous)
    report = _report(own)
    if report is None:
        return _failed(repo, name, f"Job {name} ended, but its report cannot be read; check its image", previous)
    state = _state(report, name, _finished_at(job), previous)
    return _updated(state), state


def _state_of_succeeded_pod(name: str, pod: Mapping[str, Any], previous: IndexStatus) -> IndexStatus | None:
    ended = _index_ended(pod)
    return None if ended is None or ended.get("exitCode") else _of_pod(name, pod, previous)


def _state(report: IndexReport, job: str, finished: datetime | None, previous: IndexStatus) -> IndexStatus:
    return IndexStatus(
        projects=report.projects if report.projects is not None else previous.projects,
        files=report.files if report.files is not None else previous.files,
        bytes=report.bytes if report.bytes is not None else previous.bytes,
        last_update_time=finished,
        last_job=job,
        last_result=_summary(report),
        last_trigger=previous.last_trigger,
    )


def _summary(report: IndexReport) -> str:
    if report.files is None:
        return "Updated."
    problems = f"; {len(report.problems)} problems: {_shown(report.problems[0])}" if report.problems else ""
    text = f"Updated: {_count(report.projects)} projects, {_count(report.files)} files{problems}"
    return f"{text[: _MAX_RESULT - 1].rstrip('.')}."


def _updated(state: IndexStatus) -> Finding:
    return Finding(status=True, reason="Updated", message=state.last_result or "Updated.")


def _failed(repo: PackageRepo, job: str, why: str, previous: IndexStatus) -> tuple[Finding, IndexStatus]:
    result = f"{_FAILED}{why}"[:_MAX_RESULT]
    finding = Finding(status=False, reason="UpdateFailed", message=_advice(repo, result))
    return finding, msgspec.structs.replace(previous, last_job=job, last_result=result)


def _advice(repo: PackageRepo, result: str) -> str:
    when = "updates are suspended" if repo.spec.index.suspend else "the next update is tried by schedule"
    return (
        f"{result.rstrip('.')}. The index before it is still served; {when}, "
        f"or at once with another value of the annotation {TRIGGER_ANNOTATION}."
    )


def _remembered(repo: PackageRepo, previous: IndexStatus) -> Finding:
    """Return the condition that follows from the last status, if no Job has anything newer."""
    result = previous.last_result
    if result is not None and result.startswith(_FAILED):
        return Finding(status=False, reason="UpdateFailed", message=_advice(repo, result))
    if previous.last_update_time is not None:
        return _updated(previous)
    if repo.spec.index.suspend:
        message = "Updates are suspended (spec.index.suspend); uploads are visible all the same."
        return Finding(status=None, reason="Suspended", message=message)
    return Finding(status=None, reason="Pending", message="The first update has not finished yet.")


def is_stuck(job: Mapping[str, Any], pods: Sequence[Mapping[str, Any]], now: datetime) -> bool:
    """Return whether a Job that has not finished cannot start."""
    return _stuck([job], pods, now) is not None


def _stuck(jobs: Sequence[Mapping[str, Any]], pods: Sequence[Mapping[str, Any]], now: datetime) -> Finding | None:
    """Return why a running Job cannot start; None if all can."""
    for job in jobs:
        name, of_job = str(job["metadata"]["name"]), job.get("spec") or {}
        if _finished_at(job) is not None or of_job.get("suspend"):
            continue
        own = _newest_first(name, pods)
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
            name = _shown(str(container.get("name")))
            return f"cannot start: the container {name}, which something else put into its pod, says {reason}"
    for one in status.get("conditions") or []:
        if one.get("type") == "PodScheduled" and one.get("reason") == "Unschedulable":
            return f"finds no node: {_shown(str(one.get('message'))).rstrip('.')}"
    if status.get("phase") == "Pending" and _is_late(pod, now):
        return f"has not started; `kubectl describe pod {pod['metadata']['name']}` says why"
    return None


def _is_late(started: Mapping[str, Any], now: datetime) -> bool:
    created = _created(started)
    return created is not None and now - created > _STARTS_WITHIN


def _created(manifest: Mapping[str, Any]) -> datetime | None:
    try:
        return msgspec.convert(manifest["metadata"].get("creationTimestamp"), datetime)
    except msgspec.ValidationError:
        return None


def _failure(job: Mapping[str, Any], name: str, pods: Sequence[Mapping[str, Any]]) -> str:
    """Return why the Job failed.

    The source nearest to the cause counts: its deadline, its pods' newest end, or the Job's message.
    """
    failed = _condition(job, "Failed") or {}
    if failed.get("reason") == "DeadlineExceeded":
        return f"Job {name} took longer than it may, or could not start."
    for pod in pods:
        if (pod.get("status") or {}).get("reason") == "Evicted":
            return f"Job {name}: its node was short of something and evicted its pod."
        for ended in _terminated(pod):
            if ended.get("reason") == "OOMKilled":
                return (
                    f"Job {name} needed more memory than its limit; raise limits.memory in spec.jobs.resources of the "
                    "PackageServer, or divide the repo into smaller ones."
                )
            report, message = _decoded(ended.get("message")), ended.get("message")
            said = report.error if report is not None else _last_line(message) if isinstance(message, str) else ""
            if said and (shown := _shown(said)):
                return shown
    return f"Job {name}: {_shown(str(failed.get('message') or '')) or 'it failed'}"


def _report(pods: Sequence[Mapping[str, Any]]) -> IndexReport | None:
    """Return the report of the newest pod that has one, otherwise an empty report; None if it is malformed."""
    for pod in pods:
        for ended in _terminated(pod):
            if ended.get("message") and not ended.get("exitCode"):
                return _decoded(ended["message"])
    return IndexReport()


def _decoded(message: object) -> IndexReport | None:
    """Parse a termination message, which may hold anything; None if it is no report."""
    try:
        return msgspec.convert(json.loads(message), IndexReport) if isinstance(message, str) else None
    except (ValueError, RecursionError, msgspec.ValidationError):
        return None


def _last_line(text: str) -> str:
    """Return the last line with visible text. A container without a report has the end of its log as its message."""
    return next((line for line in reversed(text.splitlines()) if _shown(line)), "")


def _newest_first(name: str, pods: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    own = [pod for pod in pods if _job_of(pod) == name]
    return sorted(own, key=lambda pod: str(pod["metadata"].get("creationTimestamp")), reverse=True)


def _job_of(pod: Mapping[str, Any]) -> str:
    return str((pod["metadata"].get("labels") or {}).get("batch.kubernetes.io/job-name"))


def _terminated(pod: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return how the container that updates the index ended. What other containers write is no report of ours."""
    found = []
    for container in (pod.get("status") or {}).get("containerStatuses") or []:
        if container.get("name") != CONTAINER:
            continue
        ended = (container.get("state") or {}).get("terminated")
        if isinstance(ended, Mapping):
            found.append(ended)
    return found


def _condition(job: Mapping[str, Any], kind: str) -> Mapping[str, Any] | None:
    conditions = (job.get("status") or {}).get("conditions") or []
    return next((one for one in conditions if one.get("type") == kind and one.get("status") == "True"), None)


def is_finished(job: Mapping[str, Any]) -> bool:
    """Return whether the Job has completed or failed."""
    return _ending(job) is not None


def _ending(job: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return _condition(job, "Complete") or _condition(job, "Failed")


def _finished_at(job: Mapping[str, Any]) -> datetime | None:
    found = _ending(job)
    if found is None:
        return None
    try:
        return msgspec.convert(found.get("lastTransitionTime"), datetime)
    except msgspec.ValidationError:
        return datetime.fromtimestamp(0, UTC)


def _order(job: Mapping[str, Any]) -> tuple[float, str]:
    finished = _finished_at(job)
    created = str(job["metadata"].get("creationTimestamp"))
    return (finished.timestamp() if finished is not None else 0.0, created)


def _count(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"


def _shown(text: str) -> str:
    """Return a foreign text, shortened and without control characters."""
    return "".join(c if c.isprintable() else " " for c in text[: _MAX_RESULT * 2]).strip()[:_MAX_RESULT]
