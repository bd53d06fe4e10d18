"""PURE. The state of a repo's index, from its Jobs and their pods."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from pywharf.core.reports import IndexReport
from pywharf_operator.index_updates.jobs import (
    MAX_SHOWN,
    condition_of,
    created_at,
    finished_at,
    index_ended,
    is_finished,
    moment,
    others_running,
    pods_of,
    shown,
    terminated,
)
from pywharf_operator.index_updates.stuck import lingering, stuck
from pywharf_operator.render import Finding
from pywharf_operator.spec import PackageRepo
from pywharf_operator.spec.package_repo import TRIGGER_ANNOTATION, IndexStatus

_MAX_TRIGGER: Final = 1000
_FAILED: Final = "Failed: "
"""Prefix of a failed update's result."""


def last_index(repo: PackageRepo) -> IndexStatus:
    """Return what the last status says about the index; empty if there is none."""
    return (repo.status.index if repo.status is not None else None) or IndexStatus()


def due_trigger(repo: PackageRepo) -> str | None:
    """Return the value of the annotation that requests an update; None if it is missing or was acted upon already."""
    value = (repo.metadata.annotations or {}).get(TRIGGER_ANNOTATION)
    if not isinstance(value, str) or not value:
        return None
    value = value[:_MAX_TRIGGER]
    return None if last_index(repo).last_trigger == value else value


def needs_first_update(repo: PackageRepo) -> bool:
    """Return whether no update is known yet, so that one runs immediately and not only by the schedule."""
    return not repo.spec.index.suspend and last_index(repo).last_job is None


