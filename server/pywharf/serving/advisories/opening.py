"""Open the file of a compiled feed. The file is never written again: a newer feed replaces it."""

import mmap
import os
import weakref
from pathlib import Path

from pywharf.core.advisories.store import AdvisoryStore, BrokenStoreError, Place, place_of
from pywharf.core.advisories.store_format import TRAILER


def open_store(path: Path) -> AdvisoryStore:
    """Map the tables of a compiled feed into memory. Blocks for a moment. Raises OSError, BrokenStoreError.

    The file must lie on a local disk: a network volume may take away what is mapped, which would end the process.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        place = _place(fd)
        tables = mmap.mmap(fd, place.size, prot=mmap.PROT_READ, offset=place.begin)
        store = AdvisoryStore(memoryview(tables), place, lambda at, size: os.pread(fd, size, at))
    except BaseException as error:
        os.close(fd)
        if isinstance(error, ValueError) and not isinstance(error, BrokenStoreError):
            raise BrokenStoreError(f"it cannot be mapped ({error})") from error
        raise
    # Requests may still use it after it was replaced, so the last of them closes it.
    weakref.finalize(store, os.close, fd)
    return store


def digest_of(path: Path) -> bytes:
    """Return the digest of the tables that the file names. Raises OSError, BrokenStoreError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _place(fd).digest
    finally:
        os.close(fd)


def _place(fd: int) -> Place:
    size = os.fstat(fd).st_size
    return place_of(os.pread(fd, TRAILER.size, max(size - TRAILER.size, 0)), size)
