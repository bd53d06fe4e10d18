"""Which indexes fail, and since when."""

import time
from collections.abc import Callable, Iterable

import msgspec
from cachetools import LRUCache

from pywharf.core.reports import FailingSource

_MAX_SOURCES = 4_096
_RECENT_S = 600.0
"""Seconds after its last failure for which an index counts as failing, although nobody asks it any longer."""
PAUSE_S = 15.0
"""Seconds after a failure or a slow answer for which nobody waits for the index who can be given a kept page."""


class _Failing(msgspec.Struct):
    since: float
    last: float


class SourceHealth:
    """The indexes that fail, by URL. An answer ends a failure, whatever it says."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._failing: LRUCache[str, _Failing] = LRUCache(_MAX_SOURCES)
        self._paused: LRUCache[str, float] = LRUCache(_MAX_SOURCES)
        """Until when nobody waits for an index, in Unix seconds."""

    def failed(self, url: str) -> None:
        """Note that the index did not answer, or with what is no page."""
        now = self._clock()
        self._paused[url] = now + PAUSE_S
        failing = self._failing.get(url)
        if failing is None:
            self._failing[url] = _Failing(now, now)
        else:
            failing.last = now

    def slow(self, url: str) -> None:
        """Note that somebody gave up waiting for the index, which may still answer."""
        self._paused[url] = self._clock() + PAUSE_S

    def answered(self, url: str) -> None:
        """Note that the index answered."""
        self._failing.pop(url, None)
        self._paused.pop(url, None)

    def is_paused(self, url: str) -> bool:
        """Return whether the index failed or was slow a moment ago, so that nobody should wait who need not."""
        return 0 < self._paused.get(url, 0.0) - self._clock() <= PAUSE_S

    def failing(self, urls: Iterable[str]) -> tuple[FailingSource, ...]:
        """Return those of the indexes that failed lately, and have answered nothing since."""
        now = self._clock()
        found = ((url, self._failing.get(url)) for url in dict.fromkeys(urls))
        return tuple(
            FailingSource(url, max(0, int(one.since)), max(0, int(one.last)))
            for url, one in found
            if one is not None and now - one.last < _RECENT_S
        )
