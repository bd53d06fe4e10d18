"""Decide what an identity may do with a repo by the repo's access entries. Pure: the time is given."""

import functools
import hashlib
import hmac
import operator
from collections.abc import Collection, Iterable, Sequence
from math import inf

import msgspec

from pywharf.core.access.claims import Wanted, claims_of, fits, issuer_of
from pywharf.core.access.entries import PERMISSIONS, AccessEntry
from pywharf.core.access.identities import Claims, Identity, Minted, ProxyUser, ServiceAccount, TokenHolder
from pywharf.core.access.permission import Permission
from pywharf.core.access.projects import ALL_PROJECTS, NO_PROJECTS, PatternSet, ProjectFilter
from pywharf.core.names import RepoName

EVERY_ACCOUNT = "*"
"""The name of a ServiceAccount in an entry that is about all of a namespace."""
_KEY_HEX = 24
_MAX_TOTALS = 64
"""Sums of entries of a repo that are kept; each client has one."""


class Grant(msgspec.Struct, frozen=True):
    """What one client may do with one repo at one moment."""

    permission: Permission
    entry: str = ""
    """Names of the entries that grant it, in the order of the configuration, with commas between; "": none does."""
    subject: str = ""
    """Who the client is, for audit and access log; "": the repo's own secrets or nobody's decided."""
    read: ProjectFilter = ALL_PROJECTS
    """The projects whose pages and files the client sees."""
    publish: ProjectFilter = NO_PROJECTS
    """The projects that it may publish to and change."""
    until: float | None = None
    """Unix seconds from which it may be less. None: no time ends it."""
    keys: tuple[str, ...] = ()
    """The entries' keys; see entry_key."""


NO_GRANT = Grant(Permission.NONE, read=NO_PROJECTS)
BY_SECRET = {
    Permission.NONE: NO_GRANT,
    Permission.READ: Grant(Permission.READ),
    Permission.WRITE: Grant(Permission.WRITE, publish=ALL_PROJECTS),
}
"""What the repo's own secrets and its storage grant, by the permission that they give: all projects."""


class CompiledEntry:
    """One entry, with what follows from it."""

    __slots__ = ("__dict__", "ends", "entry", "permission", "projects")

    def __init__(self, entry: AccessEntry) -> None:
        self.entry = entry
        self.permission = PERMISSIONS[entry.permission]
        self.ends = inf if entry.expires is None else entry.expires.timestamp()
        self.projects = ProjectFilter([PatternSet(entry.projects)])

    @functools.cached_property
    def key(self) -> str:
        """Return the entry's key; see entry_key."""
        return entry_key(self.entry)

    @property
    def digest(self) -> str:
        """Return the part of the key that changes with all that the entry says, its name included."""
        return digest_of_key(self.key)


class CompiledEntries:
    """The entries of one repo, filed by the subjects that they name. Equal if the entries are."""

    def __init__(self, repo: RepoName, entries: Sequence[AccessEntry]) -> None:
        self.repo = repo
        self.entries = tuple(entries)
        self.compiled = tuple(map(CompiledEntry, self.entries))
        self._totals: dict[tuple[CompiledEntry, ...], Grant] = {}
        self._by_digest: dict[str, list[CompiledEntry]] = {}
        self._by_account: dict[tuple[str, str], list[CompiledEntry]] = {}
        self._by_group: dict[str, list[CompiledEntry]] = {}
        self._by_issuer: dict[str, list[tuple[Wanted, CompiledEntry]]] = {}
        for one in self.compiled:
            self._file(one)

    def _file(self, one: CompiledEntry) -> None:
        entry = one.entry
        for digest in entry.token_digests:
            self._by_digest.setdefault(digest, []).append(one)
        for account in entry.service_accounts:
            self._by_account.setdefault((account.namespace, account.name), []).append(one)
        for group in entry.proxy_groups:
            self._by_group.setdefault(group, []).append(one)
        for wanted in (entry.github, entry.gitlab, entry.oidc):
            if wanted is not None:
                self._by_issuer.setdefault(issuer_of(wanted), []).append((wanted, one))

    def about(self, identity: Identity) -> list[CompiledEntry]:
        """Return the entries that name the identity, expired ones included; each once, in no particular order."""
        match identity:
            case TokenHolder(digest):
                # The secret has 256 bits and is compared by its digest: the time of a search tells nothing about it.
                # Comparing what was found as well leaves nothing to how a dict compares its keys.
                found = self._by_digest.get(digest, ())
                return _once(one for one in found if _names_digest(one.entry, digest))
            case ServiceAccount(namespace, name):
                accounts = ((namespace, name), (namespace, EVERY_ACCOUNT))
                return _once(one for account in accounts for one in self._by_account.get(account, ()))
            case Claims():
                return [one for wanted, one in self._by_issuer.get(identity.issuer, ()) if fits(wanted, identity)]
            case Minted():
                keys = identity.entries.get(self.repo, ())
                return [one for one in self.compiled if one.key in keys] if keys else []
            case ProxyUser():
                return _once(one for group in identity.groups for one in self._by_group.get(group, ()))

    def claims_about(self, issuer: str) -> frozenset[str]:
        """Return the names of the claims of an issuer's tokens that any of the entries asks for."""
        return frozenset().union(*(claims_of(wanted) for wanted, _ in self._by_issuer.get(issuer, ())))

    def total(self, found: tuple[CompiledEntry, ...]) -> Grant:
        """Return what these entries grant together. The same ones are asked for with each request of a client."""
        total = self._totals.get(found)
        if total is None:
            if len(self._totals) >= _MAX_TOTALS:
                self._totals.clear()
            total = self._totals[found] = _total(found)
        return total

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CompiledEntries) and (self.repo, self.entries) == (other.repo, other.entries)

    __hash__ = None  # type: ignore[assignment]


