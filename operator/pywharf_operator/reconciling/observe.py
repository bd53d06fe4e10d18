"""A fresh read of everything that the reconcile of one server depends on."""

import asyncio
from collections.abc import Callable, Mapping

from pywharf_operator.cluster.kube import Json, Kube, KubeError
from pywharf_operator.cluster.live import is_being_deleted, key_of, server_named_by, targets_of
from pywharf_operator.cluster.namespaces import FORBIDDEN, Namespaces
from pywharf_operator.cluster.policy_reader import ListedPolicies, PolicyReader
from pywharf_operator.cluster.secret_reader import SecretReader, wanted_by
from pywharf_operator.reconciling.observed import STRAYS, Observed, ServerKeys
from pywharf_operator.reconciling.parsed_objects import Malformed, ParsedObjects
from pywharf_operator.render import Finding
from pywharf_operator.render.resolve.authority import AUTHORITY_KEY
from pywharf_operator.spec import (
    PACKAGE_SERVER,
    NamespaceObject,
    ObjectKey,
    PackagePolicy,
    PackageRepo,
    PackageServer,
    Secret,
)
from pywharf_operator.spec.kinds import NAMESPACE, REPO, SECRET, SERVER

_CHUNK = 100
"""Objects that are parsed before other tasks may run."""


class Observer:
    """The reader of a server's objects. Those that have not changed are not parsed again."""

    def __init__(self, kube: Kube, watched: tuple[str, ...] | None, namespaces: Namespaces | None = None) -> None:
        """Create the reader. `watched`: the namespaces to watch; None: all."""
        self._kube = kube
        self._watched = watched
        self.namespaces = namespaces or Namespaces(kube, watched)
        self._secrets = SecretReader(kube, cluster_wide=watched is None)
        self._policies = PolicyReader(kube, watched, self.namespaces.policies_unlisted)
        self._parsed = ParsedObjects()

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
            found = self._parsed.parse(server_raw, PackageServer)
            server, server_fault = (None, found) if isinstance(found, Finding) else (found, None)
        repos: list[PackageRepo] = []
        malformed: list[Malformed] = []
        for number, raw in enumerate(repos_raw):
            if number % _CHUNK == _CHUNK - 1:
                await asyncio.sleep(0)
            parsed = self._parsed.parse(raw, PackageRepo)
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
            parsed = self._parsed.known(raw)
            if parsed is None:
                parsed = await asyncio.to_thread(self._parsed.parse, raw, PackagePolicy)
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
        found = [self._parsed.parse(raw, NamespaceObject) for raw in await self._kube.list(NAMESPACE)]
        return {one.metadata.name: one.metadata.labels or {} for one in found if isinstance(one, NamespaceObject)}

    def forget(self) -> None:
        """Clear the cache of parsed objects, which includes those that are gone."""
        self._parsed.forget()
