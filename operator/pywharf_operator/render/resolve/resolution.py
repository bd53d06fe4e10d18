"""The decision which server accepts which repo, and what is wrong with the others.

A broken repo does not affect another one.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from pywharf.config.repo_config import BackendSpec
from pywharf.core.access.identity_document import IdentityDocument
from pywharf.core.errors import InvalidConfigError
from pywharf.core.names import RepoName
from pywharf.core.policy.model import Policy
from pywharf_operator.render.labels import Manifest
from pywharf_operator.render.objects.credentials import secret_path
from pywharf_operator.render.objects.identity import identity_text
from pywharf_operator.render.pod.job_pod import check_job_template
from pywharf_operator.render.pod.pod_template import pod_template
from pywharf_operator.render.pod.strategic_merge import InvalidPodTemplateError
from pywharf_operator.render.resolve import refusals
from pywharf_operator.render.resolve.access import access_resolved
from pywharf_operator.render.resolve.admission import admits, name_conflicts, not_admitted, too_many
from pywharf_operator.render.resolve.authority import Authority, authority_of
from pywharf_operator.render.resolve.endpoints import allowed
from pywharf_operator.render.resolve.findings import Finding, refused
from pywharf_operator.render.resolve.fitting import Candidate, at_most_bytes, kept_candidate, table_bytes, without_room
from pywharf_operator.render.resolve.identity import (
    Need,
    entries_in,
    identity_document,
    identity_ready,
    longest_document,
    need_of,
)
from pywharf_operator.render.resolve.kept import UNKNOWN, KeptRepo
from pywharf_operator.render.resolve.lent_storage import storage_conflicts
from pywharf_operator.render.resolve.policies import PolicyReach, ServedName, server_policies
from pywharf_operator.render.resolve.repo_config import repo_table, upstream_mode, without_cache
from pywharf_operator.render.resolve.schedule import schedule_of
from pywharf_operator.render.resolve.secret_refs import RepoSecrets, lends_to, resolve_secrets
from pywharf_operator.render.resolve.shares import age_of
from pywharf_operator.render.resolve.snapshot import ClusterKeys, Environment, NameClaim, Snapshot
from pywharf_operator.render.resolve.strength import weaknesses
from pywharf_operator.spec import ObjectKey, PackageRepo, PackageServer, Secret
from pywharf_operator.spec.cache import Cache
from pywharf_operator.spec.cron import shortest_interval_s
from pywharf_operator.spec.package_server import ServerUpstream


class RepoVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """The findings about a repo."""

    repo: PackageRepo
    accepted: Finding
    secrets_resolved: Finding
    access_resolved: Finding | None = None
    """None: it has no access entries, or no server."""
    credentials_strong: Finding | None = None
    """None: nothing is wrong with its clients' secrets."""
    spec: BackendSpec | None = None
    """Its configuration; None if it is not accepted."""
    secrets: RepoSecrets = RepoSecrets()

    @property
    def served(self) -> bool:
        """Whether the repo is in its server's configuration."""
        return self.accepted.status is True and self.secrets_resolved.status is True

    @property
    def name(self) -> RepoName:
        """The name that clients use."""
        return self.repo.repo_name


class ServerVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """The findings about a server, and the repos that it serves, sorted by name."""

    server: PackageServer
    accepted: Finding
    repos: tuple[RepoVerdict, ...]
    refused: Mapping[str, int] = {}
    """Number of repos, by namespace, that are refused because their namespace takes too much."""
    kept: tuple[KeptRepo, ...] = ()
    """Repos that are unreadable now and served as they were last applied."""
    policies: tuple[Policy, ...] = ()
    """The policies that the server is given, sorted by name."""
    reaches: tuple[PolicyReach, ...] = ()
    """What the server makes of each policy that concerns it."""
    identity: IdentityDocument | None = None
    """Whom the server believes; None if no entry of a served repo needs it."""
    identity_ready: Finding | None = None
    """The condition IdentityReady; None if no entry needs it."""
    cluster: ClusterKeys = ClusterKeys()
    authority: Authority = Authority()
    """The authority of the server's certificate, for its repos' clients."""
    pod: Manifest = {}
    """The template of the server's pods, with `spec.podTemplate` merged in; empty if the server is not accepted."""

    @property
    def secrets(self) -> dict[RepoName, RepoSecrets]:
        """The secrets of every served repo."""
        kept = {repo.name: repo.secrets for repo in self.kept}
        return kept | {repo.name: repo.secrets for repo in self.repos}


class Resolution(msgspec.Struct, frozen=True, kw_only=True):
    """All findings, sorted by namespace and name."""

    servers: tuple[ServerVerdict, ...]
    repos: tuple[RepoVerdict, ...]


