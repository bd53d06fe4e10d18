"""The decision which repos may claim a name on their server, and which of them gets it."""

from collections.abc import Iterable, Mapping

from pywharf_operator.render.resolve import refusals
from pywharf_operator.render.resolve.findings import Finding, refused
from pywharf_operator.render.resolve.shares import Age, age_of, past, seconds_of
from pywharf_operator.render.resolve.snapshot import NameClaim, Snapshot
from pywharf_operator.spec import ObjectKey, PackageRepo, PackageServer


def not_admitted(
    repo: PackageRepo,
    servers: Mapping[ObjectKey, PackageServer],
    snapshot: Snapshot,
) -> Finding | None:
    """Return why the repo may not even claim a name on its server; None if it may.

    The finding is the same whether another namespace has no such server or has one that does not admit the repo.
    Otherwise anyone who may create a PackageRepo could find out which servers exist.
    """
    server, watched = servers.get(repo.server_key), snapshot.watched
    if server is None and watched is not None and repo.server_key.namespace not in watched:
        return refused(
            "ServerNotFound",
            f"PackageServer {repo.server_key} is not known: the operator does not look after the namespace "
            f"{repo.server_key.namespace}; let it, or correct spec.serverRef.",
        )
    if server is None and repo.server_key.namespace == repo.key.namespace:
        return refused(
            "ServerNotFound",
            f"There is no PackageServer {repo.server_key}; create it, or correct spec.serverRef.",
        )
    if server is None or not admits(server, repo.key.namespace, snapshot.namespaces):
        return _namespace_not_allowed(repo.server_key, repo.key.namespace)
    return None


def _namespace_not_allowed(server: ObjectKey, namespace: str) -> Finding:
    """Return the finding for a repo of another namespace, whether the server is missing or does not admit the repo."""
    return refused(
        "NamespaceNotAllowed",
        f"No PackageServer {server} takes repos of the namespace {namespace}: let the spec.allowedNamespaces of a "
        "server of that name admit it, or correct spec.serverRef.",
    )


def admits(server: PackageServer, namespace: str, namespaces: Mapping[str, Mapping[str, str]] | None) -> bool:
    """Return whether the server takes repos of the namespace. `namespaces` are labels, by namespace."""
    if namespace == server.key.namespace:
        return True
    rule = server.spec.allowed_namespaces
    match rule.from_:
        case "Same":
            return False
        case "All":
            return True
        case "Selector":
            labels = None if namespaces is None else namespaces.get(namespace)
            return labels is not None and rule.selector is not None and rule.selector.matches(labels)


def name_conflicts(repos: Iterable[PackageRepo], claims: Iterable[NameClaim]) -> dict[ObjectKey, Finding]:
    """Refuse repos whose name an older repo holds on the same server.

    Only admitted repos count, so that nobody can hold a name on a server that does not accept their repos. Other faults
    of the older repo do not count: a momentary mistake must not pass its name, and the packages that clients expect
    under it, to another repo.
    """
    readable = [NameClaim(one.server_key, one.repo_name, one.key, one.metadata.creation_timestamp) for one in repos]
    holders: dict[tuple[ObjectKey, str], ObjectKey] = {}
    conflicts: dict[ObjectKey, Finding] = {}
    for claim in sorted((*readable, *claims), key=_age):
        holder = holders.setdefault((claim.server, claim.name), claim.repo)
        if holder != claim.repo:
            # The message does not reveal which repos another namespace has.
            own = holder.namespace == claim.repo.namespace
            older = f"The older PackageRepo {holder}" if own else "An older PackageRepo of another namespace"
            conflicts[claim.repo] = refused(
                "NameConflict",
                f"{older} has the name {claim.name!r} on PackageServer {claim.server}; make a new PackageRepo with "
                "another spec.repoName.",
            )
    return conflicts


def _age(claim: NameClaim) -> tuple[float, ObjectKey]:
    """Return a sort key, oldest first. A repo without a creation time counts as the oldest."""
    return (seconds_of(claim.created), claim.repo)


def too_many(
    repos: Iterable[PackageRepo], claims: Iterable[NameClaim], servers: Mapping[ObjectKey, PackageServer]
) -> dict[ObjectKey, Finding]:
    """Refuse a namespace's repos beyond the limit of their server. They hold no name either."""
    ages: dict[ObjectKey, list[Age]] = {}
    for repo in repos:
        ages.setdefault(repo.server_key, []).append(age_of(repo.key, repo.metadata))
    for claim in claims:
        ages.setdefault(claim.server, []).append(_age(claim))
    return {
        key: refusals.too_many_repos(key, servers[server])
        for server, own in ages.items()
        for key in past(own, servers[server].spec.limits.repos_per_namespace)
    }
