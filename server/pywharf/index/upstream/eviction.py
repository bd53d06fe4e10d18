"""PURE. Decide which kept files are removed: those that were used least recently, and never a pinned one.

A million files are planned in the memory of a few. The first listing of all files adds up what was last used in which
period (`Census`), from which follows the last period whose files must go; the second one chooses them (`Eviction`). A
period is short beside the granularity with which uses are noted.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence

from pywharf.index.ports import KeptFile

PERIOD_S = 600.0
_MOST_PERIODS = 366 * 144
"""Periods that are counted separately, a year of them. Older files count as that old."""
_DIGITS = 16
_UNSORTED = 100_000
"""Pinned files that may wait to be sorted."""


class PinnedFiles:
    """The digests of pinned files, eight bytes each. Of 10^9 files, one might be taken for a pinned one."""

    def __init__(self) -> None:
        self._numbers = array("Q")
        self._sorted = 0
        """How many of the numbers, all of them different, are sorted: all, or those before the last `add`."""

    def add(self, digests: Iterable[str]) -> None:
        """Add files; those that are there already are ignored."""
        self._numbers.extend(int(digest[:_DIGITS], 16) for digest in digests)
        if len(self._numbers) > 2 * self._sorted + _UNSORTED:
            self._sort()

    def _sort(self) -> None:
        self._numbers = array("Q", sorted(set(self._numbers)))
        self._sorted = len(self._numbers)

    def __contains__(self, digest: object) -> bool:
        if not self._numbers or not isinstance(digest, str):
            return False
        if self._sorted < len(self._numbers):
            self._sort()
        number = int(digest[:_DIGITS], 16)
        at = bisect_left(self._numbers, number)
        return at < len(self._numbers) and self._numbers[at] == number


class Census:
    """What a listing of all kept files has found so far."""

    def __init__(self, pinned: PinnedFiles, now: float) -> None:
        self._pinned = pinned
        self._newest = int(now // PERIOD_S)
        self.files = 0
        self.size = 0
        """Bytes of all files."""
        self.by_period: dict[int, int] = {}
        """Bytes of the files that are not pinned, by the period of their last use."""

    def add(self, portion: Sequence[KeptFile]) -> None:
        """Add listed files."""
        for file in portion:
            self.files += 1
            self.size += file.size
            if file.sha256 not in self._pinned:
                period = self.period(file)
                self.by_period[period] = self.by_period.get(period, 0) + file.size

    def period(self, file: KeptFile) -> int:
        """Return the period of a file's last use. One in the future, by a wrong clock, counts as now."""
        period = int(file.last_used // PERIOD_S)
        return min(self._newest, max(period, self._newest - _MOST_PERIODS))

    def eviction(self, target: int) -> "Eviction | None":
        """Return what chooses files until `target` bytes are left; None if not more are kept."""
        excess = self.size - target
        if excess <= 0:
            return None
        for period in sorted(self.by_period):
            if self.by_period[period] >= excess:
                return Eviction(self, self._pinned, period, excess)
            excess -= self.by_period[period]
        return Eviction(self, self._pinned, self._newest + 1, 0)


class Eviction:
    """The choice of the files to remove from a second listing."""

    def __init__(self, census: Census, pinned: PinnedFiles, last: int, excess: int) -> None:
        self._census = census
        self._pinned = pinned
        self._last = last
        """The period of whose files some must go. Of earlier periods all go."""
        self._excess = excess
        """Bytes that must go of that period."""

    def choose(self, portion: Sequence[KeptFile]) -> list[KeptFile]:
        """Return those of the listed files that are to be removed. Each file may be asked about once."""
        return [file for file in portion if file.sha256 not in self._pinned and self._must_go(file)]

    def _must_go(self, file: KeptFile) -> bool:
        period = self._census.period(file)
        if period != self._last:
            return period < self._last
        if self._excess <= 0:
            return False
        self._excess -= file.size
        return True
