"""The findings for repos that a server's limits refuse: what is wrong, the number, and what to do.

No finding depends on other namespaces' repos: a tenant must not learn their numbers, and each change would be a write
for each refused repo.
"""

from pywharf_operator.render.resolve.findings import Finding, refused
from pywharf_operator.render.resolve.fitting import MAX_TEXT_BYTES
from pywharf_operator.render.resolve.object_sizes import MAX_BYTES
from pywharf_operator.spec import ObjectKey, PackageServer
from pywharf_operator.spec.faults import error_location


def not_understood(error: Exception) -> Finding:
    """Refuse a repo at which the operator itself fails. The error's own text may hold anything, so it is not shown."""
    return refused(
        "InvalidSpec",
        f"The operator fails at this repo's spec ({error_location(error)}), which is a fault of the "
        "operator: please report it, and take the most unusual value out of the spec, such as an odd date.",
    )


def too_many_repos(repo: ObjectKey, server: PackageServer) -> Finding:
    """Refuse a repo beyond the limit on a namespace's repos."""
    return refused(
        "TooManyRepos",
        f"PackageServer {server.key} takes {server.spec.limits.repos_per_namespace} repos of one namespace, and "
        f"{repo.namespace} has more, of which this is one of the newest; delete others, use another PackageServer, or "
        "have its spec.limits.reposPerNamespace raised.",
    )


def table_too_large(server: PackageServer, size: int) -> Finding:
    """Refuse a repo whose own table is too large."""
    return refused(
        "TableTooLarge",
        f"Its table in the server's configuration takes {size} bytes, and PackageServer {server.key} takes "
        f"{server.spec.limits.repo_table_bytes} of one repo; shorten spec.upstream.sources, spec.upstream.reserved, "
        "spec.upstream.allowShadowing (* stands for any characters) and spec.access, or have "
        "spec.limits.repoTableBytes raised.",
    )


def schedule_too_frequent(server: PackageServer, schedule: str, shortest_s: int) -> Finding:
    """Refuse a repo whose index would be updated too often."""
    return refused(
        "ScheduleTooFrequent",
        f"spec.index.schedule is {schedule!r}, which comes again after {shortest_s} seconds, and PackageServer "
        f"{server.key} takes {server.spec.limits.min_schedule_interval_seconds} and more; choose a rarer one (uploads "
        "are visible without it), or have spec.limits.minScheduleIntervalSeconds lowered.",
    )


def configuration_full(repo: ObjectKey, server: ObjectKey, size: int) -> Finding:
    """Refuse a repo whose table does not fit into the configuration."""
    return refused(
        "ServerFull",
        f"There is no room for the {size} bytes of this repo's table: the configuration of PackageServer {server} "
        f"holds {MAX_TEXT_BYTES} bytes, and {MAX_BYTES} once compressed, and of all namespaces {repo.namespace} takes "
        "the most, this repo being one of its newest; shorten the lists of spec.upstream and spec.access in the "
        "namespace's repos, delete some, or use another PackageServer.",
    )


def credentials_full(repo: ObjectKey, server: ObjectKey, size: int) -> Finding:
    """Refuse a repo whose secrets do not fit into the credentials."""
    return refused(
        "ServerFull",
        f"There is no room for the {size} bytes of this repo's secrets: each part of the credentials of PackageServer "
        f"{server} holds {MAX_BYTES} bytes, and of all namespaces {repo.namespace} takes the most of this repo's part, "
        "this repo being one of its newest there; use shorter secrets in the namespace's repos, delete some, or use "
        "another PackageServer.",
    )
