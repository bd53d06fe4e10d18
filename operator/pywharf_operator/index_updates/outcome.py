"""PURE. What is known of each repo's index, once the updates that were due are started."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from pywharf.core.names import RepoName
from pywharf_operator.cluster.remedies import with_remedy
from pywharf_operator.index_updates.jobs import is_finished
from pywharf_operator.index_updates.planning import RepoPlan
from pywharf_operator.index_updates.runs import Runs
from pywharf_operator.index_updates.starting import Started
from pywharf_operator.index_updates.state import index_state
from pywharf_operator.render import Finding
from pywharf_operator.spec.package_repo import IndexStatus


def indexes_of(
    plans: Iterable[RepoPlan], started: Mapping[RepoName, Started], runs: Runs, now: datetime
) -> dict[RepoName, tuple[Finding, IndexStatus]]:
    """Return the condition IndexUpToDate and `status.index` of each repo."""
    return {
        plan.repo.name: _index_of(plan, started.get(plan.repo.name) or Started(plan.jobs), runs, now) for plan in plans
    }


def _index_of(plan: RepoPlan, started: Started, runs: Runs, now: datetime) -> tuple[Finding, IndexStatus]:
    repo = plan.repo.repo
    finding, state = index_state(repo, started.jobs, runs.pods.get(plan.repo.name, []), now)
    if started.refused is not None:
        # What an earlier Job has reported counts all the same: it may be gone when the API server takes a new one.
        message = f"The API server refuses its Job: {with_remedy(started.refused)}"
        return Finding(status=False, reason="UpdateStuck", message=message), state
    finding = _refused_pod(started.jobs, runs.refused) or finding
    if plan.acts_on is not None:
        return finding, msgspec.structs.replace(state, last_trigger=plan.acts_on)
    # A fault matters more than a waiting update.
    waiting = None if finding.status is False else plan.waiting
    return waiting or finding, state


def _refused_pod(jobs: Sequence[Mapping[str, Any]], refused: Mapping[str, str]) -> Finding | None:
    """Return the condition about the first Job that gets no pod."""
    for job in jobs:
        why = refused.get(str(job["metadata"].get("uid")))
        if why is not None and not is_finished(job):
            message = f"Job {job['metadata']['name']} gets no pod: {with_remedy(why)}"
            return Finding(status=False, reason="UpdateStuck", message=message)
    return None
