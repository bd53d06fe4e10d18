"""What a file system repo's journal and index look like, in few system calls.

All is opened, folders first, because NFS looks again only then.
"""

import os
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_CLOEXEC
_HEADER_BYTES = 64


class FolderGlance:
    """Blocking; call it in a thread."""

    def __init__(self, folder: Path, storage: Path, staging: Path, journal: str, indexes: tuple[str, ...]) -> None:
        self._folder = str(folder)
        self._storage = str(storage)
        self._staging = str(staging)
        self._journal = journal
        self._indexes = indexes

    def __call__(self) -> object:
        """Equal where nothing changed. Raises OSError."""
        os.stat(self._staging)  # noqa: PTH116 - so that whoever empties a volume is noticed
        journal = self._looks(self._folder, (self._journal,), _HEADER_BYTES)
        return journal, self._looks(self._storage, self._indexes, 0)

    @staticmethod
    def _looks(folder: str, names: tuple[str, ...], head: int) -> tuple[object, ...]:
        """Of each file what tells it from any later one; None where there is none."""
        opened = os.open(folder, _FOLDER)
        try:
            return tuple(_look(name, opened, head) for name in names)
        finally:
            os.close(opened)


def _look(name: str, folder: int, head: int) -> object:
    try:
        file = os.open(name, _FILE, dir_fd=folder)
    except FileNotFoundError:
        return None
    try:
        status = os.fstat(file)
        # The head, because a journal says there that it begins anew; the clock of a file system is coarse.
        content = os.pread(file, head, 0) if head else b""
        return status.st_ino, status.st_mtime_ns, status.st_size, content
    finally:
        os.close(file)
