"""Whom a server believes: the document about identities, as far as the access entries of its repos need one."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from pywharf.config.repo_config import BackendSpec
from pywharf.core.access.entries import AccessEntry
from pywharf.core.access.identity_document import Cluster, IdentityDocument, Issuer
from pywharf_operator.render.resolve.findings import Finding, refused
from pywharf_operator.render.resolve.snapshot import ClusterKeys, Snapshot
from pywharf_operator.render.resolve.usable_identity import usable_identity
from pywharf_operator.spec import PackageServer
from pywharf_operator.spec.access import delivered


class Need(msgspec.Struct, frozen=True):
    """What some access entries need of the document."""

    service_accounts: bool = False
    issuers: frozenset[str] = frozenset()
    """Names of issuers."""

    def __or__(self, other: "Need") -> "Need":
        """Return what both need."""
        return Need(self.service_accounts or other.service_accounts, self.issuers | other.issuers)


def need_of(entries: Iterable[AccessEntry]) -> Need:
    """Return what the entries need. Digests of tokens and a proxy's groups need nothing."""
    accounts, issuers = False, set[str]()
    for entry in entries:
        accounts |= bool(entry.service_accounts)
        issuers |= issuers_of(entry)
    return Need(accounts, frozenset(issuers))


def issuers_of(entry: AccessEntry) -> set[str]:
    """Return the name of the issuer whose tokens the entry is about, if it is about any."""
    if entry.github is not None:
        return {"github"}
    about = entry.gitlab or entry.oidc
    return set() if about is None else {about.issuer}


def asks_about_cluster(server: PackageServer, snapshot: Snapshot) -> bool:
    """Return whether the cluster's issuer matters to an entry of a repo that names the server.

    An entry is about ServiceAccounts that the server may believe, or about an issuer that could be the cluster's own.
    """
    identity = server.spec.identity
    named = [entry for repo in snapshot.repos for entry in repo.spec.access]
    kept = [entry for repo in snapshot.kept for entry in entries_in(repo.table)]
    about_accounts = any(entry.service_accounts for entry in named) or any(entry.service_accounts for entry in kept)
    if about_accounts and identity.service_accounts != "Off":
        return True
    issuers = {one.name for one in identity.issuers if one.url is not None}
    if not issuers:
        return False
    return not issuers.isdisjoint(need_of((*map(delivered, named), *kept)).issuers)


def entries_in(table: BackendSpec | Mapping[str, Any]) -> tuple[AccessEntry, ...]:
    """Return the access entries of a repo's table, or of one that was applied before."""
    if isinstance(table, BackendSpec):
        return table.access
    try:
        return msgspec.convert(table.get("access", ()), tuple[AccessEntry, ...])
    except msgspec.ValidationError:  # somebody else wrote it, and the server refuses it
        return ()


def identity_document(server: PackageServer, need: Need, keys: ClusterKeys) -> IdentityDocument | None:
    """Return the document with what is needed; None if nothing is."""
    identity = server.spec.identity
    cluster = _cluster(server, keys) if need.service_accounts else None
    refused_names = issuers_of_cluster(server, keys)
    issuers = tuple(
        Issuer(name=one.name, url=one.address, audience=one.audience, jwks=one.keys)
        for one in sorted(usable_identity(identity).issuers, key=lambda one: one.name)
        if one.name in need.issuers and one.name not in refused_names
    )
    if cluster is None and not issuers:
        return None
    return IdentityDocument(audience=identity.audience, cluster=cluster, issuers=issuers)


def longest_document(server: PackageServer, keys: ClusterKeys) -> IdentityDocument | None:
    """Return the document for entries that need everything."""
    every = frozenset(one.name for one in server.spec.identity.issuers)
    return identity_document(server, Need(service_accounts=True, issuers=every), keys)


