"""The Jobs that update indexes: what they reported, and those that are to be run at once."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from pywharf_operator.index_jobs import due_trigger, index_state, needs_first_update, of_this_repo
from pywharf_operator.kinds import JOB, POD
from pywharf_operator.kube import Json, Kube, KubeError
from pywharf_operator.render import Finding, RepoVerdict
from pywharf_operator.render.job import update_job
from pywharf_operator.render.labels import REPO_LABEL, SERVER_LABEL, Manifest
from pywharf_operator.spec import ObjectKey
from pywharf_operator.spec.package_repo import IndexStatus


class Runs(msgspec.Struct, frozen=True):
    """Jobs and their pods, by repo name."""

    jobs: Mapping[str, list[Json]]
    pods: Mapping[str, list[Json]]
    server_pods: list[Json]
    """The other pods of the server: its replicas."""


async def read_runs(kube: Kube, server: ObjectKey) -> Runs:
    """Every Job and pod of a server."""
    labels = f"{SERVER_LABEL}={server.name}"
    jobs, pods = await asyncio.gather(
        kube.list(JOB, server.namespace, labels), kube.list(POD, server.namespace, labels)
    )
    return Runs(_by_repo(jobs), _by_repo(pods), [pod for pod in pods if _repo_of(pod) is None])


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


async def update_index_of(
    kube: Kube, verdict: RepoVerdict, cron_job: Manifest, runs: Runs, now: datetime
) -> tuple[Finding, IndexStatus]:
    """What is known of a repo's index. Runs an update where one is asked for; asked twice, it runs once."""
    jobs = of_this_repo(verdict.repo, runs.jobs.get(verdict.name, []))
    trigger, started = due_trigger(verdict.repo), False
    try:
        if trigger is not None:
            # A value may come again after another, or for a repo that is made anew.
            wish = (verdict.repo.metadata.uid or "", _previous(verdict).last_trigger or "", trigger)
            started = await _start(kube, cron_job, "\0".join(wish), jobs)
        elif needs_first_update(verdict.repo) and not jobs:
            # No trigger is a uid, and a repo that is made anew gets a first update of its own.
            await _start(kube, cron_job, verdict.repo.metadata.uid or "", jobs)
    except KubeError as error:
        if not error.is_permanent:
            raise
        message = f"The API server refuses its Job: {error.message or error.reason}"
        return Finding(status=False, reason="UpdateStuck", message=message), _previous(verdict)
    finding, state = index_state(verdict.repo, jobs, runs.pods.get(verdict.name, []), now)
    if started:
        state = msgspec.structs.replace(state, last_trigger=trigger)
    return finding, state


def _previous(verdict: RepoVerdict) -> IndexStatus:
    status = verdict.repo.status
    return (status.index if status is not None else None) or IndexStatus()


async def _start(kube: Kube, cron_job: Manifest, trigger: str, jobs: list[Mapping[str, Any]]) -> bool:
    """See that there is a Job of the trigger; whether there is one that stays."""
    job = update_job(cron_job, trigger)
    same = next((one for one in jobs if one["metadata"]["name"] == job["metadata"]["name"]), None)
    if same is not None:
        # One that is being deleted wakes this server when it is gone.
        return same["metadata"].get("deletionTimestamp") is None
    made = await kube.create(JOB, job)
    if made is not None:
        jobs.append({"apiVersion": "batch/v1", "kind": "Job"} | made)
    return True