def jobs_of_repo(repo: PackageRepo, jobs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the repo's Jobs, without those of a former repo of the same name."""
    since = repo.metadata.creation_timestamp
    return [job for job in jobs if since is None or (created := created_at(job)) is None or created >= since]


def index_state(
    repo: PackageRepo, jobs: Sequence[Mapping[str, Any]], pods: Sequence[Mapping[str, Any]], now: datetime
) -> tuple[Finding, IndexStatus]:
    """Return the condition IndexUpToDate and `status.index`. What is no longer known stays as in the last status."""
    previous = last_index(repo)
    finished = sorted((job for job in jobs if _is_newer(job, jobs, previous)), key=_order)
    finding, state = (
        _state_of_last_job(repo, finished[-1], jobs, pods, previous)
        if finished
        else (_remembered(repo, previous), previous)
    )
    kept = _kept_by_sidecar(jobs, pods)
    if kept is not None:
        job, pod = kept
        found = _of_pod(job, pod, jobs, state)
        if found is not None:
            finding, state = _updated(found), found
        message = lingering(pod, now)
        if message is not None:
            text = f"Job {job['metadata']['name']} {message}"
            return Finding(status=False, reason="SidecarRunning", message=text), state
    return (stuck(jobs, pods, now) or finding), state


def _kept_by_sidecar(
    jobs: Sequence[Mapping[str, Any]], pods: Sequence[Mapping[str, Any]]
) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
    """Return the newest unfinished Job whose index container has succeeded, and its pod; None if there is none."""
    for job in sorted(jobs, key=_created, reverse=True):
        if is_finished(job):
            continue
        for pod in pods_of(str(job["metadata"]["name"]), pods):
            ended = index_ended(pod)
            if ended is not None and not ended.get("exitCode") and others_running(pod):
                return job, pod
    return None


def _of_pod(
    job: Mapping[str, Any], pod: Mapping[str, Any], jobs: Sequence[Mapping[str, Any]], previous: IndexStatus
) -> IndexStatus | None:
    """Return the index status from the pod's report; None if it has no report, or one older than what is known."""
    ended = index_ended(pod) or {}
    report, finished = _decoded(ended.get("message")), moment(ended.get("finishedAt"))
    if report is None or finished is None:
        return None
    if previous.last_update_time is not None and finished < previous.last_update_time:
        # A node's clock may be slow. So a Job that was created after the known one counts all the same.
        known = _last_job(jobs, previous)
        if known is None or _created(job) < _created(known):
            return None
    return _state(report, str(job["metadata"]["name"]), finished, previous)


def _is_newer(job: Mapping[str, Any], jobs: Sequence[Mapping[str, Any]], previous: IndexStatus) -> bool:
    """Return whether the Job finished, and not before the last known one.

    Jobs are removed in another order than they were created. While the last known one is there, both times are of one
    clock; the known time may be of a node's, which may be fast.
    """
    finished, last = finished_at(job), _last_job(jobs, previous)
    known = (finished_at(last) if last is not None else None) or previous.last_update_time
    return finished is not None and (known is None or finished >= known)


def _last_job(jobs: Sequence[Mapping[str, Any]], previous: IndexStatus) -> Mapping[str, Any] | None:
    return next((job for job in jobs if job["metadata"]["name"] == previous.last_job), None)


def _state_of_last_job(
    repo: PackageRepo,
    job: Mapping[str, Any],
    jobs: Sequence[Mapping[str, Any]],
    pods: Sequence[Mapping[str, Any]],
    previous: IndexStatus,
) -> tuple[Finding, IndexStatus]:
    name = str(job["metadata"]["name"])
    own = pods_of(name, pods)
    if previous.last_job == name and not any(terminated(pod) for pod in own):
        return _remembered(repo, previous), previous  # its pod is gone; its report is in the last status
    if not condition_of(job, "Complete"):
        # Another container of the pod may have failed, or have kept the pod running until the Job's deadline.
        done = next((found for pod in own[:1] if (found := _state_of_succeeded_pod(job, pod, jobs, previous))), None)
        if done is not None:
            return _updated(done), done
        return _failed(repo, name, _failure(job, name, own), previous)
    report = _report(own)
    if report is None:
        return _failed(repo, name, f"Job {name} ended, but its report cannot be read; check its image", previous)
    state = _state(report, name, finished_at(job), previous)
    return _updated(state), state


def _state_of_succeeded_pod(
    job: Mapping[str, Any], pod: Mapping[str, Any], jobs: Sequence[Mapping[str, Any]], previous: IndexStatus
) -> IndexStatus | None:
    ended = index_ended(pod)
    return None if ended is None or ended.get("exitCode") else _of_pod(job, pod, jobs, previous)


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
    problems = f"; {len(report.problems)} problems: {shown(report.problems[0])}" if report.problems else ""
    text = f"Updated: {_count(report.projects)} projects, {_count(report.files)} files{problems}"
    return f"{text[: MAX_SHOWN - 1].rstrip('.')}."


def _updated(state: IndexStatus) -> Finding:
    return Finding(status=True, reason="Updated", message=state.last_result or "Updated.")


def _failed(repo: PackageRepo, job: str, why: str, previous: IndexStatus) -> tuple[Finding, IndexStatus]:
    result = f"{_FAILED}{why}"[:MAX_SHOWN]
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


def _failure(job: Mapping[str, Any], name: str, pods: Sequence[Mapping[str, Any]]) -> str:
    """Return why the Job failed.

    The source nearest to the cause counts: its deadline, its pods' newest end, or the Job's message.
    """
    failed = condition_of(job, "Failed") or {}
    if failed.get("reason") == "DeadlineExceeded":
        return f"Job {name} took longer than it may, or could not start."
    for pod in pods:
        if (pod.get("status") or {}).get("reason") == "Evicted":
            return f"Job {name}: its node was short of something and evicted its pod."
        for ended in terminated(pod):
            if ended.get("reason") == "OOMKilled":
                return (
                    f"Job {name} needed more memory than its limit; raise limits.memory in spec.jobs.resources of the "
                    "PackageServer, or divide the repo into smaller ones."
                )
            report, message = _decoded(ended.get("message")), ended.get("message")
            said = report.error if report is not None else _last_line(message) if isinstance(message, str) else ""
            if said and (text := shown(said)):
                return text
    return f"Job {name}: {shown(str(failed.get('message') or '')) or 'it failed'}"


def _report(pods: Sequence[Mapping[str, Any]]) -> IndexReport | None:
    """Return the report of the newest pod that has one, otherwise an empty report; None if it is malformed."""
    for pod in pods:
        for ended in terminated(pod):
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
    return next((line for line in reversed(text.splitlines()) if shown(line)), "")


def _order(job: Mapping[str, Any]) -> tuple[float, str]:
    finished = finished_at(job)
    return (finished.timestamp() if finished is not None else 0.0, _created(job))


def _created(job: Mapping[str, Any]) -> str:
    """Return a text by which Jobs sort in the order of their creation."""
    return str(job["metadata"].get("creationTimestamp"))


def _count(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"
