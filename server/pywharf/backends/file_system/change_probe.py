"""Probe a file_system repo's journal and index for changes in few system calls.

The probe opens everything, folders first, because NFS revalidates its cache only on open.
"""

import os
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_CLOEXEC
_HEADER_BYTES = 64


class FolderProbe:
    """A probe of one repo's folder. Blocking; call it in a thread."""

    def __init__(self, folder: Path, storage: Path, staging: Path, journal: str, indexes: tuple[str, ...]) -> None:
        self._folder = str(folder)
        self._storage = str(storage)
        self._staging = str(staging)
        self._journal = journal
        self._indexes = indexes

    def __call__(self) -> object:
        """Return a value that compares equal to the previous one if nothing has changed. Raises OSError."""
        os.stat(self._staging)  # noqa: PTH116 - so that an emptied volume is noticed
        journal = self._probe_folder(self._folder, (self._journal,), _HEADER_BYTES)
        return journal, self._probe_folder(self._storage, self._indexes, 0)

    @staticmethod
    def _probe_folder(folder: str, names: tuple[str, ...], head: int) -> tuple[object, ...]:
        """Return a value for each file that differs for any later file of that name; None for a missing file."""
        opened = os.open(folder, _FOLDER)
        try:
            return tuple(_probe_file(name, opened, head) for name in names)
        finally:
            os.close(opened)


def _probe_file(name: str, folder: int, head: int) -> object:
    try:
        file = os.open(name, _FILE, dir_fd=folder)
    except FileNotFoundError:
        return None
    try:
        status = os.fstat(file)
        # Include the head: a journal's header changes when it restarts, and file system clocks are coarse.
        content = os.pread(file, head, 0) if head else b""
        return status.st_ino, status.st_mtime_ns, status.st_size, content
    finally:
        os.close(file)
