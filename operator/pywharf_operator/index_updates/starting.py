"""The Jobs that update indexes: their reports, and the start of those that must run immediately."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from pywharf_operator.cluster.kube import Json, Kube, KubeError
from pywharf_operator.index_updates.refused_pods import is_late, refused_jobs, with_remedy, without_pod
from pywharf_operator.index_updates.slots import Waiting, granted, waits_for_job, waits_for_slot
from pywharf_operator.index_updates.state import (
    due_trigger,
    index_state,
    is_finished,
    is_stuck,
    jobs_of_repo,
    needs_first_update,
)
from pywharf_operator.render import Finding, RepoVerdict
from pywharf_operator.render.labels import REPO_LABEL, SERVER_LABEL, Manifest, selector_of
from pywharf_operator.render.objects.job import INSTANTIATE, TEMPLATE_ANNOTATION, update_job
from pywharf_operator.spec import ObjectKey
from pywharf_operator.spec.kinds import JOB, POD
from pywharf_operator.spec.package_repo import IndexStatus

_MOST_UNFINISHED = 2
"""Most unfinished Jobs of a repo: one, and one more if the first cannot start."""


class Starts(msgspec.Struct, frozen=True):
    """The repos whose Jobs may start now. The others start when Jobs have ended."""

    granted: frozenset[ObjectKey]
    waiting: Mapping[ObjectKey, Finding]
    """The condition IndexUpToDate of the repos that wait."""


def starts(repos: Iterable[RepoVerdict], runs: "Runs", now: datetime) -> Starts:
    """Decide which of the due updates start: one at a time for each repo, and a fair share for each namespace."""
    running: Counter[str] = Counter()
    waiting: list[Waiting] = []
    for_job: dict[ObjectKey, Finding] = {}
    for verdict in repos:
        repo, all_jobs = verdict.repo, runs.jobs.get(verdict.name, [])
        running[repo.key.namespace] += sum(map(_is_running, all_jobs))
        jobs = jobs_of_repo(repo, all_jobs)
        if due_trigger(repo) is None and (jobs or not needs_first_update(repo)):
            continue
        unfinished = [job for job in jobs if not is_finished(job)]
        pods = runs.pods.get(verdict.name, [])
        holding = [job for job in unfinished if not is_stuck(job, pods, now)]
        if len(unfinished) >= _MOST_UNFINISHED or holding:
            for_job[repo.key] = waits_for_job(str((holding or unfinished)[0]["metadata"]["name"]))
        else:
            waiting.append(_waiting(verdict))
    taken = granted(waiting, running)
    return Starts(taken, {**for_job, **waits_for_slot(waiting, taken)})


def _waiting(verdict: RepoVerdict) -> Waiting:
    updated, created = _previous(verdict).last_update_time, verdict.repo.metadata.creation_timestamp
    return Waiting(
        last_update=updated.timestamp() if updated is not None else float("-inf"),
        created=created.timestamp() if created is not None else float("-inf"),
        repo=verdict.repo.key,
    )


def _is_running(job: Mapping[str, Any]) -> bool:
    """Return whether the operator started the Job and it has not ended. A CronJob's own Jobs follow their schedules."""
    is_own = (job["metadata"].get("annotations") or {}).get(INSTANTIATE) == "manual"
    return is_own and not is_finished(job)


class Runs(msgspec.Struct, frozen=True):
    """Jobs and their pods, by repo name."""

    jobs: Mapping[str, list[Json]]
    pods: Mapping[str, list[Json]]
    server_pods: list[Json]
    """The server's replicas: the pods that its Service sends requests to."""
    refused: Mapping[str, str] = {}
    """Why a Job gets no pod, by the Job's uid."""
    waits_for_pods: bool = False
    """Whether a running Job has no pod."""


async def read_runs(kube: Kube, server: ObjectKey, now: datetime) -> Runs:
    """Read every Job and pod of a server, and why Jobs get no pods."""
    labels = f"{SERVER_LABEL}={server.name}"
    jobs, pods = await asyncio.gather(
        kube.list(JOB, server.namespace, labels), kube.list(POD, server.namespace, labels)
    )
    of_replicas = selector_of(server.name).items()
    replicas = [pod for pod in pods if of_replicas <= (pod["metadata"].get("labels") or {}).items()]
    without = without_pod(jobs, pods)
    found = await refused_jobs(kube, server.namespace) if any(is_late(job, now) for job in without) else {}
    # An Event outlives what it reports.
    refused = {uid: found[uid] for job in without if (uid := str(job["metadata"].get("uid"))) in found}
    return Runs(_by_repo(jobs), _by_repo(pods), replicas, refused, waits_for_pods=bool(without))


