"""What stands for a source's credentials in the keys of the cache's store."""

import asyncio
import hashlib

from cachetools import LRUCache

from pywharf.index.upstream.source import Identity

_ROUNDS = 100_000
_MAX_SCOPES = 4_096


class Scopes:
    """The scopes of sources. They are slow to compute from a password, since others may list the store's keys."""

    def __init__(self) -> None:
        self._scopes: LRUCache[Identity, str] = LRUCache(_MAX_SCOPES)

    async def of(self, identity: Identity) -> str:
        """Return the scope of what is read with a source's credentials; empty: without any."""
        url, credentials = identity
        if credentials is None:
            return ""
        scope = self._scopes.get(identity)
        if scope is None:
            secret, salt = credentials.password.encode(), f"{url}\0{credentials.username}".encode()
            digest = await asyncio.to_thread(hashlib.pbkdf2_hmac, "sha256", secret, salt, _ROUNDS)
            scope = self._scopes[identity] = digest.hex()
        return scope
