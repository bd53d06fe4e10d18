"""The cache of rendered pages as bytes: files seldom change, so a page is built once for many requests."""

import asyncio
import contextlib
import gzip
import hashlib
import time
from collections.abc import Callable, Hashable
from math import inf

from cachetools import LRUCache

from pywharf.core.names import RepoName
from pywharf.index.fair_slots import FairSlots
from pywharf.index.single_flight import SingleFlight

_WORTH_COMPRESSING = 512
_IN_A_THREAD = 64 * 1024
"""Bytes above which compressing a body would hold up the event loop."""
_MAX_CONCURRENT_LARGE = 3
"""Large pages made concurrently, two of them of one repo, so that those of newer policies need not wait for older ones.

Each occupies a thread, which others wait for, and a multiple of its memory."""


class Page:
    """A body with its entity tags; its gzip form is made on first use.

    It is right from the Unix seconds `since` until just before `until`; infinite: whatever the time.
    """

    __slots__ = ("_gzipped", "body", "etag", "gzip_etag", "since", "until")

    def __init__(self, body: bytes, since: float = -inf, until: float = inf) -> None:
        digest = hashlib.sha256(body).hexdigest()[:32]
        self.body = body
        self.etag = f'"{digest}"'
        self.gzip_etag = f'"{digest}-gzip"'
        self.since = since
        self.until = until
        self._gzipped: bytes | None = None

    async def gzipped(self) -> bytes | None:
        """Return the body in gzip form, or None if it is too small to be worth compressing."""
        if len(self.body) < _WORTH_COMPRESSING:
            return None
        if self._gzipped is None:
            if len(self.body) > _IN_A_THREAD:
                self._gzipped = await asyncio.to_thread(_compress, self.body)
            else:
                self._gzipped = _compress(self.body)
        return self._gzipped

    def is_right_at(self, now: float) -> bool:
        """Return whether the page is right at a time, in Unix seconds."""
        return self.since <= now < self.until

    @property
    def weight(self) -> int:
        """Return the approximate bytes of memory that the page takes, including its gzip form."""
        return len(self.body) + len(self.body) // 4 + 512


def _compress(body: bytes) -> bytes:
    return gzip.compress(body, compresslevel=6, mtime=0)


class PageCache:
    """Pages by key. The least recently used ones are dropped once all take more than `max_bytes`.

    Each page was made from a source. If the current source compares unequal, or the time is outside the page's own,
    the page is made again.
    """

    def __init__(self, max_bytes: int, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._pages: LRUCache[Hashable, tuple[object, Page, int]] = LRUCache(max_bytes, lambda kept: kept[2])
        self._slots = FairSlots(_MAX_CONCURRENT_LARGE)
        self._making = SingleFlight[Hashable, Page]()

    def get(self, key: Hashable, source: object) -> Page | None:
        """Return the page if it was made from an equal source and is right now, otherwise None."""
        try:
            made_from, page, weight = self._pages[key]  # faster than `get`, in every request
        except KeyError:
            return None
        if page.until != inf and not page.since <= self._clock() < page.until:
            return None
        if made_from is not source:
            if made_from != source:
                return None
            # The next call then compares only identities. Comparing many projects takes longer than a whole request.
            self._pages[key] = (source, page, weight)
        return page

    def put(self, key: Hashable, source: object, page: Page, source_bytes: int = 0) -> None:
        """Cache a page, unless it alone is too large.

        `source_bytes` is the memory of its source that nothing else keeps.
        """
        self._pages.pop(key, None)
        with contextlib.suppress(ValueError):  # it is larger than the cache
            self._pages[key] = (source, page, page.weight + source_bytes)

    async def get_or_make(  # noqa: PLR0913 - what it is, and how it is made
        self,
        key: Hashable,
        source: object,
        make: Callable[[], Page],
        *,
        repo: RepoName,
        large: bool,
        source_bytes: int = 0,
    ) -> Page:
        """Return the page, made once for all concurrent callers. See `put`.

        A `large` one is made in a thread. Repos share these threads fairly.
        """
        page = self.get(key, source)
        if page is not None:
            return page
        if not large:
            page = make()
            self.put(key, source, page, source_bytes)
            return page
        return await self._making.run(key, lambda: self._make(key, source, make, repo, source_bytes), source)

    async def _make(
        self, key: Hashable, source: object, make: Callable[[], Page], repo: RepoName, source_bytes: int
    ) -> Page:
        async with self._slots.one(repo):
            page = await asyncio.to_thread(make)
        self.put(key, source, page, source_bytes)
        return page
