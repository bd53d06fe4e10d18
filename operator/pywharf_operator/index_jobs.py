"""PURE. What a repo's Jobs and their pods say of its index."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from pywharf_operator.render import Finding
from pywharf_operator.spec import PackageRepo
from pywharf_operator.spec.package_repo import TRIGGER_ANNOTATION, IndexStatus

_MAX_RESULT: Final = 500
_MAX_TRIGGER: Final = 1000
_WAITING: Final = {
    "ImagePullBackOff": "its image cannot be pulled; check the PackageServer's image and imagePullSecrets",
    "ErrImagePull": "its image cannot be pulled; check the PackageServer's image and imagePullSecrets",
    "InvalidImageName": "its image's name is invalid; correct the PackageServer's image",
    "CreateContainerConfigError": "what it mounts is missing",
    "CreateContainerError": "its container cannot be made",
}


class _Report(msgspec.Struct):
    """The termination message of a Job's container."""

    projects: int | None = None
    files: int | None = None
    bytes: int | None = None
    error: str | None = None
    problems: list[str] = []


def due_trigger(repo: PackageRepo) -> str | None:
    """The value of the annotation that asks for an update and was not acted upon yet."""
    value = (repo.metadata.annotations or {}).get(TRIGGER_ANNOTATION)
    if not isinstance(value, str) or not value:
        return None
    index = repo.status.index if repo.status is not None else None
    value = value[:_MAX_TRIGGER]
    return None if index is not None and index.last_trigger == value else value


def needs_first_update(repo: PackageRepo) -> bool:
    """Whether nothing is known of any update yet, so that one is run at once and not only when the schedule says."""
    index = repo.status.index if repo.status is not None else None
    return not repo.spec.index.suspend and (index is None or index.last_job is None)


def index_state(
    repo: PackageRepo, jobs: Sequence[Mapping[str, Any]], pods: Sequence[Mapping[str, Any]]
) -> tuple[Finding, IndexStatus]:
    """The condition IndexUpToDate and `status.index`. What is known no more stays as the last status says."""
    previous = (repo.status.index if repo.status is not None else None) or IndexStatus()
    finished = sorted((job for job in jobs if _finished_at(job) is not None), key=_order)
    last = finished[-1] if finished else None
    stuck = _stuck(jobs, pods)
    if last is None:
        finding = _remembered(repo, previous)
        return (stuck or finding), previous
    name, finished_at = str(last["metadata"]["name"]), _finished_at(last)
    report = _report(name, pods)
    if _condition(last, "Complete"):
        text = f"{_count(report.projects)} projects, {_count(report.files)} files" if report.files is not None else ""
        if report.files is None and previous.last_job == name:
            return (stuck or _remembered(repo, previous)), previous
        problems = f"; {len(report.problems)} problems: {_shown(report.problems[0])}" if report.problems else ""
        state = IndexStatus(
            projects=report.projects if report.projects is not None else previous.projects,
            files=report.files if report.files is not None else previous.files,
            bytes=report.bytes if report.bytes is not None else previous.bytes,
            last_update_time=finished_at,
            last_job=name,
            last_result=f"Updated: {text}{problems}."[:_MAX_RESULT] if text else "Updated.",
            last_trigger=previous.last_trigger,
        )
        finding = Finding(status=True, reason="Updated", message=state.last_result or "Updated.")
        return (stuck or finding), state
    if previous.last_job == name and previous.last_result and report.error is None:
        state = previous  # its pod is gone; what it said was told then
    else:
        why = _shown(report.error) if report.error else _failure(last, name, pods)
        state = msgspec.structs.replace(previous, last_job=name, last_result=f"Failed: {why}"[:_MAX_RESULT])
    return Finding(status=False, reason="UpdateFailed", message=_advice(state.last_result or "Failed.")), state


def _advice(result: str) -> str:
    return f"{result.rstrip('.')}. The index before it is still served; the next update is tried by schedule."


