"""The decision which of the repos with a server's cloud identity may have which part of a bucket.

All of them reach whatever the identity reaches. Without this decision, a repo could name the bucket and the prefix of
another namespace's repo, and read and replace its packages.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from pywharf_operator.render.resolve.findings import Finding, refused
from pywharf_operator.render.resolve.kept import KeptRepo
from pywharf_operator.render.resolve.secret_refs import lends_identity
from pywharf_operator.render.resolve.shares import Age, age_of
from pywharf_operator.spec import ObjectKey, PackageRepo, PackageServer

Store = tuple[str, ...]
"""A bucket: the backend's type and the names. An endpoint does not count, since one store may have several."""
_NAMES = ("account", "container", "bucket")
_CACHE = ""
"""In the position of a namespace: the server itself. It sorts before every namespace."""


class _Place(msgspec.Struct, frozen=True):
    """Where a repo with the server's identity keeps its packages."""

    age: Age
    repo: ObjectKey
    server: ObjectKey
    store: Store
    prefix: str


class _Taken:
    """The prefixes of one bucket that repos have, with the namespaces of these repos."""

    def __init__(self) -> None:
        self._at: defaultdict[str, set[str]] = defaultdict(set)
        self._within: defaultdict[str, set[str]] = defaultdict(set)

    def others(self, prefix: str, namespace: str) -> set[str]:
        """Return the other namespaces that have the prefix, one that contains it, or one in it."""
        found = set(self._within[prefix])
        for folder in _folders(prefix):
            found |= self._at[folder]
        return found - {namespace}

    def add(self, prefix: str, namespace: str) -> None:
        self._at[prefix].add(namespace)
        for folder in _folders(prefix):
            self._within[folder].add(namespace)


def storage_conflicts(
    repos: Iterable[PackageRepo], kept: Iterable[KeptRepo], servers: Mapping[ObjectKey, PackageServer]
) -> dict[ObjectKey, Finding]:
    """Refuse repos that would share packages with an older repo of another namespace by their server's identity.

    Other faults of the older repo do not count, as for names: see `admission.name_conflicts`.
    """
    places = [*_of_caches(servers), *_of_kept(kept), *_of_repos(repos, servers)]
    taken: defaultdict[tuple[ObjectKey, Store], _Taken] = defaultdict(_Taken)
    conflicts: dict[ObjectKey, Finding] = {}
    for place in sorted(places, key=lambda one: one.age):
        holders = taken[place.server, place.store]
        others = holders.others(place.prefix, place.repo.namespace)
        if _CACHE in others:
            conflicts[place.repo] = refused(
                "StorageTaken",
                f"PackageServer {place.server} keeps its cache in this part of the bucket; choose another prefix or "
                "bucket.",
            )
        elif others:
            conflicts[place.repo] = refused(
                "StorageTaken",
                "An older PackageRepo of another namespace keeps its packages in this part of the bucket, with the "
                f"cloud identity of PackageServer {place.server}; choose another prefix or bucket, or name keys of "
                "your own by spec.credentials.backendSecretRef.",
            )
        else:
            holders.add(place.prefix, place.repo.namespace)
    return conflicts


def _of_caches(servers: Mapping[ObjectKey, PackageServer]) -> Iterator[_Place]:
    """Yield where caches are: before all repos, and no repo's own."""
    for key, server in servers.items():
        store = None if server.spec.cache is None else server.spec.cache.object_store
        if store is not None:
            holder = ObjectKey(_CACHE, key.name)
            yield _place((float("-inf"), holder), holder, key, store.table())


def _of_repos(repos: Iterable[PackageRepo], servers: Mapping[ObjectKey, PackageServer]) -> Iterator[_Place]:
    for repo in repos:
        if lends_identity(servers.get(repo.server_key), repo):
            table = repo.spec.backend.chosen.table()
            yield _place(age_of(repo.key, repo.metadata), repo.key, repo.server_key, table)


def _of_kept(kept: Iterable[KeptRepo]) -> Iterator[_Place]:
    for repo in kept:
        if repo.is_lent_identity:
            yield _place((float("-inf"), repo.repo), repo.repo, repo.server, repo.table)


def _place(age: Age, repo: ObjectKey, server: ObjectKey, table: Mapping[str, object]) -> _Place:
    store = (str(table["type"]), *(str(table.get(name, "")) for name in _NAMES))
    return _Place(age, repo, server, store, str(table.get("prefix", "")))


def _folders(prefix: str) -> Iterator[str]:
    """Yield the prefix and every folder that contains it, the whole bucket ("") first."""
    yield ""
    for end, character in enumerate(prefix, 1):
        if character == "/":
            yield prefix[:end]
