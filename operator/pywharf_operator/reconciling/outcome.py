"""PURE. What a reconcile found and did, as the conditions of the server and its repos."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from pywharf_operator.index_updates.refused_pods import with_remedy
from pywharf_operator.index_updates.starting import Runs
from pywharf_operator.reconciling.apply import Refusal
from pywharf_operator.reconciling.observe import Observed
from pywharf_operator.render import (
    Environment,
    Finding,
    RenderedServer,
    RepoVerdict,
    Resolution,
    ServerVerdict,
)
from pywharf_operator.render.labels import REPO_LABEL, Manifest
from pywharf_operator.render.resolve.missing_kinds import api_missing
from pywharf_operator.render.resolve.shares import round_robin
from pywharf_operator.spec import ObjectKey
from pywharf_operator.spec.kinds import CRON_JOB
from pywharf_operator.spec.package_repo import PackageRepoStatus
from pywharf_operator.status.conditions import (
    ready_replicas,
    repo_status,
)
from pywharf_operator.status.programmed import ReplicaReport


class Result(msgspec.Struct, frozen=True):
    """The result of one reconcile: what it found and did."""

    observed: Observed
    verdict: ServerVerdict
    resolution: Resolution
    rendered: RenderedServer
    runs: Runs
    reports: tuple[ReplicaReport, ...]
    """The reports of the ready replicas."""
    lost: Finding | None
    """The finding that some of them could not be reached for a while."""
    refusals: tuple[Refusal, ...]
    refused_replica: str | None
    """Why the Deployment gets no further pod."""


def unserved_status(verdict: RepoVerdict, now: datetime) -> PackageRepoStatus:
    """Return the status of a repo without a server, in the same words as if a server did not admit it."""
    return repo_status(verdict, url=None, programmed=NOT_SERVED, index_up_to_date=NO_UPDATES, index=None, now=now)


def not_served_yet(resolution: Resolution, server: ObjectKey) -> Sequence[RepoVerdict]:
    """Return the repos that get a new status if the server is malformed: those not known to be served.

    They are repos of other namespaces and get the status that they would get if the server did not exist, so that
    nobody finds out whether it does.
    """
    return [one for one in resolution.repos if not is_accepted(one) and one.repo.key.namespace != server.namespace]


def is_accepted(verdict: RepoVerdict) -> bool:
    status = verdict.repo.status
    return status is not None and any(one.type == "Accepted" and one.status == "True" for one in status.conditions)


def unreadable_server(server: ObjectKey) -> Finding:
    return Finding(
        status=None,
        reason="ServerUnreadable",
        message=(
            f"The operator may not read the namespace {server.namespace} that spec.serverRef names; ask whoever runs "
            "the operator to give its ServiceAccount the Role there again."
        ),
    )


NOT_SERVED = Finding(status=False, reason="NotServed", message="The repo is not served; other conditions say why.")


NO_UPDATES = Finding(status=None, reason="NotServed", message="Its index is not updated while it is not served.")


_SHOWN = 3
"""Maximum number of objects that one message names."""


def server_ready(result: Result, environment: Environment) -> Finding:
    if result.refusals:
        first = result.refusals[0]
        listed = " ".join(f"{one.object}: {one.message}" for one in result.refusals[:_SHOWN])
        more = len(result.refusals) - _SHOWN
        return Finding(status=False, reason=first.reason, message=listed + (f" And {more} more." if more > 0 else ""))
    missing = api_missing(result.verdict.server, environment)
    if missing is not None:
        return missing
    every = not any(report.reached for report in result.reports)
    finding = ready_replicas(result.verdict.server, len(result.reports), result.lost if every else None)
    return _of_replicas(finding, result.refused_replica)


def _of_replicas(finding: Finding, refused: str | None) -> Finding:
    """Return the finding about the replicas, with the cluster's reason if it refuses one."""
    if refused is None:
        return finding
    message = f"The cluster refuses a pod of the server: {with_remedy(refused, 'server')}"
    if finding.status:
        return Finding(status=True, reason=finding.reason, message=f"{finding.message} {message}")
    return Finding(status=False, reason="PodRefused", message=message)


def in_fair_order(cron_jobs: Sequence[Manifest], verdict: ServerVerdict) -> Sequence[Manifest]:
    """Order the CronJobs so that each namespace has its first ones early: a newer event may postpone the rest."""
    namespaces = {repo.name: repo.repo.key.namespace for repo in verdict.repos}
    return round_robin(cron_jobs, lambda one: namespaces[one["metadata"]["labels"][REPO_LABEL]])


def refused_job(cron_job: Manifest, refusals: Sequence[Refusal]) -> Finding | None:
    """Return the finding for a repo's owner, who may not see the server, if its CronJob is refused; otherwise None."""
    name = f"{CRON_JOB.name} {ObjectKey(cron_job['metadata']['namespace'], cron_job['metadata']['name'])}"
    refusal = next((one for one in refusals if one.object == name and one.reason == "ApplyRefused"), None)
    if refusal is None:
        return None
    return Finding(status=False, reason="UpdateStuck", message=f"{name}: {with_remedy(refusal.message)}")


def is_ready_status(status: PackageRepoStatus) -> bool:
    return any(one.type == "Ready" and one.status == "True" for one in status.conditions)


def counts_of(statuses: Sequence[PackageRepoStatus]) -> Mapping[tuple[str, str], int]:
    """Return how many repos have each condition, by type and status."""
    return Counter((one.type, one.status) for status in statuses for one in status.conditions)
