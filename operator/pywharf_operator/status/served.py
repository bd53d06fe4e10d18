"""PURE. The statuses of a server and its repos after a reconcile, from what it found and did."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

import msgspec

from pywharf.core.names import RepoName
from pywharf_operator.cluster.kube import Json
from pywharf_operator.cluster.remedies import with_remedy
from pywharf_operator.render import Finding, RenderedServer, RepoVerdict, ServerVerdict
from pywharf_operator.render.objects.config_map import plain
from pywharf_operator.render.resolve.identity import entries_in, review_forbidden
from pywharf_operator.render.resolve.repo_config import waits_for_cache
from pywharf_operator.render.urls import base_url, repo_url
from pywharf_operator.spec import ObjectKey
from pywharf_operator.spec.names import REPO_LABEL
from pywharf_operator.spec.package_repo import IndexStatus, PackageRepoStatus
from pywharf_operator.spec.package_server import PackageServerStatus, RepoCounts
from pywharf_operator.status.conditions import READY, namespaces_read, ready_replicas, repo_status, server_status
from pywharf_operator.status.policies import NOT_DELIVERED, PolicyReport
from pywharf_operator.status.programmed import ConfigHistory, ReplicaReport, programmed, refused, too_old
from pywharf_operator.status.refusal import Refusal, refused_job, refused_objects
from pywharf_operator.status.unserved import NO_UPDATES, NOT_SERVED, RepoStatuses
from pywharf_operator.status.upstreams import needs_newer, upstream_reachable

_WAITS_FOR_CACHE: Final = Finding(
    status=False,
    reason="Waiting",
    message=(
        "Pods of the server run that were started before it had a cache. Until new ones have replaced them, the repo "
        "is served with the upstream mode Pages; if that takes long, see why the new pods do not become ready."
    ),
)


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one reconcile: what it found and did."""

    verdict: ServerVerdict
    repos: Sequence[RepoVerdict]
    """The repos that name the server, served or not."""
    raws: Mapping[ObjectKey, Json]
    """These repos, as the API server returned them."""
    malformed: int
    """Number of further repos that cannot be parsed."""
    unreadable: frozenset[str]
    """Namespaces of which nothing could be read."""
    unlisted_policies: frozenset[str] | None = frozenset()
    """Namespaces whose policies could not be listed; None: all."""
    rendered: RenderedServer
    missing_kind: Finding | None
    """The finding about a kind of object that the server needs and the cluster lacks."""
    reports: tuple[ReplicaReport, ...]
    """The reports of the ready replicas."""
    history: ConfigHistory
    lost: Finding | None
    """The finding that some of them could not be reached for a while."""
    rolled_out: bool
    """Whether every replica is of the newest pod template."""
    refusals: tuple[Refusal, ...]
    refused_replica: str | None
    """Why the Deployment gets no further pod."""
    indexes: Mapping[RepoName, tuple[Finding, IndexStatus]]
    """The condition IndexUpToDate and `status.index` of each repo whose index is updated."""
    client_configs: Mapping[ObjectKey, Finding] = {}
    """The condition ClientConfigured of each repo whose ConfigMap is rendered."""


def programmed_of(result: Result) -> dict[RepoName, Finding]:
    """Return the condition Programmed of each served repo."""
    rendered = result.rendered
    if not rendered.config_rendered.status:
        message = rendered.config_rendered.message
        finding = Finding(status=False, reason="ConfigNotRendered", message=message)
        return {repo.name: finding for repo in result.repos if repo.served}
    old, server = _refused(result), result.verdict.server
    return {
        repo.name: _WAITS_FOR_CACHE
        if repo.spec is not None and waits_for_cache(repo.repo, server, repo.spec)
        else _programmed(repo.name, result, old)
        for repo in result.repos
        if repo.served
    }


def policy_reports(result: Result) -> dict[ObjectKey, PolicyReport]:
    """Return what the server makes of each policy that is about it or its repos."""
    rendered, old = result.rendered, _refused(result)
    found = {}
    for reach in result.verdict.reaches:
        name = str(reach.policy)
        if not rendered.config_rendered.status:
            finding = Finding(status=False, reason="ConfigNotRendered", message=rendered.config_rendered.message)
        elif name in rendered.contents:
            finding = _programmed(name, result, old)
        else:
            finding = NOT_DELIVERED
        found[reach.policy] = PolicyReport(reach, finding)
    return found


