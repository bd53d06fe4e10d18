"""Count the wrong secrets of each client address at each repo, together with the other workers of this server.

The workers share memory of a fixed size. Each entry is one number: which address and repo it is about, and until when
its wrong secrets weigh (the generic cell rate algorithm, which needs no more). So nothing needs a lock, a worker that
dies leaves nothing to clean up, and two workers that write at the same moment lose one count at most.

A full table forgets the entry that weighs least. An entry that is forgotten, or that two addresses share, makes the
brake act later or earlier. It never refuses a right secret, because only wrong ones are counted and braked.
"""

import hashlib
import mmap
import os
import time
from collections.abc import Callable

from pywharf.core.addresses import site

_BURST = 60
"""Wrong secrets that are answered without a brake."""
_EVERY_CS = 100
"""Centiseconds after which one more is."""
_FULL_CS = _BURST * _EVERY_CS
_MOST_CS = _FULL_CS + 1000
"""Longest weight. A client that goes on sending wrong secrets is braked until 10 s after the last one."""

_BUCKETS = 8192
_WAYS = 4
"""Entries among which an address and repo may be."""
_BYTES = 8
_TIME_MASK = 0xFFFFFFFF


class WrongSecrets:
    """The wrong secrets of all clients, in memory shared with the processes forked from this one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._key = os.urandom(16)
        """Without it a client cannot find an address or repo that shares its entry."""
        self._entries = memoryview(mmap.mmap(-1, _BUCKETS * _WAYS * _BYTES)).cast("Q")

    def note(self, address: str, repo: str) -> float:
        """Count a wrong secret. Returns the seconds until the next one is answered without a brake; 0: this one is."""
        digest = hashlib.blake2b(f"{site(address)} {repo}".encode("utf-8", "replace"), key=self._key, digest_size=8)
        number = int.from_bytes(digest.digest())
        mark, first = number >> 32, number % _BUCKETS * _WAYS
        now = int(self._clock() * 100)
        at = max(range(first, first + _WAYS), key=lambda at: self._rank(at, mark, now))
        entry = self._entries[at]
        weight = self._weight(entry, now) if entry >> 32 == mark else 0
        weight = min(weight + _EVERY_CS, _MOST_CS)
        self._entries[at] = mark << 32 | (now + weight) & _TIME_MASK
        return max(weight - _FULL_CS, 0) / 100

    def _rank(self, at: int, mark: int, now: int) -> float:
        """Return how well an entry suits: the client's own, or else the one that weighs least."""
        entry = self._entries[at]
        return float("inf") if entry >> 32 == mark else -self._weight(entry, now)

    @staticmethod
    def _weight(entry: int, now: int) -> int:
        """Return for how many centiseconds an entry still weighs. The times wrap around after 497 days."""
        ahead = (entry - now) & _TIME_MASK
        return ahead if ahead <= _MOST_CS else 0
