"""Locks of several servers, by create-if-absent: `locks/<name>`, with an end by the store's clock.

A lock's object says for how many seconds it holds after the store dated it. A server that finds one that has ended
replaces it by compare-and-swap, so exactly one gets it. A lock is removed only while nobody else may take it.
"""

import asyncio
import time
import uuid
from collections.abc import Callable

import msgspec
from cachetools import LRUCache

from pywharf.backends.object_store.cache_layout import CacheLayout, is_digest
from pywharf.backends.object_store.client import (
    Got,
    ObjectChangedError,
    ObjectClient,
    ObjectExistsError,
    ObjectMissingError,
    Version,
)
from pywharf.backends.object_store.store_clock import StoreClock
from pywharf.core.msgspec_warmup import warmed_up

MAX_LOCK_S = 86_400.0
"""Most seconds of a lock."""
_MARGIN_S = 2.0
"""Seconds that a lock holds beyond its end: dates may be whole seconds, and a store has several machines."""
_REMOVAL_S = 30.0
"""Seconds that a request to delete an object may take, repeated ones included."""
_LONGEST = 1024
_HELD = 65_536
_CONCURRENT = 16


@warmed_up
class _Lock(msgspec.Struct, frozen=True):
    owner: str
    """Random, so that a call knows its own object, and a store whose versions are digests never gives one twice."""
    seconds: float
    """0: it was released."""


class _Held(msgspec.Struct, frozen=True):
    version: Version
    until: float
    """Until when nobody else takes it, by this process's monotonic clock."""


class CacheLocks:
    """The locks of one bucket, and those that this process holds."""

    def __init__(
        self,
        client: ObjectClient,
        layout: CacheLayout,
        clock: StoreClock,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._layout = layout
        self._clock = clock
        self._monotonic = monotonic
        self._held: LRUCache[str, _Held] = LRUCache(_HELD)

    async def lock(self, name: str, seconds: float) -> bool:
        """See CacheStore.lock."""
        begun, seconds, content = self._lasting(seconds)
        version = await self._take(self._layout.lock(name), content)
        if version is None:
            return False
        self._held[name] = _Held(version, begun + seconds)
        return True

    async def extend(self, name: str, seconds: float) -> bool:
        """See CacheStore.extend. The object is replaced by compare-and-swap, and the store dates it again."""
        held = self._held.get(name)
        if held is None:
            return False
        begun, seconds, content = self._lasting(seconds)
        key = self._layout.lock(name)
        try:
            version = await self._client.replace(key, content, held.version)
        except ObjectChangedError:
            found = await self._get(key)
            if found is None or found.content != content:  # after a lost answer the object is one's own
                self._forget(name, held)
                return False
            version = found.stat.version
        if self._held.get(name) is not held:  # it was released meanwhile: the store refuses to replace what is gone
            return False
        self._held[name] = _Held(version, begun + seconds)
        return True

    async def unlock(self, name: str) -> None:
        """See CacheStore.unlock."""
        held = self._held.pop(name, None)
        if held is None:
            return
        if self._monotonic() + _REMOVAL_S < held.until:
            await self._client.delete([self._layout.lock(name)])
            return
        # A request to delete could reach the store when the lock is another's already; this one then changes nothing.
        try:
            await self._client.replace(
                self._layout.lock(name), msgspec.json.encode(_Lock(uuid.uuid4().hex, 0.0)), held.version
            )
        except ObjectChangedError:
            return

    def _lasting(self, seconds: float) -> tuple[float, float, bytes]:
        """Return when a lock of so many seconds begins, for how many it lasts at most, and its content."""
        seconds = min(max(0.0, seconds), MAX_LOCK_S)
        return self._monotonic(), seconds, msgspec.json.encode(_Lock(uuid.uuid4().hex, seconds))

    def _forget(self, name: str, held: _Held) -> None:
        if self._held.get(name) is held:
            del self._held[name]

    async def remove_ended(self) -> None:
        """Remove the locks that ended long ago, such as those of servers that were killed."""
        before = await self._clock.now() - MAX_LOCK_S - _MARGIN_S
        folder = self._layout.locks
        ended = [
            name
            async for page in self._client.pages(folder)
            for stat in page
            if stat.modified.timestamp() < before and is_digest(name := stat.key.removeprefix(f"{folder}/"))
        ]

        async def remove(name: str) -> None:
            # To remove a lock one must hold it.
            if await self.lock(name, 2 * _REMOVAL_S):
                await self.unlock(name)

        for start in range(0, len(ended), _CONCURRENT):
            await asyncio.gather(*(remove(name) for name in ended[start : start + _CONCURRENT]))

    async def _take(self, key: str, content: bytes) -> Version | None:
        """Take the lock with this content; return the version of its object, or None if another holds it."""
        try:
            return await self._client.create(key, content)
        except ObjectExistsError:
            found = await self._get(key)
        if found is not None and found.content != content and await self._has_ended(found):
            try:
                return await self._client.replace(key, content, found.stat.version)
            except ObjectChangedError:
                found = await self._get(key)
        # After a lost answer the object is one's own: the client sent the same request again.
        return found.stat.version if found is not None and found.content == content else None

    async def _get(self, key: str) -> Got | None:
        try:
            return await self._client.get(key, _LONGEST)
        except ObjectMissingError:
            return None  # released meanwhile: the caller asks again

    async def _has_ended(self, found: Got) -> bool:
        try:
            seconds = msgspec.json.decode(found.content, type=_Lock).seconds
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            seconds = MAX_LOCK_S  # not ours; a day is the longest that any lock may hold
        if seconds <= 0:
            return True
        end = found.stat.modified.timestamp() + min(seconds, MAX_LOCK_S) + _MARGIN_S
        return await self._clock.now() > end
