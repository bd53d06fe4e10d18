"""The cache of a storage's answers about clients' own secrets, keyed by digests so that no secret is kept."""

import asyncio
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
from cachetools import FIFOCache

from pywharf.core.access.permission import Permission
from pywharf.core.errors import RateLimitedError
from pywharf.index.ports import Authority
from pywharf.index.single_flight import SingleFlight
from pywharf.serving.refusals import Refusals

_KEPT = 10_000
_REFUSED_S = 30.0
"""Seconds for which a refusal is cached; short, so that a right just granted counts soon."""
_MAX_CONCURRENT_REQUESTS = 4


class _Grant(msgspec.Struct, frozen=True):
    permission: Permission
    asked_at: float


class PermissionCache:
    """The cached permissions of one repo. Concurrent questions about one secret share one request."""

    def __init__(
        self,
        authority: Authority,
        read_expires_s: float,
        write_expires_s: float,
        clock: Callable[[], float] = time.monotonic,
        refusals: Refusals | None = None,
    ) -> None:
        self._authority = authority
        self._lives_s = {
            Permission.NONE: _REFUSED_S,
            Permission.READ: read_expires_s,
            Permission.WRITE: write_expires_s,
        }
        self._clock = clock
        self._refusals = refusals or Refusals(clock)
        self._key = secrets.token_bytes(32)
        self._granted: FIFOCache[bytes, _Grant] = FIFOCache(_KEPT)
        """Includes expired grants: their secrets are asked about again, however many wrong ones were sent."""
        self._refused: FIFOCache[bytes, _Grant] = FIFOCache(_KEPT)
        """Kept separately, so that wrong secrets do not evict right ones."""
        self._asking = SingleFlight[bytes, Permission]()
        self._slots = asyncio.Semaphore(_MAX_CONCURRENT_REQUESTS)

    def is_plausible(self, secret: str) -> bool:
        """Return whether a text has the form of a secret that the storage may know."""
        return self._authority.is_plausible(secret)

    async def permission(self, secret: str, needed: Permission, address: str = "") -> Permission:
        """Return what the client at that address may do. A text that cannot be a secret of the storage costs nothing.

        Raises UnavailableError if the permission is not known and the storage cannot be asked now.
        """
        if not self._authority.is_plausible(secret):
            return Permission.NONE
        digest = hmac.digest(self._key, secret.encode("utf-8", "surrogateescape"), hashlib.sha256)
        kept = self._granted.get(digest) or self._refused.get(digest)
        if kept is not None and self._clock() < kept.asked_at + self._life_s(kept.permission, needed):
            return kept.permission
        return await self._asking.run(digest, lambda: self._begin(digest, secret, address))

    def _life_s(self, granted: Permission, needed: Permission) -> float:
        """Return the seconds for which a cached answer is valid for `needed`.

        A writer's read access is cached for the read lifetime. An answer of less than `needed` counts as a refusal.
        """
        return self._lives_s[needed] if granted >= needed else _REFUSED_S

    def _check(self, digest: bytes, address: str) -> None:
        """Raise RateLimitedError if the storage may not be asked about an unknown secret now."""
        wait = self._refusals.wait_s(address)
        if wait > 0 and digest not in self._granted:
            raise RateLimitedError(
                "Too many wrong secrets were sent from your address; try again in a minute.", int(wait) + 1
            )

    def _begin(self, digest: bytes, secret: str, address: str) -> Coroutine[Any, Any, Permission]:
        """Prepare to ask the storage. Raises RateLimitedError immediately, where `_ask` would first wait for a slot."""
        self._check(digest, address)
        return self._ask(digest, secret, address)

    async def _ask(self, digest: bytes, secret: str, address: str) -> Permission:
        async with self._slots:
            self._check(digest, address)
            asked_at = self._clock()
            permission = await self._authority.permission_of(secret)
        self._granted.pop(digest, None)
        self._refused.pop(digest, None)
        if permission is Permission.NONE:
            self._refusals.note(address, self._clock() - asked_at)
        kept = self._refused if permission is Permission.NONE else self._granted
        kept[digest] = _Grant(permission, asked_at)
        return permission


class Nobody:
    """The stand-in for the storage of a repo that does not exist or has its own secrets: refuses, equally slowly."""

    def __init__(self, refusals: Refusals, plausible: Callable[[str], bool]) -> None:
        self._refusals = refusals
        self._plausible = plausible

    def is_plausible(self, secret: str) -> bool:
        """Return whether a text may be a secret of a storage; see Authority."""
        return self._plausible(secret)

    async def permission_of(self, secret: str) -> Permission:
        """Refuse, after as long as a storage takes; see Authority."""
        del secret
        await asyncio.sleep(self._refusals.usual_s)
        return Permission.NONE