NO_ENTRIES = CompiledEntries(RepoName(""), ())


def compile_entries(repo: RepoName, entries: Sequence[AccessEntry]) -> CompiledEntries:
    """Return the entries of a repo in the form that `decide` takes."""
    return CompiledEntries(repo, entries) if entries else NO_ENTRIES


def matching(
    compiled: CompiledEntries, identity: Identity, now: float, digests: Collection[str] | None = None
) -> list[CompiledEntry]:
    """Return the entries that grant the identity something at `now`, in the order of the configuration.

    With `digests`, only those whose key has one of them: not an entry that was changed or added since.
    """
    found = compiled.about(identity)
    if not found:
        return found
    ends = getattr(identity, "expires", inf)
    found = [one for one in found if now < min(one.ends, ends) and (digests is None or one.digest in digests)]
    if len(found) < 2:  # noqa: PLR2004 - nothing to sort
        return found
    chosen = set(found)
    return [one for one in compiled.compiled if one in chosen]


def decide(compiled: CompiledEntries, identity: Identity, now: float, digests: Collection[str] | None = None) -> Grant:
    """Return what an identity may do with the repo at `now`, Unix seconds. Several entries add up. See `matching`."""
    found = matching(compiled, identity, now, digests)
    if not found:
        return NO_GRANT
    total = compiled.total(tuple(found))
    until = min(total.until or inf, getattr(identity, "expires", inf))
    return msgspec.structs.replace(total, subject=identity.subject, until=until if until < inf else None)


def _total(found: Sequence[CompiledEntry]) -> Grant:
    until = min(one.ends for one in found)
    publish = _projects_of([one for one in found if one.permission is Permission.WRITE])
    return Grant(
        permission=Permission.READ if publish is NO_PROJECTS else Permission.WRITE,
        entry=",".join(one.entry.name for one in found),
        read=_projects_of(found),
        publish=publish,
        until=until if until < inf else None,
        keys=tuple(one.key for one in found),
    )


def _projects_of(found: Sequence[CompiledEntry]) -> ProjectFilter:
    """Return the projects of all these entries together."""
    if not found:
        return NO_PROJECTS
    return functools.reduce(operator.or_, [one.projects for one in found])


def entry_key(entry: AccessEntry) -> str:
    """Return the entry's name and a digest of all that it says: another key once anything of it was changed."""
    content = msgspec.json.encode(entry, order="sorted")
    return f"{entry.name}:{hashlib.sha256(content).hexdigest()[:_KEY_HEX]}"


def digest_of_key(key: str) -> str:
    """Return the part of an entry's key that changes with all that it says."""
    return key.rpartition(":")[2]


def _names_digest(entry: AccessEntry, digest: str) -> bool:
    given = digest.encode()
    return any([hmac.compare_digest(given, one.encode()) for one in entry.token_digests])  # noqa: C419 - compare all


def _once(found: Iterable[CompiledEntry]) -> list[CompiledEntry]:
    return list(dict.fromkeys(found))
