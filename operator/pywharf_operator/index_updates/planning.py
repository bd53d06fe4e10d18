"""PURE. The decision which updates of indexes start now, and with which Jobs."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from pywharf.core.names import RepoName
from pywharf_operator.cluster.live import annotations_of, is_being_deleted
from pywharf_operator.index_updates.jobs import is_finished
from pywharf_operator.index_updates.runs import Runs
from pywharf_operator.index_updates.slots import Waiting, granted, waits_for_job, waits_for_slot
from pywharf_operator.index_updates.state import due_trigger, jobs_of_repo, last_index, needs_first_update
from pywharf_operator.index_updates.stuck import is_stuck
from pywharf_operator.render import Finding, RepoVerdict
from pywharf_operator.render.labels import Manifest
from pywharf_operator.render.objects.job import INSTANTIATE, TEMPLATE_ANNOTATION, update_job
from pywharf_operator.spec import ObjectKey

_MOST_UNFINISHED = 2
"""Most unfinished Jobs of a repo: one, and one more if the first cannot start."""


class NewJob(msgspec.Struct, frozen=True):
    """A Job to create."""

    manifest: Manifest
    replaces: Mapping[str, Any] | None = None
    """The Job that is deleted once the new one exists."""


class RepoPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to happen for one repo's index."""

    repo: RepoVerdict
    jobs: tuple[Mapping[str, Any], ...]
    """The repo's Jobs, before anything starts."""
    new_jobs: tuple[NewJob, ...] = ()
    acts_on: str | None = None
    """The trigger that one of `new_jobs`, or a Job that exists, acts on."""
    waiting: Finding | None = None
    """The condition IndexUpToDate of an update that is due and cannot start yet."""


def plan_updates(
    repos: Sequence[RepoVerdict], cron_jobs: Mapping[RepoName, Manifest], runs: Runs, now: datetime
) -> tuple[RepoPlan, ...]:
    """Plan the updates of the repos. `cron_jobs` has a CronJob for each of them, by repo name."""
    starting, waiting = _starts(repos, runs, now)
    return tuple(
        _repo_plan(
            repo,
            cron_jobs[repo.name],
            runs,
            may_start=repo.repo.key in starting,
            waiting=waiting.get(repo.repo.key),
        )
        for repo in repos
    )


def _starts(
    repos: Iterable[RepoVerdict], runs: Runs, now: datetime
) -> tuple[frozenset[ObjectKey], Mapping[ObjectKey, Finding]]:
    """Decide which of the due updates start, and return the condition IndexUpToDate of the others.

    One starts at a time for each repo, and a fair share for each namespace.
    """
    running: Counter[str] = Counter()
    waiting: list[Waiting] = []
    for_job: dict[ObjectKey, Finding] = {}
    for verdict in repos:
        repo, all_jobs = verdict.repo, runs.jobs.get(verdict.name, [])
        running[repo.key.namespace] += sum(map(_takes_slot, all_jobs))
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
    return taken, {**for_job, **waits_for_slot(waiting, taken)}


def _waiting(verdict: RepoVerdict) -> Waiting:
    updated, created = last_index(verdict.repo).last_update_time, verdict.repo.metadata.creation_timestamp
    return Waiting(
        last_update=updated.timestamp() if updated is not None else float("-inf"),
        created=created.timestamp() if created is not None else float("-inf"),
        repo=verdict.repo.key,
    )


def _takes_slot(job: Mapping[str, Any]) -> bool:
    """Return whether the operator started the Job and it has not ended. A CronJob's own Jobs follow their schedules."""
    return annotations_of(job).get(INSTANTIATE) == "manual" and not is_finished(job)


def _repo_plan(
    repo: RepoVerdict, cron_job: Manifest, runs: Runs, *, may_start: bool, waiting: Finding | None
) -> RepoPlan:
    jobs = jobs_of_repo(repo.repo, runs.jobs.get(repo.name, []))
    trigger = due_trigger(repo.repo)
    new_jobs: list[NewJob] = []
    acts_on = None
    request = _request(repo, trigger, jobs)
    if request is not None:
        wanted = update_job(cron_job, request)
        same = next((one for one in jobs if one["metadata"]["name"] == wanted["metadata"]["name"]), None)
        if same is None and may_start:
            new_jobs.append(NewJob(wanted))
        # A Job that is being deleted triggers a reconcile of this server when it is gone.
        if may_start if same is None else not is_being_deleted(same):
            acts_on = trigger
    new_jobs += _replacements(cron_job, jobs, runs.refused)
    return RepoPlan(repo=repo, jobs=tuple(jobs), new_jobs=tuple(new_jobs), acts_on=acts_on, waiting=waiting)


def _request(repo: RepoVerdict, trigger: str | None, jobs: Sequence[Mapping[str, Any]]) -> str | None:
    """Return a text that names the requested update; None if none is requested. The same request starts one Job."""
    uid = repo.repo.metadata.uid or ""
    if trigger is not None:
        # A value may recur, or be one of a repo that was created again. Then the Job of before must not count for it.
        # The last Job becomes known with the trigger that was acted on, so a repeated attempt has the same name.
        last = last_index(repo.repo)
        return "\0".join((uid, last.last_trigger or "", last.last_job or "", trigger))
    # No trigger is a uid, and a repo that was created again gets a first update of its own.
    return uid if needs_first_update(repo.repo) and not jobs else None


def _replacements(cron_job: Manifest, jobs: Sequence[Mapping[str, Any]], refused: Mapping[str, str]) -> list[NewJob]:
    """Replace each Job that gets no pod and whose template differs from the CronJob's, which a user may have corrected.

    A Job keeps its template. So it would be refused until its deadline, and keep the schedule's next Job from starting.
    """
    wanted = _template_of(cron_job["spec"]["jobTemplate"])
    return [
        NewJob(update_job(cron_job, uid), replaces=job)
        for job in jobs
        if (uid := str(job["metadata"].get("uid"))) in refused and not is_finished(job) and _template_of(job) != wanted
    ]


def _template_of(job: Mapping[str, Any]) -> object:
    return annotations_of(job).get(TEMPLATE_ANNOTATION)
