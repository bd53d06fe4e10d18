"""The input of rendering: what was observed, what is kept of what cannot be read now, and the cluster's keys."""

import asyncio
from collections.abc import Callable

import msgspec

from pywharf_operator.cluster.issuer_reader import IssuerReader
from pywharf_operator.cluster.kube import Kube
from pywharf_operator.reconciling.kept_identity import kept_cluster, with_kept
from pywharf_operator.reconciling.kept_policies import kept_policies
from pywharf_operator.reconciling.kept_repos import kept_repos
from pywharf_operator.reconciling.observed import Observed
from pywharf_operator.render import Snapshot
from pywharf_operator.render.resolve.identity import asks_about_cluster
from pywharf_operator.render.resolve.policy_room import overflows
from pywharf_operator.render.resolve.snapshot import ClusterKeys
from pywharf_operator.spec import ObjectKey, PackageServer


async def render_input(
    kube: Kube,
    issuer: IssuerReader,
    observed: Observed,
    server: PackageServer,
    is_deleted: Callable[[ObjectKey], bool],
) -> Snapshot:
    """Return the input of rendering, with what is served of repos and policies that cannot be read now.

    `is_deleted` returns whether a repo of an unreadable namespace is known to be deleted. Raises KubeError,
    KeptPoliciesUnknownError.
    """
    snapshot = observed.snapshot
    if observed.unreadable:
        kept = await kept_repos(kube, server, observed.unreadable, is_deleted)
        snapshot = msgspec.structs.replace(snapshot, kept=kept)
    may_stay = observed.unlisted_policies != frozenset() or bool(observed.malformed_policies)
    if may_stay or (observed.policies and await asyncio.to_thread(overflows, observed.policies)):
        delivered = await kept_policies(kube, server)
        snapshot = msgspec.structs.replace(snapshot, delivered_policies=delivered)
    return msgspec.structs.replace(snapshot, cluster=await _cluster(kube, issuer, snapshot, server))


async def _cluster(kube: Kube, issuer: IssuerReader, snapshot: Snapshot, server: PackageServer) -> ClusterKeys:
    """Return the cluster's issuer and keys if an access entry needs them: the newest, otherwise those in use."""
    if not asks_about_cluster(server, snapshot):
        issuer.forget(server.key)
        return ClusterKeys()
    keys = await issuer.keys(server.key)
    if keys.found is not None and keys.found.jwks:
        return keys
    return with_kept(keys, await kept_cluster(kube, server))
