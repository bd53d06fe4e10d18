"""Remove the pages of the pull-through cache that are no longer served, never those of pinned files."""

import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable

from pywharf.index.ports import About, CacheStore
from pywharf.index.upstream.eviction import PinnedFiles

_PART = 0.25
"""The part of the cache's limit that pages may take."""
_AGE_S = 6 * 3600.0
"""Seconds between two removals of old pages."""
_FIRST_S = 3600.0
"""Seconds from the start to the first of them."""
_START_S = 600.0
"""Seconds after the start in which no page is removed: not all repos say yet which pages they have pinned."""
_SLACK_S = 86400.0
"""Seconds that a page's file outlives the page: not every confirmation writes it."""
_YOUNGEST_S = 600.0
_ANY_AGE_S = 1e10
_ABOUTS = 500
"""Pinned files of which it is read at one time where they came from."""


class PageUpkeep:
    """The removal of one cache's pages by one worker."""

    def __init__(  # noqa: PLR0913 - its parts
        self,
        store: CacheStore,
        max_bytes: int,
        keep_pages_s: float,
        *,
        pinned_keys: Callable[[], AsyncIterator[Iterable[str]]],
        keys_of: Callable[[About], Iterable[str]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Prepare it.

        `pinned_keys` yields the keys of the pages that the served repos have pinned, `keys_of` the keys of those that
        belong to a file by where it came from, whether its repo is served or not.
        """
        self._store = store
        self._most_bytes = max_bytes * _PART
        self._keep_pages_s = keep_pages_s
        self._pinned_keys = pinned_keys
        self._keys_of = keys_of
        self._clock = clock
        self._began_at = clock()
        self._removed_at = self._began_at - _AGE_S + _FIRST_S

    async def remove(self, but_for: Collection[str]) -> int:
        """Remove old pages, and younger ones as long as all take too many bytes. Returns the bytes that are left."""
        now = self._clock()
        left = await self._store.remove_pages(_ANY_AGE_S, but_for)
        is_due = now >= self._removed_at + _AGE_S
        if now < self._began_at + _START_S or (left <= self._most_bytes and not is_due):
            return left
        stay = await self._pages_of_pins()
        stay.add(but_for)
        age_s = self._keep_pages_s + _SLACK_S
        left = await self._store.remove_pages(age_s, stay)
        while left > self._most_bytes and age_s > _YOUNGEST_S:
            age_s /= 2
            left = await self._store.remove_pages(age_s, stay)
        self._removed_at = now
        return left

    async def _pages_of_pins(self) -> PinnedFiles:
        keys = PinnedFiles()
        async for some in self._pinned_keys():
            keys.add(some)
        for repo in await self._store.pinning_repos():
            digests = [pin.sha256 for pin in await self._store.pins(repo)]
            for start in range(0, len(digests), _ABOUTS):
                abouts = await self._store.abouts(digests[start : start + _ABOUTS])
                keys.add(key for about in abouts.values() for key in self._keys_of(about))
        return keys
