"""Check that a stored file is still the one whose digest is recorded, without reading it each time.

A stamp holds the inode and the modification time; copying another file over it changes one of them. If the stamp
differs, the content must be read: a volume restored from a backup has different inodes with the same content.
"""

import hashlib
import os
import threading
from typing import BinaryIO

from cachetools import FIFOCache

from pywharf.core.errors import BackendUnavailableError
from pywharf.core.model import File

_CHUNK = 1024 * 1024
_REMEMBERED = 16_384
_MAX_CONCURRENT = 4
"""Files read concurrently to check them, over all repos. Each one occupies a thread until it is read."""
_reading = threading.BoundedSemaphore(_MAX_CONCURRENT)


Status = tuple[int, int, int, int]
"""A file's inode, size, and the times of the last change of its content and of anything, in nanoseconds."""


def stamp_of(status: os.stat_result) -> str:
    """Return a text that differs if another file replaces this one, even one of the same size."""
    return f"{status.st_ino}:{status.st_mtime_ns}"


def status_of(status: os.stat_result) -> Status:
    """Return what differs after a file was changed or replaced."""
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def digest_of(opened: BinaryIO) -> str:
    """Return the SHA-256 of an open file's content as hex. Leaves the file at its start."""
    opened.seek(0)
    digest = hashlib.sha256()
    while chunk := opened.read(_CHUNK):
        digest.update(chunk)
    opened.seek(0)
    return digest.hexdigest()


class CheckedContents:
    """A cache of digests of files whose stamp differs from their record. Safe to use from several threads."""

    def __init__(self) -> None:
        self._known: FIFOCache[tuple[str, int], str] = FIFOCache(_REMEMBERED)
        self._lock = threading.Lock()

    def check(self, opened: BinaryIO, file: File) -> None:
        """Compare an open file with its record. Raises BackendUnavailableError if the content differs."""
        status = os.fstat(opened.fileno())
        stamp = stamp_of(status)
        if file.stamp is None or file.stamp == stamp:
            return
        if self._digest(opened, (stamp, status.st_size), file) != file.sha256:
            raise BackendUnavailableError(
                f"The file {file.filename!r} in the storage is not the one that the index names: its SHA-256 is "
                "another. Put the published file back, or run update_index."
            )

    def _digest(self, opened: BinaryIO, key: tuple[str, int], file: File) -> str:
        with self._lock:
            known = self._known.get(key)
        if known is not None:
            return known
        if not _reading.acquire(blocking=False):
            raise BackendUnavailableError(
                f"The file {file.filename!r} has to be read to check it, and others are read now; try again."
            )
        try:
            digest = digest_of(opened)
        finally:
            _reading.release()
        with self._lock:
            self._known[key] = digest
        return digest
