"""A fresh read of everything that the reconcile of one server depends on."""

import asyncio
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, TypeVar

import msgspec

from pywharf.core.names import REPO_NAME_PATTERN
from pywharf_operator.cluster.kube import Json, Kube, KubeError
from pywharf_operator.cluster.live import is_being_deleted, key_of, server_named_by, targets_of
from pywharf_operator.cluster.namespaces import FORBIDDEN, Namespaces
from pywharf_operator.cluster.policy_reader import ListedPolicies, PolicyReader
from pywharf_operator.cluster.secret_reader import SecretReader, wanted_by
from pywharf_operator.cluster.trimming import MOST_SPEC_BYTES, OVERSIZE
from pywharf_operator.render import Finding, NameClaim, Snapshot
from pywharf_operator.render.resolve.authority import AUTHORITY_KEY
from pywharf_operator.spec import (
    PACKAGE_SERVER,
    NamespaceObject,
    ObjectKey,
    PackagePolicy,
    PackageRepo,
    PackageServer,
    Resource,
    Secret,
)
from pywharf_operator.spec.explain import explain
from pywharf_operator.spec.kinds import NAMESPACE, REPO, SECRET, SERVER
from pywharf_operator.spec.package_policy import PackagePolicyStatus
from pywharf_operator.spec.package_repo import PackageRepoStatus
from pywharf_operator.spec.package_server import PackageServerStatus

R = TypeVar("R", bound=Resource)
STRAYS: Final = ObjectKey("", "repos without a server")
"""Stands for every missing server: the repos that name one are reconciled together."""
POLICIES: Final = ObjectKey("", "policies")
"""Stands for the statuses of all policies: a policy may be about several servers."""
_CHUNK = 100
"""Objects that are parsed before other tasks may run."""


class Malformed(msgspec.Struct, frozen=True):
    """A repo that passed the schema and cannot be parsed."""

    key: ObjectKey
    raw: Json
    finding: Finding


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """The objects that were read. Those that are being deleted count as gone."""

    key: ObjectKey
    server: PackageServer | None
    server_raw: Json | None
    """None if the repos name servers that are missing, being deleted or unreadable."""
    server_fault: Finding | None
    """Why the server cannot be parsed, if it exists."""
    repos: tuple[PackageRepo, ...]
    """The repos that name the server."""
    raws: Mapping[ObjectKey, Json]
    """The same repos and the malformed ones, as the API server returned them."""
    malformed: tuple[Malformed, ...]
    secrets: tuple[Secret, ...]
    namespaces: Mapping[str, Mapping[str, str]] | None
    """Labels by namespace; None if namespaces are not watched."""
    watched: tuple[str, ...] | None = None
    """The watched namespaces; None: all."""
    unreadable: frozenset[str] = frozenset()
    """Namespaces of which nothing could be read; none of their repos is in `repos`."""
    policies: tuple[PackagePolicy, ...] = ()
    """The policies that are about the server or its repos."""
    malformed_policies: tuple[Malformed, ...] = ()
    unlisted_policies: frozenset[str] | None = frozenset()
    """Namespaces whose policies could not be read; None: all."""
    authority: bytes | None = None
    """The value of `ca.crt` in the server's TLS Secret, if a repo's clients are given it."""

    def __repr__(self) -> str:
        """Hide the secrets."""
        return f"Observed({self.key})"

    @property
    def snapshot(self) -> Snapshot:
        """The input of rendering."""
        return Snapshot(
            repos=self.repos,
            servers=() if self.server is None else (self.server,),
            secrets=self.secrets,
            namespaces=self.namespaces,
            claims=tuple(_claim(one) for one in self.malformed),
            watched=self.watched,
            policies=self.policies,
            unparsed_policies=frozenset(one.key for one in self.malformed_policies),
            unlisted_policies=self.unlisted_policies,
            authorities={} if self.authority is None else {self.key: self.authority},
        )


