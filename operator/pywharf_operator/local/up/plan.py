"""PURE. The part of a folder that `up` serves: one server, with the repos that name it."""

from collections.abc import Mapping
from datetime import datetime
from urllib.parse import urlsplit

import msgspec

from pywharf.config.cache_config import DEFAULT_MAX_BYTES
from pywharf_operator.local.folder import NO_CLUSTER, default_server, faults_of, notes_of, snapshot_of
from pywharf_operator.local.manifests import Manifests
from pywharf_operator.render import Environment, RenderedServer, ServerVerdict, Snapshot, render_server, resolve
from pywharf_operator.render.resolve.snapshot import ClusterKeys
from pywharf_operator.spec import ObjectKey, PackageRepo, PackageServer
from pywharf_operator.spec.cache import Cache, CacheVolume
from pywharf_operator.spec.package_repo import DEFAULT_SERVER_NAME
from pywharf_operator.spec.package_server import AllowedNamespaces


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is served, and the problems and notes to report."""

    verdict: ServerVerdict
    rendered: RenderedServer
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    has_server: bool
    """Whether the folder holds a PackageServer; otherwise one that allows every endpoint is assumed."""


def plan(
    manifests: Manifests, environment: Environment, namespace: str, first_seen: Mapping[ObjectKey, datetime]
) -> Plan:
    """Decide what is served. `first_seen` ranks repos that claim the same name and have no creation time."""
    snapshot = snapshot_of(manifests)
    server, notes = _chosen(snapshot, namespace)
    only = not snapshot.servers
    others = [other for other in snapshot.servers if other.key != server.key]
    repos = tuple(_aged(_aimed(repo, server, anyway=only), first_seen) for repo in snapshot.repos)
    meant = {
        repo.key: repo.server_key
        for repo, aimed in zip(snapshot.repos, repos, strict=True)
        if repo.server_key != aimed.server_key
    }
    snapshot = msgspec.structs.replace(
        snapshot,
        repos=repos,
        servers=(_open(server), *others),
        meant_servers=meant,
        cluster=ClusterKeys(fault=NO_CLUSTER),
    )
    resolution = resolve(snapshot, environment)
    verdict = next(found for found in resolution.servers if found.server.key == server.key)
    return Plan(
        verdict=verdict,
        rendered=render_server(verdict, environment),
        problems=(*map(str, manifests.problems), *faults_of(resolution, snapshot.policies)),
        has_server=not only,
        notes=(*map(str, manifests.notes), *notes, *_without_cluster(verdict), *notes_of(resolution)),
    )


def _chosen(snapshot: Snapshot, namespace: str) -> tuple[PackageServer, list[str]]:
    """Return the server to serve, and notes on the other servers and on settings without effect here."""
    if not snapshot.servers:
        server = default_server(namespace)
        # The user who runs it has written the folder, so no host needs to be forbidden.
        spec = msgspec.structs.replace(server.spec, allowed_endpoints=("*", *_named_hosts(snapshot)))
        return msgspec.structs.replace(server, spec=spec), []
    by_key = sorted(snapshot.servers, key=lambda server: (server.key.name != DEFAULT_SERVER_NAME, server.key))
    notes = [
        f"PackageServer {other.key} and its repos are not served: `up` serves one server, here {by_key[0].key}."
        for other in by_key[1:]
    ]
    if by_key[0].spec.tls is not None:
        notes.append(f"PackageServer {by_key[0].key}: spec.tls has no effect in `up`, which serves plain HTTP.")
    if by_key[0].spec.cache is not None:
        notes.append(
            f"PackageServer {by_key[0].key}: of spec.cache only maxBytes and keepPages have an effect in `up`, which "
            "keeps the cache in its root."
        )
    return by_key[0], notes


def _without_cluster(verdict: ServerVerdict) -> list[str]:
    """Return notes on the settings of the server and its repos that need a cluster."""
    notes = [
        f"PackageRepo {repo.repo.key}: spec.clientConfig has no effect in `up`, which writes no ConfigMap."
        for repo in verdict.repos
        if repo.repo.spec.client_config is not None
    ]
    if verdict.server.spec.identity.service_accounts == "TokenReview":
        notes.append(
            f"PackageServer {verdict.server.key}: spec.identity.serviceAccounts: TokenReview has no effect in `up`, "
            "which has no API server to ask."
        )
    return notes


def _named_hosts(snapshot: Snapshot) -> list[str]:
    """Return the hosts that repos name, with their ports. `*` does not match the server's own machine."""
    urls = {url for repo in snapshot.repos for url in repo.spec.backend.chosen.endpoints().values()}
    urls |= {repo.spec.upstream.url for repo in snapshot.repos if repo.spec.upstream.url is not None}
    urls |= {source.url for repo in snapshot.repos for source in repo.spec.upstream.sources}
    return sorted(urlsplit(url).netloc for url in urls)


def _open(server: PackageServer) -> PackageServer:
    """Return the server with every namespace allowed, as namespaces mean nothing in a folder, and with a cache."""
    spec = msgspec.structs.replace(
        server.spec, allowed_namespaces=AllowedNamespaces(from_="All"), cache=_cache(server.spec.cache)
    )
    return msgspec.structs.replace(server, spec=spec)


def _cache(given: Cache | None) -> Cache:
    """Return a cache with the limits of the given one. `up` keeps it in its root, wherever a cluster would.

    The rules of a volume that is described hold here, too. Without one nobody has described what replicas cannot share.
    """
    volume = None if given is None else given.file_system
    if given is not None and volume is not None and volume.size is not None:
        return given
    size = (given and given.max_bytes) or DEFAULT_MAX_BYTES
    modes = ("ReadWriteMany",) if volume is None else volume.access_modes
    return Cache(
        file_system=CacheVolume(size=size, access_modes=modes),
        max_bytes=size,
        keep_pages=None if given is None else given.keep_pages,
    )


def _aimed(repo: PackageRepo, server: PackageServer, *, anyway: bool) -> PackageRepo:
    """Return the repo with a full reference to `server` if it means that server; with `anyway` in any case."""
    ref = repo.spec.server_ref
    if not anyway and (ref.name != server.key.name or ref.namespace is not None):
        return repo
    ref = msgspec.structs.replace(ref, name=server.key.name, namespace=server.key.namespace)
    return msgspec.structs.replace(repo, spec=msgspec.structs.replace(repo.spec, server_ref=ref))


def _aged(repo: PackageRepo, first_seen: Mapping[ObjectKey, datetime]) -> PackageRepo:
    if repo.metadata.creation_timestamp is not None or repo.key not in first_seen:
        return repo
    metadata = msgspec.structs.replace(repo.metadata, creation_timestamp=first_seen[repo.key])
    return msgspec.structs.replace(repo, metadata=metadata)
