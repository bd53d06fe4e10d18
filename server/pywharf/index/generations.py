"""Notify the workers of one server that a repo has a new upload, before the upload is answered.

The workers share a machine, so they share memory: one number for each repo, which changes after each upload. A worker
that serves a page compares the number with the one it saw last. If it differs, the worker reads the storage first.
This needs no lock and no response from another worker, and costs a page nothing measurable. A worker that dies leaves
nothing to clean up.
"""

import mmap
import os
import zlib

_SLOTS = 4096
"""Numbers in shared memory. Repos that share one make each other read the storage once more, and nothing else."""
_BYTES = 8


class Generation:
    """The number of one repo."""

    __slots__ = ("_numbers", "_slot")

    def __init__(self, numbers: memoryview, slot: int) -> None:
        self._numbers = numbers
        self._slot = slot

    def current(self) -> int:
        """Return the current number. A read of the storage after this call includes every upload noted under it."""
        number: int = self._numbers[self._slot]
        return number

    def renew(self) -> None:
        """Change the number. Call this once the upload that others are to see is in the storage.

        The new number is random, not the next one. If two workers renew it concurrently, either number may stay, and
        nobody has seen either.
        """
        self._numbers[self._slot] = int.from_bytes(os.urandom(_BYTES))


class Generations:
    """The numbers of all repos, in memory shared with the processes forked from this one."""

    def __init__(self) -> None:
        self._numbers = memoryview(mmap.mmap(-1, _SLOTS * _BYTES)).cast("Q")

    def of(self, repo: str) -> Generation:
        """Return the number of one repo, the same in every process."""
        return Generation(self._numbers, zlib.crc32(repo.encode()) % _SLOTS)
