"""What tells the workers of one server that a repo has a new upload, before the upload is answered.

The workers share a machine, so they share memory: a number for each repo, which is another one after each upload. Who
shows a page compares the number with the one it saw last and, where it differs, looks at the storage first. That takes
no lock and no answer of anybody, costs a page nothing that can be measured, and a worker that dies leaves nothing to
tidy up.
"""

import mmap
import os
import zlib

_SLOTS = 4096
"""Repos that share one cause each other to look at the storage once more, and nothing else."""
_BYTES = 8


class Generation:
    """One repo's number."""

    __slots__ = ("_numbers", "_slot")

    def __init__(self, numbers: memoryview, slot: int) -> None:
        self._numbers = numbers
        self._slot = slot

    def current(self) -> int:
        """The number of now. Whoever saw it before it read the storage knows whatever was noted under it."""
        number: int = self._numbers[self._slot]
        return number

    def renew(self) -> None:
        """Make it another number, once what others are to see lies in the storage.

        It is random instead of the next one: of two workers that renew it at once either number may stay, and both are
        ones that nobody has seen.
        """
        self._numbers[self._slot] = int.from_bytes(os.urandom(_BYTES))


class Generations:
    """The numbers of all repos, in memory that processes forked from this one share."""

    def __init__(self) -> None:
        self._numbers = memoryview(mmap.mmap(-1, _SLOTS * _BYTES)).cast("Q")

    def of(self, repo: str) -> Generation:
        """The number of one repo, the same in every process."""
        return Generation(self._numbers, zlib.crc32(repo.encode()) % _SLOTS)