def resolve(snapshot: Snapshot, environment: Environment) -> Resolution:
    """Decide on every repo and server."""
    servers = {server.key: server for server in snapshot.servers}
    secrets = {secret.key: secret for secret in snapshot.secrets}
    repos = sorted(snapshot.repos, key=lambda repo: repo.key)
    refused = {repo.key: not_admitted(repo, servers, snapshot) for repo in repos}
    admitted = [repo for repo in repos if refused[repo.key] is None]
    # The findings about the other repos do not depend on their server, so they do not reveal whether it exists.
    known = {repo.key: servers[repo.server_key] for repo in admitted}
    kept = _kept(snapshot, servers, admitted)
    # A served name stays with its kept repo: a claim without a creation time counts as the oldest.
    claims = [NameClaim(one.server, one.name, one.repo, None) for one in kept if one.repo.namespace != UNKNOWN]
    claims += [
        claim
        for claim in snapshot.claims
        if claim.server in servers and admits(servers[claim.server], claim.repo.namespace, snapshot.namespaces)
    ]
    crowded = too_many(admitted, claims, servers)
    refused |= crowded
    admitted = [repo for repo in admitted if repo.key not in crowded]
    refused |= name_conflicts(admitted, [claim for claim in claims if claim.repo not in crowded])
    admitted = [repo for repo in admitted if refused[repo.key] is None]
    refused |= storage_conflicts(admitted, kept, servers)
    verdicts = tuple(
        _verdict(repo, known.get(repo.key), secrets, refused[repo.key], environment, snapshot.cluster) for repo in repos
    )
    verdicts = _with_room(verdicts, kept, servers, environment, snapshot.cluster)
    weak = weaknesses({one.repo.key: one.secrets for one in verdicts if one.served})
    verdicts = tuple(
        msgspec.structs.replace(one, credentials_strong=weak[one.repo.key]) if one.repo.key in weak else one
        for one in verdicts
    )
    found = tuple(_server_verdict(servers[key], verdicts, kept, snapshot, environment) for key in sorted(servers))
    return Resolution(servers=found, repos=verdicts)


def _server_verdict(
    server: PackageServer,
    verdicts: Sequence[RepoVerdict],
    kept: Iterable[KeptRepo],
    snapshot: Snapshot,
    environment: Environment,
) -> ServerVerdict:
    own = [verdict for verdict in verdicts if verdict.repo.server_key == server.key]
    own_kept = tuple(sorted((one for one in kept if one.server == server.key), key=lambda one: one.name))
    policies = server_policies(server, _names(server, own, own_kept, snapshot), snapshot)
    accepted = _server_finding(server, snapshot.namespaces)
    pod: Manifest = {}
    if accepted.status:
        try:
            pod = pod_template(server, environment)
            check_job_template(server, pod)
        except InvalidPodTemplateError as error:
            accepted, pod = refused("InvalidPodTemplate", f"spec.{error}"), {}
    served = tuple(sorted((verdict for verdict in own if verdict.served), key=lambda verdict: verdict.name))
    need = _need(served, own_kept)
    return ServerVerdict(
        server=server,
        accepted=accepted,
        repos=served,
        identity=identity_document(server, need, snapshot.cluster),
        identity_ready=identity_ready(server, need, snapshot.cluster),
        cluster=snapshot.cluster,
        refused=_refused(own),
        kept=own_kept,
        policies=policies.delivered,
        reaches=policies.reaches,
        authority=authority_of(server.key, snapshot.authorities.get(server.key)),
        pod=pod,
    )


def _need(repos: Iterable[RepoVerdict], kept: Iterable[KeptRepo]) -> Need:
    """Return what the access entries of all served repos need."""
    tables: list[BackendSpec | Mapping[str, Any]] = [one.spec for one in repos if one.spec is not None]
    tables += [one.table for one in kept]
    return need_of(entry for table in tables for entry in entries_in(table))


def _names(
    server: PackageServer, own: Iterable[RepoVerdict], kept: Iterable[KeptRepo], snapshot: Snapshot
) -> list[ServedName]:
    """Return every repo that names the server, those that cannot be parsed included."""
    names = [
        ServedName(one.repo, RepoName(one.name), served=False) for one in snapshot.claims if one.server == server.key
    ]
    names += [ServedName(one.repo.key, one.name, one.served) for one in own]
    return names + [ServedName(one.repo, one.name, served=True) for one in kept]