def _refused(result: Result) -> Finding | None:
    """Return the finding about replicas that refuse the configuration, most of them of an old image; None if none."""
    # While pods are being replaced, the old ones may be of an older version.
    if not result.rolled_out:
        return None
    if all(one.knows_all for one in result.reports):
        return refused(result.reports)
    verdict = result.verdict
    access = any(one.spec is not None and one.spec.access for one in verdict.repos)
    access = access or any(entries_in(one.table) for one in verdict.kept)
    sources = any(one.spec is not None and needs_newer(plain(one.spec.upstream)) for one in verdict.repos)
    sources = sources or any(needs_newer(one.table.get("upstream")) for one in verdict.kept)
    old = too_old(result.reports, policies=bool(verdict.policies), access=access, sources=sources)
    return old or refused(result.reports)


def _programmed(name: str, result: Result, old: Finding | None) -> Finding:
    """Return the condition Programmed of a repo or a policy that is part of the configuration."""
    content = result.rendered.contents[name]
    return programmed(name, content, result.reports, result.history, lost=result.lost, old=old)


def repo_statuses(result: Result, serving: Mapping[RepoName, Finding], now: datetime) -> RepoStatuses:
    """Return every repo's new status. `serving` is the result of `programmed_of`."""
    cron_jobs = {one["metadata"]["labels"][REPO_LABEL]: one for one in result.rendered.cron_jobs}
    found: RepoStatuses = []
    server = result.verdict.server
    for repo in result.repos:
        url, programmed_, index_finding, index = None, NOT_SERVED, NO_UPDATES, None
        if repo.served:
            url, programmed_ = repo_url(server, repo.name), serving[repo.name]
            if repo.name in result.indexes:
                index_finding, index = result.indexes[repo.name]
                index_finding = refused_job(cron_jobs[repo.name], result.refusals) or index_finding
        status = repo_status(
            repo,
            url=url,
            programmed=programmed_,
            index_up_to_date=index_finding,
            index=index,
            client_configured=result.client_configs.get(repo.repo.key),
            upstream_reachable=upstream_reachable(repo, server, result.reports) if repo.served else None,
            now=now,
        )
        found.append((result.raws[repo.repo.key], status))
    return found


def status_of_server(result: Result, repos: Sequence[PackageRepoStatus], now: datetime) -> PackageServerStatus:
    """Return the server's new status. `repos` are the new ones of its repos."""
    verdict = msgspec.structs.replace(result.verdict, identity_ready=_identity_ready(result))
    return server_status(
        verdict,
        url=base_url(verdict.server),
        repos=RepoCounts(
            total=len(repos) + result.malformed + len(verdict.kept),
            ready=sum(map(_is_ready, repos)),
        ),
        ready_replicas=len(result.reports),
        config_rendered=result.rendered.config_rendered,
        ready=_server_ready(result),
        namespaces_read=namespaces_read(verdict, result.unreadable, result.unlisted_policies),
        now=now,
    )


def lacks_review_right(result: Result) -> bool:
    """Return whether a replica must ask the API server about tokens and says that it may not."""
    document = result.verdict.identity
    is_needed = document is not None and document.cluster is not None and document.cluster.token_review
    return is_needed and any(report.reviews_forbidden for report in result.reports)


def _identity_ready(result: Result) -> Finding | None:
    """Return the condition IdentityReady, with what replicas say of their right to review tokens."""
    found = result.verdict.identity_ready
    if not lacks_review_right(result):
        return found
    pods = ", ".join(report.pod for report in result.reports if report.reviews_forbidden)
    finding = review_forbidden(result.verdict.server, pods)
    if found is None or found.status:
        return finding
    return Finding(status=False, reason=found.reason, message=f"{found.message} {finding.message}")


def counts_of(statuses: Sequence[PackageRepoStatus]) -> Mapping[tuple[str, str], int]:
    """Return how many repos have each condition, by type and status."""
    return Counter((one.type, one.status) for status in statuses for one in status.conditions)


def _server_ready(result: Result) -> Finding:
    """Return the finding about the server's objects and replicas."""
    fault = refused_objects(result.refusals) or result.missing_kind
    if fault is not None:
        return fault
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


def _is_ready(status: PackageRepoStatus) -> bool:
    return any(one.type == READY and one.status == "True" for one in status.conditions)