def _by_repo(items: list[Json]) -> Mapping[str, list[Json]]:
    found: dict[str, list[Json]] = defaultdict(list)
    for item in items:
        repo = _repo_of(item)
        if repo is not None:
            found[repo].append(item)
    return found


def _repo_of(item: Json) -> str | None:
    repo = (item["metadata"].get("labels") or {}).get(REPO_LABEL)
    return repo if isinstance(repo, str) else None


async def update_index_of(  # noqa: PLR0913, PLR0917 - what it reads, and when
    kube: Kube, verdict: RepoVerdict, cron_job: Manifest, runs: Runs, due: Starts, now: datetime
) -> tuple[Finding, IndexStatus]:
    """Start an update if one is requested, and return what is known of the index. The same request starts one Job."""
    jobs = jobs_of_repo(verdict.repo, runs.jobs.get(verdict.name, []))
    trigger, started = due_trigger(verdict.repo), False
    try:
        if trigger is not None:
            # A value may recur after another one, or for a repo that was created again.
            request = (verdict.repo.metadata.uid or "", _previous(verdict).last_trigger or "", trigger)
            started = await _start(kube, cron_job, "\0".join(request), jobs, may_start=verdict.repo.key in due.granted)
        elif needs_first_update(verdict.repo) and not jobs:
            # No trigger is a uid, and a repo that was created again gets a first update of its own.
            await _start(
                kube, cron_job, verdict.repo.metadata.uid or "", jobs, may_start=verdict.repo.key in due.granted
            )
        await _replace_refused(kube, cron_job, jobs, runs.refused)
    except KubeError as error:
        if not error.is_permanent:
            raise
        message = f"The API server refuses its Job: {with_remedy(error.message or error.reason)}"
        return Finding(status=False, reason="UpdateStuck", message=message), _previous(verdict)
    finding, state = index_state(verdict.repo, jobs, runs.pods.get(verdict.name, []), now)
    finding = _refused_pod(jobs, runs.refused) or finding
    if not started and finding.status is not False:  # a fault matters more than a waiting update
        finding = due.waiting.get(verdict.repo.key, finding)
    if started:
        state = msgspec.structs.replace(state, last_trigger=trigger)
    return finding, state


async def _replace_refused(
    kube: Kube, cron_job: Manifest, jobs: list[Mapping[str, Any]], refused: Mapping[str, str]
) -> None:
    """Replace each Job that gets no pod and whose template differs from the CronJob's, which a user may have corrected.

    A Job keeps its template. So it would be refused until its deadline, and keep the schedule's next Job from starting.
    """
    wanted = _template_of(cron_job["spec"]["jobTemplate"])
    for job in tuple(jobs):
        uid = str(job["metadata"].get("uid"))
        if uid not in refused or is_finished(job) or _template_of(job) == wanted:
            continue
        key = ObjectKey(str(job["metadata"]["namespace"]), str(job["metadata"]["name"]))
        made = await kube.create(JOB, update_job(cron_job, uid))
        if made is not None:
            jobs.append({"apiVersion": "batch/v1", "kind": "Job"} | made)
        await kube.delete(JOB, key, uid)
        jobs.remove(job)


def _template_of(job: Mapping[str, Any]) -> object:
    return (job["metadata"].get("annotations") or {}).get(TEMPLATE_ANNOTATION)


def _refused_pod(jobs: Sequence[Mapping[str, Any]], refused: Mapping[str, str]) -> Finding | None:
    """Return the condition about the first Job that gets no pod."""
    for job in jobs:
        why = refused.get(str(job["metadata"].get("uid")))
        if why is not None and not is_finished(job):
            message = f"Job {job['metadata']['name']} gets no pod: {with_remedy(why)}"
            return Finding(status=False, reason="UpdateStuck", message=message)
    return None


def _previous(verdict: RepoVerdict) -> IndexStatus:
    status = verdict.repo.status
    return (status.index if status is not None else None) or IndexStatus()


async def _start(
    kube: Kube, cron_job: Manifest, trigger: str, jobs: list[Mapping[str, Any]], *, may_start: bool
) -> bool:
    """Create the trigger's Job if it is missing and one may start. Return whether a Job exists that stays."""
    job = update_job(cron_job, trigger)
    same = next((one for one in jobs if one["metadata"]["name"] == job["metadata"]["name"]), None)
    if same is not None:
        # A Job that is being deleted triggers a reconcile of this server when it is gone.
        return same["metadata"].get("deletionTimestamp") is None
    if not may_start:
        return False
    made = await kube.create(JOB, job)
    if made is not None:
        jobs.append({"apiVersion": "batch/v1", "kind": "Job"} | made)
    return True