class ServerKeys(msgspec.Struct, frozen=True):
    """Which servers exist, and which do not although repos name them."""

    existing: frozenset[ObjectKey]
    missing: frozenset[ObjectKey]

    @property
    def to_reconcile(self) -> frozenset[ObjectKey]:
        """The keys of a full resync: every server, STRAYS for all missing ones, and POLICIES for all policies."""
        return self.existing | {POLICIES} | ({STRAYS} if self.missing else frozenset())


class Observer:
    """The reader of a server's objects. Those that have not changed are not parsed again."""

    def __init__(self, kube: Kube, watched: tuple[str, ...] | None, namespaces: Namespaces | None = None) -> None:
        """Create the reader. `watched`: the namespaces to watch; None: all."""
        self._kube = kube
        self._watched = watched
        self.namespaces = namespaces or Namespaces(kube, watched)
        self._secrets = SecretReader(kube, cluster_wide=watched is None)
        self._policies = PolicyReader(kube, watched, self.namespaces.policies_unlisted)
        self._parsed: dict[str, tuple[str, Any]] = {}
        """The resourceVersion and the struct or a Finding, by uid."""

    def watches(self, namespace: str) -> bool:
        """Return whether the operator watches the namespace."""
        return self._watched is None or namespace in self._watched

    async def server_keys(self) -> ServerKeys:
        """Return every server, and the missing ones that repos name."""
        servers, (repos, _) = await asyncio.gather(self._servers(), self._repos())
        there = frozenset(map(key_of, servers))
        return ServerKeys(there, frozenset(map(server_named_by, repos)) - there)

    async def strays(self) -> Observed:
        """Read everything about the repos whose server is missing, being deleted or unreadable."""
        there = {key_of(raw) for raw in await self._servers() if not is_being_deleted(raw)}
        repos_raw, _ = await self._repos(lambda server: server not in there)
        return await self._observed(STRAYS, None, repos_raw, frozenset(), None)

    async def observe(self, key: ObjectKey) -> Observed | None:
        """Read everything about the server `key` and the repos that name it; None if there is no such server.

        Return None as well if it is being deleted, or its namespace cannot be read.
        """
        # First and alone: nothing is listed for a server that repos only name.
        server_raw = await self._server(key)
        if server_raw is None:
            return None
        (repos_raw, unreadable), namespaces = await asyncio.gather(
            self._repos(lambda server: server == key), self._labels()
        )
        return await self._observed(key, server_raw, repos_raw, unreadable, namespaces)

    async def _observed(
        self,
        key: ObjectKey,
        server_raw: Json | None,
        repos_raw: list[Json],
        unreadable: frozenset[str],
        namespaces: Mapping[str, Mapping[str, str]] | None,
    ) -> Observed:
        server, server_fault = None, None
        if server_raw is not None:
            found = self._parse(server_raw, PackageServer)
            server, server_fault = (None, found) if isinstance(found, Finding) else (found, None)
        repos: list[PackageRepo] = []
        malformed: list[Malformed] = []
        for number, raw in enumerate(repos_raw):
            if number % _CHUNK == _CHUNK - 1:
                await asyncio.sleep(0)
            parsed = self._parse(raw, PackageRepo)
            if isinstance(parsed, Finding):
                malformed.append(Malformed(key_of(raw), raw, parsed))
            else:
                repos.append(parsed)
        (secrets, without_secrets), found_policies = await asyncio.gather(
            self._credentials(repos), self._policies_of(key, {key_of(raw) for raw in repos_raw}, server_raw)
        )
        policies = await self.parsed_policies(found_policies.items)
        # Where no repo is listed, no policy of a repo is found either, although it may exist.
        unlisted = None if found_policies.unlisted is None else found_policies.unlisted | unreadable
        if without_secrets:
            # A namespace that is readable only in part counts as unreadable.
            unreadable |= without_secrets
            repos = [repo for repo in repos if repo.key.namespace not in without_secrets]
        return Observed(
            key=key,
            server=server,
            server_raw=server_raw,
            server_fault=server_fault,
            repos=tuple(repos),
            raws={key_of(raw): raw for raw in repos_raw},
            malformed=tuple(malformed),
            secrets=secrets,
            namespaces=namespaces,
            watched=self._watched,
            unreadable=unreadable,
            policies=tuple(one for one in policies if isinstance(one, PackagePolicy)),
            malformed_policies=tuple(one for one in policies if isinstance(one, Malformed)),
            unlisted_policies=unlisted,
            authority=await self._authority(server, repos),
        )

    async def _authority(self, server: PackageServer | None, repos: list[PackageRepo]) -> bytes | None:
        secret = None if server is None else server.tls_secret
        if secret is None or not any(repo.spec.client_config is not None for repo in repos):
            return None
        return await self._secrets.value(secret, AUTHORITY_KEY)

    async def policies(self) -> ListedPolicies:
        """List every policy."""
        return await self._policies.read(lambda _raw: True)

    async def parsed_policies(self, items: list[Json]) -> list[PackagePolicy | Malformed]:
        """Parse policies. One with thousands of rules takes a while, so each that has changed is parsed in a thread."""
        made: list[PackagePolicy | Malformed] = []
        for raw in items:
            parsed = self._known(raw)
            if parsed is None:
                parsed = await asyncio.to_thread(self._parse, raw, PackagePolicy)
            made.append(Malformed(key_of(raw), raw, parsed) if isinstance(parsed, Finding) else parsed)
        return made

    async def _policies_of(self, server: ObjectKey, repos: set[ObjectKey], raw: Json | None) -> ListedPolicies:
        """List the policies that are about the server or its repos; none for repos without a server."""
        if raw is None:
            return ListedPolicies([], frozenset())

        def concerns(policy: Json) -> bool:
            namespace = key_of(policy).namespace
            refs = ((kind, ObjectKey(namespace, name)) for kind, name in targets_of(policy))
            return any(key == server if kind == PACKAGE_SERVER else key in repos for kind, key in refs)

        return await self._policies.read(concerns)

    async def servers(self) -> frozenset[ObjectKey]:
        """Return every server that is not being deleted."""
        return frozenset(key_of(raw) for raw in await self._servers() if not is_being_deleted(raw))

    async def _servers(self) -> list[Json]:
        servers, _ = await self.namespaces.each(SERVER, lambda one: self._kube.list_metadata(SERVER, one))
        return servers

    async def _server(self, key: ObjectKey) -> Json | None:
        if not self.watches(key.namespace):
            return None
        try:
            raw = await self.namespaces.reading(key.namespace, SERVER, self._kube.get(SERVER, key))
        except KubeError as error:
            if error.status == FORBIDDEN and self._watched is not None:
                return None
            raise
        return None if raw is None or is_being_deleted(raw) else raw

    async def _repos(self, names: Callable[[ObjectKey], bool] | None = None) -> tuple[list[Json], frozenset[str]]:
        """Return the repos whose server `names` accepts (None: all), and the namespaces that may not be read."""

        def counts(raw: Json) -> bool:
            return names is None or (names(server_named_by(raw)) and not is_being_deleted(raw))

        return await self.namespaces.each(REPO, lambda one: self._kube.list(REPO, one, only=counts))

    async def _credentials(self, repos: list[PackageRepo]) -> tuple[tuple[Secret, ...], frozenset[str]]:
        """Return the Secrets that the repos name, and the namespaces whose Secrets may not be read."""
        wanted = wanted_by(repos)
        if self._watched is None:
            return await self._secrets.read(wanted), frozenset()
        by_namespace: dict[str, dict[ObjectKey, frozenset[str]]] = {one: {} for one in self.namespaces.refusing(SECRET)}
        for key, keys in wanted.items():
            by_namespace.setdefault(key.namespace, {})[key] = keys
        found: list[Secret] = []
        refused = set()
        for namespace, part in by_namespace.items():
            try:
                found += await self.namespaces.reading(namespace, SECRET, self._secrets.read(part, [namespace]))
            except KubeError as error:
                if error.status != FORBIDDEN:
                    raise
                refused.add(namespace)
        return tuple(found), frozenset(refused)

    async def _labels(self) -> Mapping[str, Mapping[str, str]] | None:
        if self._watched is not None:
            return None
        found = [self._parse(raw, NamespaceObject) for raw in await self._kube.list(NAMESPACE)]
        return {one.metadata.name: one.metadata.labels or {} for one in found if isinstance(one, NamespaceObject)}

    def _parse(self, raw: Json, struct: type[R]) -> R | Finding:
        known: R | Finding | None = self._known(raw)  # an object never changes its kind
        if known is not None:
            return known
        parsed = _parsed(raw, struct)
        if OVERSIZE not in raw:
            uid, version = _version(raw)
            self._parsed[uid] = (version, parsed)
        return parsed

    def _known(self, raw: Json) -> Any:  # noqa: ANN401 - any kind's struct
        if OVERSIZE in raw:  # it may depend on other objects
            return None
        uid, version = _version(raw)
        known = self._parsed.get(uid)
        return known[1] if known is not None and known[0] == version else None

    def forget(self) -> None:
        """Clear the cache of parsed objects, which includes those that are gone."""
        self._parsed.clear()


