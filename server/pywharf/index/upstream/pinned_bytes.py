"""The bytes that all repos of one cache have pinned together: bounded, so that some is left for what is not pinned."""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Final

from pywharf.core.errors import PinsFullError
from pywharf.index.ports.cache_store import CacheStore, Pin
from pywharf.index.upstream.eviction import PinnedFiles

_PARTS: Final = (3, 4)
"""All repos together may pin three quarters of the cache's bytes."""
_FRESH_S: Final = 30.0
"""Seconds for which what was read counts. Other workers and servers may pin as much more meanwhile as they fetch."""
_AGAIN_S: Final = 1.0
"""The same before a pin is refused: somebody may have made room."""


class PinnedBytes:
    """The pinned bytes of all repos, as one worker knows them. A file that several repos have pinned counts once."""

    def __init__(self, store: CacheStore, max_bytes: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._most = max_bytes * _PARTS[0] // _PARTS[1]
        self._monotonic = monotonic
        self._read_at = -float("inf")
        self._pinned = PinnedFiles()
        self._added: set[str] = set()
        """What was taken since the pins were read."""
        self._bytes = 0
        self._reading = asyncio.Lock()

    async def check(self, sha256: str, size: int) -> None:
        """Raise PinsFullError if there is no room for a pin of that file. Raises BackendUnavailableError."""
        async with self._reading:
            await self._check(sha256, size)

    async def take(self, sha256: str, size: int) -> None:
        """Count a file that is about to be pinned. Raises as `check`."""
        async with self._reading:
            if await self._check(sha256, size):
                self._added.add(sha256)
                self._bytes += size

    def changed(self) -> None:
        """Note that pins were removed, or not added, so that they are read before they are used again."""
        self._read_at = -float("inf")

    async def _check(self, sha256: str, size: int) -> bool:
        """Return whether the file takes room that it does not have yet."""
        for seconds in (_FRESH_S, _AGAIN_S):
            await self._read_if_older(seconds)
            if sha256 in self._added or sha256 in self._pinned:
                return False
            if self._bytes + size <= self._most:
                return True
        raise PinsFullError(
            f"All repos together have pinned {self._bytes} bytes, and this file has {size}; they may pin three "
            f"quarters of the cache's bytes, {self._most}. Remove pins with prefetch --unpin, or give the cache more "
            "maxBytes."
        )

    async def _read_if_older(self, seconds: float) -> None:
        if self._monotonic() - self._read_at < seconds:
            return
        pinned, size = PinnedFiles(), 0
        for repo in await self._store.pinning_repos():
            size += await asyncio.to_thread(_add, pinned, await self._store.pins(repo))
        self._pinned, self._bytes = pinned, size
        self._added.clear()
        self._read_at = self._monotonic()


def _add(pinned: PinnedFiles, pins: Iterable[Pin]) -> int:
    """Add a repo's pins; return the bytes of those that no repo before it has pinned."""
    new = {pin.sha256: pin.size for pin in pins if pin.sha256 not in pinned}
    pinned.add(new)
    return sum(new.values())
