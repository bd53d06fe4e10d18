"""The start of the Jobs that are planned."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from pywharf.core.names import RepoName
from pywharf_operator.cluster.kube import Kube, KubeError
from pywharf_operator.cluster.live import key_of
from pywharf_operator.index_updates.planning import RepoPlan
from pywharf_operator.spec.kinds import JOB


class Started(msgspec.Struct, frozen=True):
    """The Jobs of one repo after its planned Jobs were started."""

    jobs: tuple[Mapping[str, Any], ...]
    refused: str | None = None
    """Why the API server refused one of them."""


async def start(kube: Kube, plans: Iterable[RepoPlan]) -> Mapping[RepoName, Started]:
    """Start the planned Jobs. Return the Jobs of each repo for which there was one to start. Raises KubeError."""
    return {plan.repo.name: await _start(kube, plan) for plan in plans if plan.new_jobs}


async def _start(kube: Kube, plan: RepoPlan) -> Started:
    jobs = list(plan.jobs)
    try:
        for new in plan.new_jobs:
            made = await kube.create(JOB, new.manifest)
            if made is not None:
                jobs.append({"apiVersion": "batch/v1", "kind": "Job"} | made)
            if new.replaces is not None:
                await kube.delete(JOB, key_of(new.replaces), str(new.replaces["metadata"].get("uid")))
                jobs.remove(new.replaces)
    except KubeError as error:
        if not error.is_permanent:
            raise
        return Started(tuple(jobs), refused=error.message or error.reason)
    return Started(tuple(jobs))
