"""Decide what a client may do with a repo: by the repo's own secrets, its access entries, or by asking its storage."""

import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

import msgspec

from pywharf.core.access.deciding import BY_SECRET, NO_ENTRIES, CompiledEntries, Grant, decide
from pywharf.core.access.identities import Claims, Identity, Minted
from pywharf.core.access.permission import Permission
from pywharf.core.access.secrets import Credentials, permission_of
from pywharf.core.errors import NO_CREDENTIALS
from pywharf.core.names import RepoName
from pywharf.index.ports import Authority, Backend
from pywharf.serving.identification import Identification, Unverified, Verifier
from pywharf.serving.permission_cache import Nobody, PermissionCache
from pywharf.serving.refusals import Refusals

_NOBODY_S = 30.0
"""Seconds for which a refusal for a nonexistent repo is cached, as any refusal is."""

_NO_CREDENTIALS = Credentials()
"""Nobody's credentials. A nonexistent repo is compared with them, so that it takes as long as an existing one."""


class Refused(msgspec.Struct, frozen=True):
    """A client that may do nothing with a repo."""

    reason: str
    """Why, in a word, for the audit alone: `wrong-secret`, `not-named`, `expired`, or what Unverified says."""
    subject: str = ""
    """Who the client is, if it proved that."""


class Admitted(msgspec.Struct, frozen=True):
    """A client that may do something with a repo."""

    grant: Grant
    identity: Identity | None = None
    """None: the repo's own secrets, or its storage, decided."""


Decision = Admitted | Refused

_WRONG = Refused("wrong-secret")
_NOTHING_SENT = Refused(NO_CREDENTIALS)
_BY_SECRET = {permission: Admitted(grant) for permission, grant in BY_SECRET.items()}


def _by_secret(permission: Permission) -> Decision:
    return _WRONG if permission is Permission.NONE else _BY_SECRET[permission]


SpentTokens = Callable[[RepoName, Minted | Claims, str], Awaitable[bool]]
"""A function that returns whether a token was burned or exchanged, as a repo knows. It may raise UnavailableError."""


async def _never_spent(repo: RepoName, identity: Minted | Claims, token: str) -> bool:
    del repo, identity, token
    return False


class Gatekeeper:
    """The credentials of all repos, and the cached permissions of those whose storage knows clients itself."""

    def __init__(
        self,
        read_expires_s: float,
        write_expires_s: float,
        verifiers: Sequence[Verifier] = (),
        clock: Callable[[], float] = time.time,
        is_spent: SpentTokens = _never_spent,
    ) -> None:
        """`verifiers` are asked after that of the tokens that entries name by digest. `clock` gives Unix seconds."""
        self._read_expires_s = read_expires_s
        self._write_expires_s = write_expires_s
        self._identification = Identification(verifiers)
        self._clock = clock
        self._is_spent = is_spent
        self._refusals = Refusals()
        self._nobody = PermissionCache(
            Nobody(self._refusals, self._is_plausible), _NOBODY_S, _NOBODY_S, refusals=self._refusals
        )
        self._credentials: Mapping[RepoName, Credentials] = {}
        self._caches: Mapping[RepoName, PermissionCache] = {}

    def cache_of(self, backend: Backend) -> PermissionCache | None:
        """Return a new cache of the storage's answers about clients; None if the storage does not know clients."""
        if not isinstance(backend, Authority):
            return None
        return PermissionCache(backend, self._read_expires_s, self._write_expires_s, refusals=self._refusals)

    def replace(self, credentials: Mapping[RepoName, Credentials], caches: Mapping[RepoName, PermissionCache]) -> None:
        """Decide by these credentials and caches from now on, and by no older ones."""
        self._credentials, self._caches = credentials, caches

    def credentials(self, name: RepoName) -> Credentials:
        """Return the repo's secrets, which decide before anything else of it is shown; nobody's if it is unknown."""
        return self._credentials.get(name, _NO_CREDENTIALS)

    def is_known(self, name: str) -> bool:
        """Return whether there is a repo of that name. No answer to a client without access may depend on it."""
        return RepoName(name) in self._credentials

    def entries(self) -> Mapping[RepoName, CompiledEntries]:
        """Return the access entries of each repo that has any, as they are now."""
        return {name: one.entries for name, one in self._credentials.items() if one.entries is not NO_ENTRIES}

    def uses_storage_auth(self, name: RepoName) -> bool:
        """Return whether the repo has no secrets of its own, but a storage that knows clients itself."""
        return name in self._caches and not self.credentials(name).has_secrets

    async def admit(self, name: RepoName, secret: str, needed: Permission, address: str = "") -> Decision:
        """Decide about a client at an address that sent a secret under the repo's name.

        The repo's own secrets come first, whatever form they have; then identities; then a storage that knows clients,
        of whose cached answers `needed` limits the age. Raises UnavailableError if one that must be asked cannot be.
        """
        credentials = self._credentials.get(name, _NO_CREDENTIALS)
        cache = self._caches.get(name)
        if cache is None or credentials.has_secrets or not secret:
            granted = permission_of(secret, credentials)
            if granted is not Permission.NONE:
                return _BY_SECRET[granted]
            cache = None
        if not secret:
            return _NOTHING_SENT
        decided = await self.admit_identity(name, secret, needed, address)
        if decided is not None:
            return decided
        if cache is not None:
            return _by_secret(await cache.permission(secret, needed, address))
        if self._caches:
            # Treat it as a repo whose storage is asked: neither response nor timing shows which names exist.
            return _by_secret(await self._nobody.permission(f"{name}:{secret}", needed, address))
        return _WRONG

    async def admit_identity(
        self, name: RepoName, secret: str, needed: Permission, address: str = ""
    ) -> Decision | None:
        """Decide about a client by the identity that its secret proves; None if that has the form of no proof.

        Raises UnavailableError.
        """
        identity = await self._identification.identify(secret, address)
        if identity is None:
            return None
        if isinstance(identity, Unverified):
            return Refused(identity.reason)
        decision = self.admit_identified(name, identity)
        # Only a token that grants something is worth a question to the repo's storage. One that was exchanged for a
        # minted one goes on reading, but does not publish a second time.
        if isinstance(decision, Refused):
            return decision
        if isinstance(identity, Minted) and await self._is_spent(name, identity, secret):
            return Refused("burned", identity.subject)
        publishes = needed is Permission.WRITE
        if isinstance(identity, Claims) and publishes and await self._is_spent(name, identity, secret):
            return Refused("replayed", identity.subject)
        return decision

    def admit_identified(self, name: RepoName, identity: Identity, digests: Collection[str] | None = None) -> Decision:
        """Decide what an identity may do with a repo now, by the entries of the current configuration.

        With `digests`, only entries count whose key has one of them.
        """
        credentials = self._credentials.get(name, _NO_CREDENTIALS)
        grant = decide(credentials.entries, identity, self._clock(), digests)
        if credentials.anonymous_read and not grant.read.everything:
            # Everybody reads everything there, so nobody reads less by having proved who it is.
            grant = msgspec.structs.replace(
                grant,
                permission=max(grant.permission, Permission.READ),
                read=BY_SECRET[Permission.READ].read,
                subject=identity.subject,
            )
        if grant.permission is Permission.NONE:
            return Refused("expired" if grant.has_ended else "not-named", identity.subject)
        return Admitted(grant, identity)

    def _is_plausible(self, named: str) -> bool:
        """Return whether the storage of any repo may know the secret in `named` (repo name, colon, secret)."""
        secret = named.partition(":")[2]
        return any(cache.is_plausible(secret) for cache in self._caches.values())
