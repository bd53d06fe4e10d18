"""The folder in which a process fetches files for the pull-through cache, and those that killed ones left. Blocking.

A process locks `spool/<process>.lock` as long as it lives. Another one that can lock this file knows that the process has
ended, on this machine or, over NFS, on another.
"""

import contextlib
import fcntl
import os
import shutil
import threading
import uuid
from pathlib import Path

from pywharf.backends.file_system.cache_layout import make_folder, unlink_if_there
from pywharf.disk.durable import is_current, lock

_SUFFIX = ".lock"


class CacheSpool:
    """The spool folder of one process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "spool"
        self.path = self._folder / uuid.uuid4().hex
        self._lock_path = self.path.with_name(self.path.name + _SUFFIX)
        self._fd: int | None = None
        self._making = threading.Lock()

    def make(self) -> Path:
        """Make the folder, again if somebody emptied the volume, and return its path."""
        if self._fd is None or not self.path.is_dir():
            with self._making:
                self._make()
        return self.path

    def remove_leftovers(self) -> None:
        """Remove the folders of processes that have ended."""
        if not self._folder.is_dir():
            return
        for lock_path in self._folder.glob(f"*{_SUFFIX}"):
            if lock_path == self._lock_path:
                continue
            with contextlib.suppress(FileNotFoundError):  # another process removed it
                fd = os.open(lock_path, os.O_RDWR)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(lock_path.with_suffix(""), ignore_errors=True)
                    unlink_if_there(lock_path)
                except BlockingIOError:
                    pass  # its process lives
                finally:
                    os.close(fd)

    def close(self) -> None:
        """Remove the folder. Idempotent."""
        with self._making:
            if self._fd is None:
                return
            shutil.rmtree(self.path, ignore_errors=True)
            with contextlib.suppress(OSError):
                unlink_if_there(self._lock_path)
            os.close(self._fd)
            self._fd = None

    def _make(self) -> None:
        make_folder(self._folder)
        while self._fd is None or not is_current(self._fd, self._lock_path):
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None
            fd = os.open(self._lock_path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                # Another process may hold it for a moment, as a leftover, and remove it.
                lock(fd)
            except BaseException:
                os.close(fd)
                raise
            self._fd = fd
        self.path.mkdir(exist_ok=True)
