"""PURE. The condition UpstreamReachable: whether the other indexes that a repo depends on answer."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pywharf.config.repo_config import Upstream
from pywharf_operator.render import Finding, RepoVerdict
from pywharf_operator.render.pod.server_flags import flags_of
from pywharf_operator.spec import PackageServer
from pywharf_operator.status.programmed import ReplicaReport

AWAY_S: Final = 300
"""Seconds for which an index must have failed until it counts as away."""
_WATCHED_S: Final = 150.0
_FAILING_S: Final = 60.0
_SHOWN: Final = 3
_REACHABLE: Final = Finding(status=True, reason="Reachable", message="No index of the repo has failed for long.")
_UNKNOWN: Final = Finding(
    status=None, reason="NoReadyReplica", message="No replica is ready that could say so; see the PackageServer."
)


def needs_newer(upstream: Mapping[str, Any] | None) -> bool:
    """Return whether a server of a version before sources and caches refuses a repo's table with this `upstream`."""
    return upstream is not None and ("sources" in upstream or upstream.get("mode") == "Cached")


def watched_urls(repo: RepoVerdict, server: PackageServer) -> tuple[str, ...]:
    """Return the indexes of a repo that its users depend on: those of the mode Cached, and named sources."""
    upstream = Upstream() if repo.spec is None else repo.spec.upstream
    if upstream.mode == "None" or (upstream.mode != "Cached" and not upstream.sources):
        return ()
    if upstream.sources:
        return tuple(dict.fromkeys(source.url for source in upstream.sources))
    url = upstream.url or flags_of(server).extra_index_url
    return (url,) if url else ()


def upstream_reachable(repo: RepoVerdict, server: PackageServer, reports: Sequence[ReplicaReport]) -> Finding | None:
    """Return the condition of a served repo; None if it depends on no other index.

    An index is away if every replica has seen it fail for so long: a replica alone may have lost its own way there.
    """
    urls = watched_urls(repo, server)
    if not urls:
        return None
    answered = [report for report in reports if report.reached]
    if not answered:
        return _UNKNOWN
    away = [url for url in urls if all(_failed_for_s(report, url) >= AWAY_S for report in answered)]
    if not away:
        return _REACHABLE
    cached = repo.spec is not None and repo.spec.upstream.mode == "Cached"
    return Finding(status=False, reason="UpstreamAway", message=_message(away, cached=cached))


def next_look_s(repos: Sequence[RepoVerdict], server: PackageServer, reports: Sequence[ReplicaReport]) -> float | None:
    """Return the seconds until the replicas are asked about indexes again; None if no repo depends on one."""
    watched = {url for repo in repos for url in watched_urls(repo, server)}
    if not watched:
        return None
    failing = {one.url for report in reports for one in report.upstreams}
    return _FAILING_S if watched & failing else _WATCHED_S


def _failed_for_s(report: ReplicaReport, url: str) -> float:
    """Return the seconds between the first and the last failure that the replica has seen in a row."""
    found = next((one for one in report.upstreams if one.url == url), None)
    return -1 if found is None else found.last_failure - found.failing_since


def _message(away: Sequence[str], *, cached: bool) -> str:
    named = ", ".join(away[:_SHOWN]) + (f" and {len(away) - _SHOWN} more" if len(away) > _SHOWN else "")
    meanwhile = (
        "What the cache holds is served: files without end, pages for as long as spec.cache.keepPages of the "
        "PackageServer says."
        if cached
        else "Names that it answers for get an error."
    )
    return (
        f"Every replica has seen these indexes fail for over {AWAY_S // 60} minutes: {named}. {meanwhile} See that "
        "they are up, that the server's pods reach their hosts, and that their credentials are valid."
    )