def _kept(
    snapshot: Snapshot, servers: Mapping[ObjectKey, PackageServer], admitted: Iterable[PackageRepo]
) -> list[KeptRepo]:
    """Return the kept repos that their server still admits, and to which it still lends what they were lent.

    One of unknown namespace gives way to an admitted repo of the same name.
    """
    taken = {(repo.server_key, repo.repo_name) for repo in admitted}
    kept = []
    for one in snapshot.kept:
        server = servers.get(one.server)
        if server is None or (one.is_lent_identity and not lends_to(server, one.repo.namespace)):
            continue
        if one.repo.namespace == UNKNOWN:
            if (one.server, one.name) not in taken:
                kept.append(one)
        elif admits(server, one.repo.namespace, snapshot.namespaces):
            kept.append(one)
    return kept


def _verdict(  # noqa: PLR0913, PLR0917 - all that it depends on
    repo: PackageRepo,
    server: PackageServer | None,
    secrets: Mapping[ObjectKey, Secret],
    refusal: Finding | None,
    environment: Environment,
    cluster: ClusterKeys,
) -> RepoVerdict:
    resolved, values = resolve_secrets(repo, server, secrets)
    access = spec = None
    try:
        if server is not None:
            access = access_resolved(repo, server, cluster, environment.now)
        if refusal is None and server is not None:
            refusal = _unsupported(repo, server, environment)
        if refusal is None and server is not None:
            spec, refusal = _table(repo, server, values, environment)
    except Exception as error:  # noqa: BLE001 - one odd repo must not stop the reconcile of all others
        refusal = refusal or refusals.not_understood(error)
    if refusal is not None:
        return RepoVerdict(repo=repo, accepted=refusal, secrets_resolved=resolved, access_resolved=access)
    accepted = Finding(status=True, reason="Accepted", message=f"PackageServer {repo.server_key} takes the repo.")
    return RepoVerdict(
        repo=repo, accepted=accepted, secrets_resolved=resolved, access_resolved=access, spec=spec, secrets=values
    )


def _table(
    repo: PackageRepo, server: PackageServer, values: RepoSecrets, environment: Environment
) -> tuple[BackendSpec | None, Finding | None]:
    """Return the repo's table, or why it is refused."""
    files = {
        use: secret_path(environment.credentials_folder, repo.repo_name, use)
        for use in values.given()
        if use != "backend"
    }
    try:
        spec = repo_table(repo, server, environment.specs, files)
        if environment.has_pods_without_cache:
            spec = without_cache(spec)
        return spec, _table_too_large(repo, server, spec, environment, files)
    except InvalidConfigError as error:
        return None, refused("InvalidBackend", str(error))


def _with_room(
    verdicts: Sequence[RepoVerdict],
    kept: Iterable[KeptRepo],
    servers: Mapping[ObjectKey, PackageServer],
    environment: Environment,
    cluster: ClusterKeys,
) -> tuple[RepoVerdict, ...]:
    """Refuse the repos that do not fit into the objects of their server's configuration beside the `kept` ones."""
    candidates: dict[ObjectKey, list[Candidate]] = {}
    for one in kept:
        candidates.setdefault(one.server, []).append(kept_candidate(one))
    for verdict in verdicts:
        if verdict.served and verdict.spec is not None:
            made = Candidate(
                repo=verdict.repo.key,
                name=verdict.name,
                age=age_of(verdict.repo.key, verdict.repo.metadata),
                spec=verdict.spec,
                secrets=verdict.secrets,
            )
            candidates.setdefault(verdict.repo.server_key, []).append(made)
    full: dict[ObjectKey, frozenset[str]] = {}
    for key, own in candidates.items():
        needs_identity = any(entries_in(one.spec) for one in own)
        identity = identity_text(longest_document(servers[key], cluster)) if needs_identity else ""
        full |= without_room(servers[key], own, environment.credentials_folder, identity)
    return tuple(
        RepoVerdict(
            repo=verdict.repo,
            accepted=_server_full(verdict, full[verdict.repo.key]),
            secrets_resolved=verdict.secrets_resolved,
            access_resolved=verdict.access_resolved,
        )
        if verdict.repo.key in full
        else verdict
        for verdict in verdicts
    )


def _server_full(verdict: RepoVerdict, where: frozenset[str]) -> Finding:
    key, server = verdict.repo.key, verdict.repo.server_key
    if "configuration" in where and verdict.spec is not None:
        return refusals.configuration_full(key, server, table_bytes(verdict.name, verdict.spec))
    return refusals.credentials_full(key, server, sum(map(len, verdict.secrets.given().values())))


_TAKES_TOO_MUCH = {"TooManyRepos", "ServerFull"}


