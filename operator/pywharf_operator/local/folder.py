"""The input of rendering from a folder of manifests, and the faults found in it."""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from pywharf_operator.local.manifests import Manifests
from pywharf_operator.render import (
    ACCEPTED,
    SECRETS_RESOLVED,
    Finding,
    PolicyReach,
    Resolution,
    ServerVerdict,
    Snapshot,
)
from pywharf_operator.render.objects.identity import IDENTITY_KEY
from pywharf_operator.render.resolve.authority import AUTHORITY_KEY
from pywharf_operator.render.resolve.findings import refused
from pywharf_operator.render.resolve.policies import accepted
from pywharf_operator.render.resolve.shares import age_of
from pywharf_operator.render.resolve.snapshot import ClusterKeys
from pywharf_operator.spec import (
    API_VERSION,
    PACKAGE_SERVER,
    NamespaceObject,
    ObjectKey,
    ObjectMeta,
    PackagePolicy,
    PackageRepo,
    PackageServer,
    PackageServerSpec,
    Secret,
)
from pywharf_operator.spec.package_repo import DEFAULT_SERVER_NAME
from pywharf_operator.spec.package_server import Storage


def snapshot_of(manifests: Manifests) -> Snapshot:
    """Return the folder's resources. A namespace without a manifest has the one label that every namespace has."""
    repos: tuple[PackageRepo, ...] = tuple(manifests.of(PackageRepo))
    named: Iterable[NamespaceObject] = manifests.of(NamespaceObject)
    labels: dict[str, Mapping[str, str]] = {repo.key.namespace: {} for repo in repos}
    labels |= {namespace.metadata.name: namespace.metadata.labels or {} for namespace in named}
    servers: tuple[PackageServer, ...] = tuple(manifests.of(PackageServer))
    secrets: tuple[Secret, ...] = tuple(manifests.of(Secret))
    return Snapshot(
        repos=repos,
        servers=servers,
        secrets=secrets,
        authorities=_authorities(servers, secrets),
        policies=tuple(manifests.of(PackagePolicy)),
        namespaces={name: {**own, "kubernetes.io/metadata.name": name} for name, own in labels.items()},
    )


def _authorities(servers: Iterable[PackageServer], secrets: Iterable[Secret]) -> Mapping[ObjectKey, bytes]:
    values = {secret.key: secret.value(AUTHORITY_KEY) for secret in secrets}
    found = {server.key: values.get(server.tls_secret) for server in servers if server.tls_secret is not None}
    return {server: value for server, value in found.items() if value is not None}


def default_server(namespace: str) -> PackageServer:
    """Return the server that the chart creates: one replica, 10 GiB, repos of its own namespace."""
    return PackageServer(
        api_version=API_VERSION,
        kind=PACKAGE_SERVER,
        metadata=ObjectMeta(name=DEFAULT_SERVER_NAME, namespace=namespace),
        spec=PackageServerSpec(storage=Storage(size="10Gi")),
    )


NO_CLUSTER: Final = Finding(
    status=False,
    reason="NoCluster",
    message=(
        "`pywharf up` has no cluster, whose keys verify the tokens of ServiceAccounts; use tokenDigests here, or an "
        "issuer of spec.identity.issuers."
    ),
)
"""Why `up` believes no ServiceAccount."""


def faults_of(resolution: Resolution, policies: Iterable[PackagePolicy]) -> tuple[str, ...]:
    """Return a line for each condition that is not True."""
    conditions: list[tuple[object, str, Finding]] = []
    for server in resolution.servers:
        conditions.append((server.server, ACCEPTED, server.accepted))
        if server.identity_ready is not None and server.identity_ready != NO_CLUSTER:  # the repos say so
            conditions.append((server.server, "IdentityReady", server.identity_ready))
    for repo in resolution.repos:
        conditions.append((repo.repo, ACCEPTED, repo.accepted))
        conditions.append((repo.repo, SECRETS_RESOLVED, repo.secrets_resolved))
        if repo.access_resolved is not None:
            conditions.append((repo.repo, "AccessResolved", repo.access_resolved))
    taken = taken_client_configs(resolution)
    conditions += [
        (repo.repo, "ClientConfigured", taken[repo.repo.key]) for repo in resolution.repos if repo.repo.key in taken
    ]
    reaches: dict[ObjectKey, list[PolicyReach]] = {}
    for reach in (reach for server in resolution.servers for reach in server.reaches):
        reaches.setdefault(reach.policy, []).append(reach)
    conditions += [(policy, ACCEPTED, accepted(policy, reaches.get(policy.key, []))) for policy in policies]
    return tuple(
        f"{type(resource).__name__} {resource.key}: {condition} is False ({finding.reason}): {finding.message}"
        for resource, condition, finding in conditions
        if not finding.status and isinstance(resource, PackagePolicy | PackageRepo | PackageServer)
    )


def taken_client_configs(resolution: Resolution) -> Mapping[ObjectKey, Finding]:
    """Return a finding for each repo whose ConfigMap for clients has the name of an older repo's, by the repo.

    In a cluster the one that is there first stays.
    """
    asking = sorted(
        (
            (repo.repo, repo.repo.spec.client_config.config_map)
            for server in resolution.servers
            if server.accepted.status
            for repo in server.repos
            if repo.repo.spec.client_config is not None
        ),
        key=lambda one: age_of(one[0].key, one[0].metadata),
    )
    owners: dict[ObjectKey, ObjectKey] = {}
    found = {}
    for repo, name in asking:
        wanted = ObjectKey(repo.key.namespace, name)
        owner = owners.setdefault(wanted, repo.key)
        if owner != repo.key:
            message = (
                f"ConfigMap {wanted} belongs to PackageRepo {owner.name}, so it is left alone; give "
                "spec.clientConfig.configMap another name."
            )
            found[repo.key] = refused("ObjectNotOwned", message)
    return found


def notes_of(resolution: Resolution) -> tuple[str, ...]:
    """Return a line for what deserves a look: access entries, weak secrets, and what the operator adds in a cluster."""
    lines = [
        f"PackageRepo {repo.repo.key}: {finding.message}"
        for repo in resolution.repos
        if (finding := repo.access_resolved) is not None and finding.status and finding.reason != "Resolved"
    ]
    lines += [
        f"PackageRepo {repo.repo.key}: {repo.credentials_strong.message}"
        for repo in resolution.repos
        if repo.credentials_strong is not None
    ]
    lines += [
        f"PackageServer {server.server.key}: in a cluster the operator adds its issuer and public keys to "
        f"{IDENTITY_KEY}, and names that in the configuration."
        for server in resolution.servers
        if server.cluster == ClusterKeys() and _believes_accounts(server)
    ]
    return tuple(lines)


def _believes_accounts(server: ServerVerdict) -> bool:
    entries = (entry for repo in server.repos for entry in repo.repo.spec.access)
    return server.server.spec.identity.service_accounts != "Off" and any(entry.service_accounts for entry in entries)


def with_server(snapshot: Snapshot, server: PackageServer) -> Snapshot:
    """Return the snapshot with one more server."""
    return msgspec.structs.replace(snapshot, servers=(*snapshot.servers, server))