def identity_ready(server: PackageServer, need: Need, keys: ClusterKeys) -> Finding | None:
    """Return the server's condition IdentityReady; None if no entry needs a document and nothing is left out."""
    identity = server.spec.identity
    left_out = usable_identity(identity).fault
    asks_cluster = need.service_accounts and identity.service_accounts != "Off"
    if not asks_cluster and not any(one.name in need.issuers for one in identity.issuers):
        return left_out
    # To ask the API server about tokens, its issuer alone must be known.
    is_enough = identity.service_accounts == "TokenReview" and keys.found is not None
    faults = []
    if asks_cluster and keys.fault is not None and not is_enough:
        faults.append(keys.fault)
    if asks_cluster and is_audience_of_api_server(server, keys):
        message = (
            f"spec.identity.audience is {identity.audience!r}, which the API server takes as its own: whoever saw such "
            "a token could use it there. No ServiceAccount is believed; choose another audience, such as pywharf."
        )
        faults.append(refused("AudienceOfApiServer", message))
    if same := issuers_of_cluster(server, keys):
        message = (
            f"spec.identity.issuers: {min(same)} has the URL of the cluster's own issuer, so it is left out; have "
            "access entries name serviceAccounts instead."
        )
        faults.append(refused("IssuerIsCluster", message))
    if left_out is not None:
        faults.append(left_out)
    if faults:
        return refused(faults[0].reason, " ".join(one.message for one in faults))
    return Finding(status=True, reason="Ready", message=_ready(server, asks_cluster=asks_cluster))


def _ready(server: PackageServer, *, asks_cluster: bool) -> str:
    if not asks_cluster:
        return "The server has what it verifies identities by."
    if server.spec.identity.service_accounts == "TokenReview":
        return (
            "The server asks the API server about each token of a ServiceAccount, for which its own ServiceAccount "
            f"{_account(server)} needs the right to create tokenreviews.authentication.k8s.io, as the "
            "ClusterRole system:auth-delegator has it."
        )
    return "The server has what it verifies identities by, and the cluster's public keys are followed."


def review_forbidden(server: PackageServer, pods: str) -> Finding:
    """Return the finding that the API server forbids reviews to these replicas."""
    message = (
        f"The API server forbids the replicas {pods} to review tokens (HTTP 403), so no ServiceAccount can prove "
        f"itself: their requests are answered 503. Give the ServiceAccount {_account(server)} the right to create "
        "tokenreviews.authentication.k8s.io, or set spec.identity.serviceAccounts to Offline."
    )
    return refused("TokenReviewForbidden", message)


def _account(server: PackageServer) -> str:
    return f"{server.key.namespace}/{server.spec.service_account.name or server.key.name}"


def knows_cluster(server: PackageServer, keys: ClusterKeys) -> bool:
    """Return whether tokens of ServiceAccounts can be verified: by keys, or by asking the API server."""
    return _cluster(server, keys) is not None


def _cluster(server: PackageServer, keys: ClusterKeys) -> Cluster | None:
    """Return the cluster's part of the document; None if no ServiceAccount is believed."""
    found, how = keys.found, server.spec.identity.service_accounts
    if found is None or how == "Off" or is_audience_of_api_server(server, keys):
        return None
    if how == "TokenReview":
        return msgspec.structs.replace(found, jwks={}, token_review=True)
    return found if found.jwks else None


def issuers_of_cluster(server: PackageServer, keys: ClusterKeys) -> frozenset[str]:
    """Return the names of the server's issuers that have the URL of the cluster's own. None of them is believed.

    That does not depend on any repo: what one tenant's entry is about changes nothing for another's.
    """
    if keys.found is None:
        return frozenset()
    return frozenset(one.name for one in server.spec.identity.issuers if one.address == keys.found.issuer)


def is_audience_of_api_server(server: PackageServer, keys: ClusterKeys) -> bool:
    """Return whether the API server takes the server's audience as its own. Then no ServiceAccount is believed."""
    found = keys.found
    return found is not None and server.spec.identity.audience in {found.issuer, *found.audiences}