def _remembered(repo: PackageRepo, previous: IndexStatus) -> Finding:
    """What the last status says, where no Job is left."""
    result = previous.last_result
    if result is not None and result.startswith("Failed"):
        return Finding(status=False, reason="UpdateFailed", message=_advice(result))
    if previous.last_update_time is not None:
        return Finding(status=True, reason="Updated", message=result or "Updated.")
    if repo.spec.index.suspend:
        message = "Updates are suspended (spec.index.suspend); uploads are visible all the same."
        return Finding(status=None, reason="Suspended", message=message)
    return Finding(status=None, reason="Pending", message="The first update has not finished yet.")


def _stuck(jobs: Sequence[Mapping[str, Any]], pods: Sequence[Mapping[str, Any]]) -> Finding | None:
    """A running Job whose pod cannot start."""
    running = {str(job["metadata"]["name"]) for job in jobs if _finished_at(job) is None}
    for pod in pods:
        job, status = _job_of(pod), pod.get("status") or {}
        if job not in running:
            continue
        for container in status.get("containerStatuses") or []:
            reason = ((container.get("state") or {}).get("waiting") or {}).get("reason")
            if reason in _WAITING:
                message = f"Job {job} cannot start: {_WAITING[reason]}."
                return Finding(status=False, reason="UpdateStuck", message=message)
        for one in status.get("conditions") or []:
            if one.get("type") == "PodScheduled" and one.get("reason") == "Unschedulable":
                message = f"Job {job} finds no node: {_shown(str(one.get('message')))}"
                return Finding(status=False, reason="UpdateStuck", message=message)
    return None


def _failure(job: Mapping[str, Any], name: str, pods: Sequence[Mapping[str, Any]]) -> str:
    for pod in _pods_of(name, pods):
        for ended in _terminated(pod):
            if ended.get("reason") == "OOMKilled":
                return f"Job {name} needed more memory than its limit."
    failed = _condition(job, "Failed") or {}
    if failed.get("reason") == "DeadlineExceeded":
        return f"Job {name} took longer than it may."
    return f"Job {name}: {_shown(str(failed.get('message') or 'it failed'))}"


def _report(name: str, pods: Sequence[Mapping[str, Any]]) -> _Report:
    """What the newest pod that reported said; hostile texts are no reports."""
    for pod in sorted(
        _pods_of(name, pods), key=lambda one: str(one["metadata"].get("creationTimestamp")), reverse=True
    ):
        for ended in _terminated(pod):
            message = ended.get("message")
            if not isinstance(message, str) or not message:
                continue
            try:
                return msgspec.convert(json.loads(message), _Report)
            except (ValueError, RecursionError, msgspec.ValidationError):
                return _Report(error=_shown(message)) if ended.get("exitCode") else _Report()
    return _Report()


def _pods_of(name: str, pods: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [pod for pod in pods if _job_of(pod) == name]


def _job_of(pod: Mapping[str, Any]) -> str:
    return str((pod["metadata"].get("labels") or {}).get("batch.kubernetes.io/job-name"))


def _terminated(pod: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = []
    for container in (pod.get("status") or {}).get("containerStatuses") or []:
        ended = (container.get("state") or {}).get("terminated")
        if isinstance(ended, Mapping):
            found.append(ended)
    return found


def _condition(job: Mapping[str, Any], kind: str) -> Mapping[str, Any] | None:
    conditions = (job.get("status") or {}).get("conditions") or []
    return next((one for one in conditions if one.get("type") == kind and one.get("status") == "True"), None)


def _finished_at(job: Mapping[str, Any]) -> datetime | None:
    found = _condition(job, "Complete") or _condition(job, "Failed")
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
    """A text of somebody else, without control characters and not long."""
    return "".join(c if c.isprintable() else " " for c in text[: _MAX_RESULT * 2]).strip()[:_MAX_RESULT]
