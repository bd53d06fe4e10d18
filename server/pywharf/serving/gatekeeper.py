"""Decide what a client may do with a repo: by the repo's own secrets, or by asking its storage."""

from collections.abc import Mapping

from pywharf.core.access.permission import Permission
from pywharf.core.access.secrets import Credentials, permission_of
from pywharf.core.names import RepoName
from pywharf.index.ports import Authority, Backend
from pywharf.serving.permission_cache import Nobody, PermissionCache
from pywharf.serving.refusals import Refusals

_NOBODY_S = 30.0
"""Seconds for which a refusal for a nonexistent repo is cached, as any refusal is."""

_NO_CREDENTIALS = Credentials()
"""Nobody's credentials. A nonexistent repo is compared with them, so that it takes as long as an existing one."""


class Gatekeeper:
    """The credentials of all repos, and the cached permissions of those whose storage knows clients itself."""

    def __init__(self, read_expires_s: float, write_expires_s: float) -> None:
        self._read_expires_s = read_expires_s
        self._write_expires_s = write_expires_s
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

    def uses_storage_auth(self, name: RepoName) -> bool:
        """Return whether the repo has no secrets of its own, but a storage that knows clients itself."""
        return name in self._caches and not self.credentials(name).has_secrets

    async def permission_of(
        self, name: RepoName, secret: str | None, needed: Permission, address: str = ""
    ) -> Permission:
        """Return what the client at an address may do with a repo; `needed` limits the age of a cached answer.

        Raises UnavailableError if only the storage knows, and it cannot be asked.
        """
        credentials = self._credentials.get(name, _NO_CREDENTIALS)
        cache = self._caches.get(name)
        if secret and cache is not None and not credentials.has_secrets:
            return await cache.permission(secret, needed, address)
        granted = permission_of(secret, credentials)
        if secret and granted is Permission.NONE and self._caches:
            # Treat it as a repo whose storage is asked: neither response nor timing shows which names exist.
            return await self._nobody.permission(f"{name}:{secret}", needed, address)
        return granted

    def _is_plausible(self, named: str) -> bool:
        """Return whether the storage of any repo may know the secret in `named` (repo name, colon, secret)."""
        secret = named.partition(":")[2]
        return any(cache.is_plausible(secret) for cache in self._caches.values())