def _refused(verdicts: Iterable[RepoVerdict]) -> Mapping[str, int]:
    return Counter(one.repo.key.namespace for one in verdicts if one.accepted.reason in _TAKES_TOO_MUCH)


def _table_too_large(
    repo: PackageRepo,
    server: PackageServer,
    spec: BackendSpec,
    environment: Environment,
    files: Mapping[str, str],
) -> Finding | None:
    """Refuse a table that is too large even without the server's own upstream settings."""
    limit = server.spec.limits.repo_table_bytes
    if at_most_bytes(repo.repo_name, spec) <= limit:
        return None
    bare = msgspec.structs.replace(server, spec=msgspec.structs.replace(server.spec, upstream=ServerUpstream()))
    size = table_bytes(repo.repo_name, repo_table(repo, bare, environment.specs, files))
    return refusals.table_too_large(server, size) if size > limit else None


def _unsupported(repo: PackageRepo, server: PackageServer, environment: Environment) -> Finding | None:
    """Refuse an admitted repo for what its server lacks or does not allow; None if it suits."""
    backend = repo.spec.backend
    if backend.file_system is not None and server.spec.storage is None:
        return refused(
            "StorageMissing",
            f"PackageServer {server.key} has no spec.storage, so it can keep no fileSystem repo; add it there, "
            "or choose another backend.",
        )
    if upstream_mode(repo, server) == "Cached" and server.spec.cache is None:
        return refused(
            "CacheMissing",
            f"PackageServer {server.key} has no spec.cache, so it can keep no pages and files of other indexes; add "
            "it there, or set spec.upstream.mode to Pages.",
        )
    if backend.chosen.type_name not in environment.specs:
        installed = ", ".join(sorted(environment.specs))
        return refused(
            "BackendNotInstalled",
            f"spec.backend.{backend.chosen_field}: this backend is not installed (installed: {installed}); "
            "use an image that has it, or another backend.",
        )
    shortest_s = shortest_interval_s(schedule_of(repo))
    if shortest_s < server.spec.limits.min_schedule_interval_seconds:
        return refusals.schedule_too_frequent(server, schedule_of(repo), shortest_s)
    named = {f"spec.backend.{backend.chosen_field}.{field}": url for field, url in backend.chosen.endpoints().items()}
    if repo.spec.upstream.url is not None:
        named["spec.upstream.url"] = repo.spec.upstream.url
    named |= {
        f"spec.upstream.sources[{number}].url": source.url for number, source in enumerate(repo.spec.upstream.sources)
    }
    for field, url in named.items():
        if not allowed(server, url):
            return refused(
                "EndpointNotAllowed",
                f"{field} is {url!r}, whose host is not among the spec.allowedEndpoints of PackageServer "
                f"{server.key}; have it added there, or use an allowed one.",
            )
    return None


def _server_finding(server: PackageServer, namespaces: Mapping[str, Mapping[str, str]] | None) -> Finding:
    storage, cache = server.spec.storage, server.spec.cache
    if storage is not None and not storage.shared and server.most_replicas > 1:
        return refused(
            "StorageNotShared",
            f"{server.most_replicas} replicas cannot share a volume of access mode {', '.join(storage.access_modes)}; "
            "run one replica, or use storage with ReadWriteMany.",
        )
    if cache is not None and (finding := _cache_finding(cache, server.most_replicas)) is not None:
        return finding
    if server.spec.allowed_namespaces.from_ == "Selector" and namespaces is None:
        return refused(
            "NamespacesNotWatched",
            "spec.allowedNamespaces.from is Selector, which needs the labels of namespaces; let the operator watch "
            "all namespaces (watch.allNamespaces of the chart), or use Same or All.",
        )
    return Finding(status=True, reason="Accepted", message="The server can run as it is described.")


def _cache_finding(cache: Cache, replicas: int) -> Finding | None:
    """Refuse a cache that the server cannot have as it is described; None if it can."""
    volume, size = cache.file_system, cache.volume_bytes
    if volume is not None and not volume.shared and replicas > 1:
        return refused(
            "StorageNotShared",
            f"{replicas} replicas cannot share a cache's volume of access mode {', '.join(volume.access_modes)}; run "
            "one replica, use spec.cache.fileSystem with ReadWriteMany, or keep the cache in a bucket.",
        )
    if size is not None and cache.max_bytes is not None and cache.max_bytes > size:
        return refused(
            "CacheVolumeTooSmall",
            f"spec.cache.maxBytes is {cache.max_bytes}, and spec.cache.fileSystem.size is {size} bytes: the volume "
            "would be full before anything is removed from it. Make the volume larger, or maxBytes smaller.",
        )
    return None
