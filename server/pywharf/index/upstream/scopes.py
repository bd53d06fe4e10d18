"""What stands for a source's credentials in the keys of the cache's store."""

import asyncio
import hashlib

from cachetools import LRUCache

from pywharf.index.single_flight import SingleFlight
from pywharf.index.upstream.source import Identity, SourceCredentials

_ROUNDS = 100_000
_MAX_SCOPES = 4_096


class Scopes:
    """The scopes of sources, for pages and files alike.

    They are slow to compute from a password, since others may list the store's keys. Concurrent callers share that.
    """

    def __init__(self) -> None:
        self._scopes: LRUCache[Identity, str] = LRUCache(_MAX_SCOPES)
        self._computing = SingleFlight[Identity, str]()

    async def of(self, identity: Identity) -> str:
        """Return the scope of what is read with a source's credentials; empty: without any."""
        url, credentials = identity
        if credentials is None:
            return ""
        known = self._scopes.get(identity)
        if known is not None:
            return known
        return await self._computing.run(identity, lambda: self._compute(url, credentials))

    async def _compute(self, url: str, credentials: SourceCredentials) -> str:
        secret, salt = credentials.password.encode(), f"{url}\0{credentials.username}".encode()
        digest = await asyncio.to_thread(hashlib.pbkdf2_hmac, "sha256", secret, salt, _ROUNDS)
        scope = self._scopes[url, credentials] = digest.hex()
        return scope
