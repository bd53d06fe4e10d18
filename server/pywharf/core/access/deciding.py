"""Decide what an identity may do with a repo by the repo's access entries. Pure: the time is given."""

import functools
import hashlib
import hmac
from collections.abc import Collection, Iterable, Sequence
from math import inf

import msgspec

from pywharf.core.access.claims import Asked
from pywharf.core.access.entries import PERMISSIONS, AccessEntry
from pywharf.core.access.identities import Claims, Identity, Minted, ProxyUser, ServiceAccount, TokenHolder
from pywharf.core.access.permission import Permission
from pywharf.core.access.projects import ALL_PROJECTS, NO_PROJECTS, ProjectFilter, RepoProjects
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
    has_ended: bool = False
    """Whether entries name the client, none of which grants anything any longer."""


NO_GRANT = Grant(Permission.NONE, read=NO_PROJECTS)
_ENDED = msgspec.structs.replace(NO_GRANT, has_ended=True)
BY_SECRET = {
    Permission.NONE: NO_GRANT,
    Permission.READ: Grant(Permission.READ),
    Permission.WRITE: Grant(Permission.WRITE, publish=ALL_PROJECTS),
}
"""What the repo's own secrets and its storage grant, by the permission that they give: all projects."""


class CompiledEntry:
    """One entry, with what follows from it."""

    __slots__ = ("__dict__", "asked", "ends", "entry", "number", "permission")

    def __init__(self, entry: AccessEntry, number: int) -> None:
        self.entry = entry
        self.number = number
        """Its position among the entries of its repo."""
        self.asked = None if entry.wanted is None else Asked(entry.wanted)
        self.permission = PERMISSIONS[entry.permission]
        self.ends = inf if entry.expires is None else entry.expires.timestamp()

    @property
    def names_one(self) -> bool:
        """Return whether the entry is about the claims of one repository or subject."""
        return self.asked is not None and self.asked.names_one

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
        self.compiled = tuple(CompiledEntry(entry, number) for number, entry in enumerate(self.entries))
        self._projects = RepoProjects(entry.projects for entry in self.entries)
        self._totals: dict[tuple[CompiledEntry, ...], Grant] = {}
        self._by_digest: dict[str, list[CompiledEntry]] = {}
        self._by_account: dict[tuple[str, str], list[CompiledEntry]] = {}
        self._by_group: dict[str, list[CompiledEntry]] = {}
        self._by_issuer: dict[str, list[tuple[Asked, CompiledEntry]]] = {}
        for one in self.compiled:
            self._file(one)
        self._claims = {
            issuer: frozenset[str]().union(*(asked.claims for asked, _ in filed))
            for issuer, filed in self._by_issuer.items()
        }

    def _file(self, one: CompiledEntry) -> None:
        entry = one.entry
        for digest in entry.token_digests:
            self._by_digest.setdefault(digest, []).append(one)
        for account in entry.service_accounts:
            self._by_account.setdefault((account.namespace, account.name), []).append(one)
        for group in entry.proxy_groups:
            self._by_group.setdefault(group, []).append(one)
        if one.asked is not None:
            self._by_issuer.setdefault(one.asked.issuer, []).append((one.asked, one))

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
                return [one for asked, one in self._by_issuer.get(identity.issuer, ()) if asked.fits(identity)]
            case Minted():
                keys = identity.entries.get(self.repo, ())
                return [one for one in self.compiled if one.key in keys] if keys else []
            case ProxyUser():
                return _once(one for group in identity.groups for one in self._by_group.get(group, ()))

    def claims_about(self, issuer: str) -> frozenset[str]:
        """Return the names of the claims of an issuer's tokens that any of the entries asks for."""
        return self._claims.get(issuer, frozenset())

    def count_about(self, issuer: str) -> int:
        """Return how many entries an issuer's tokens are compared with."""
        return len(self._by_issuer.get(issuer, ()))

    def total(self, found: tuple[CompiledEntry, ...]) -> Grant:
        """Return what these entries grant together. The same ones are asked for with each request of a client."""
        total = self._totals.get(found)
        if total is None:
            if len(self._totals) >= _MAX_TOTALS:
                self._totals.clear()
            total = self._totals[found] = self._total(found)
        return total

    def _total(self, found: Sequence[CompiledEntry]) -> Grant:
        until = min(one.ends for one in found)
        publishing = [one.number for one in found if one.permission is Permission.WRITE]
        return Grant(
            permission=Permission.WRITE if publishing else Permission.READ,
            entry=",".join(one.entry.name for one in found),
            read=self._projects.of([one.number for one in found]),
            publish=self._projects.of(publishing) if publishing else NO_PROJECTS,
            until=until if until < inf else None,
            keys=tuple(one.key for one in found),
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CompiledEntries) and (self.repo, self.entries) == (other.repo, other.entries)

    __hash__ = None  # type: ignore[assignment]


NO_ENTRIES = CompiledEntries(RepoName(""), ())


def compile_entries(
    repo: RepoName, entries: Sequence[AccessEntry], before: CompiledEntries = NO_ENTRIES
) -> CompiledEntries:
    """Return the entries of a repo in the form that `decide` takes: `before`, if they are the same."""
    if not entries:
        return NO_ENTRIES
    return before if (before.repo, before.entries) == (repo, tuple(entries)) else CompiledEntries(repo, entries)


def matching(
    compiled: CompiledEntries, identity: Identity, now: float, digests: Collection[str] | None = None
) -> list[CompiledEntry]:
    """Return the entries that grant the identity something at `now`, in the order of the configuration.

    With `digests`, only those whose key has one of them: not an entry that was changed or added since.
    """
    return _in_force(compiled, compiled.about(identity), identity, now, digests)


def _in_force(
    compiled: CompiledEntries,
    about: list[CompiledEntry],
    identity: Identity,
    now: float,
    digests: Collection[str] | None,
) -> list[CompiledEntry]:
    """Return those of the entries about an identity that `matching` returns."""
    ends = getattr(identity, "expires", inf)
    found = [one for one in about if now < min(one.ends, ends) and (digests is None or one.digest in digests)]
    if len(found) < 2:  # noqa: PLR2004 - nothing to sort
        return found
    chosen = set(found)
    return [one for one in compiled.compiled if one in chosen]


def decide(compiled: CompiledEntries, identity: Identity, now: float, digests: Collection[str] | None = None) -> Grant:
    """Return what an identity may do with the repo at `now`, Unix seconds. Several entries add up. See `matching`."""
    about = compiled.about(identity)
    if not about:
        return NO_GRANT
    found = _in_force(compiled, about, identity, now, digests)
    if not found:
        return _ENDED
    total = compiled.total(tuple(found))
    until = min(total.until or inf, getattr(identity, "expires", inf))
    return msgspec.structs.replace(total, subject=identity.subject, until=until if until < inf else None)


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