def _version(raw: Json) -> tuple[str, str]:
    return str(raw["metadata"].get("uid")), str(raw["metadata"].get("resourceVersion"))


def _parsed(raw: Json, struct: type[R]) -> R | Finding:
    if OVERSIZE in raw:
        if "message" in raw[OVERSIZE]:
            return Finding(status=False, reason="InvalidSpec", message=str(raw[OVERSIZE]["message"]))
        message = (
            f"spec has {raw[OVERSIZE]['bytes']} bytes as JSON, and at most {MOST_SPEC_BYTES} are read; shorten "
            f"{raw[OVERSIZE]['field']}, which has the most."
        )
        return Finding(status=False, reason="InvalidSpec", message=message)
    # What somebody wrote into a status must not make the spec unreadable.
    status = _status(raw, struct)
    item = {key: value for key, value in raw.items() if key != "status"}
    try:
        return msgspec.convert(item | ({"status": status} if status is not None else {}), struct)
    except msgspec.ValidationError as error:
        return Finding(status=False, reason="InvalidSpec", message=_sentence(explain(error, item, struct)))


def _sentence(text: str) -> str:
    """Capitalize the text, unless it begins with a field, whose name keeps its spelling."""
    return text if _FIELD.match(text) else text[:1].upper() + text[1:]


_FIELD = re.compile(r"(apiVersion|kind|metadata|spec)\b")
_NAME = re.compile(REPO_NAME_PATTERN)


_STATUS: dict[type[Resource], type[msgspec.Struct]] = {
    PackageRepo: PackageRepoStatus,
    PackageServer: PackageServerStatus,
    PackagePolicy: PackagePolicyStatus,
}


def _status(raw: Json, struct: type[Resource]) -> object:
    kind = _STATUS.get(struct)
    if kind is None:
        return None
    try:
        msgspec.convert(raw.get("status") or {}, kind)
    except msgspec.ValidationError:
        return None
    return raw.get("status") or None


def _claim(one: Malformed) -> NameClaim:
    """Return the name that a malformed repo held before and still holds; its status may still contain it."""
    holders = (one.raw.get("spec"), one.raw.get("status"))
    names = (holder.get("repoName") for holder in holders if isinstance(holder, dict))
    name = next((name for name in names if isinstance(name, str) and _NAME.fullmatch(name)), one.key.name)
    try:
        created = msgspec.convert(one.raw["metadata"].get("creationTimestamp"), datetime | None)
    except msgspec.ValidationError:
        created = None
    return NameClaim(server_named_by(one.raw), name, one.key, created)
