"""Write to a file system so that a crash at any byte leaves either the old or the new state."""

import contextlib
import ctypes
import errno
import fcntl
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from pywharf.core.errors import BackendUnavailableError

LOCK_S = 20.0
"""Seconds to wait for a lock. A lock is held for milliseconds; a longer holder is stopped or gone with its machine."""
_FIRST_LOCK_AGAIN_S, _LOCK_AGAIN_S = 0.0002, 0.005
"""Seconds between two attempts to lock: at first, and at most. Most holders need less than a millisecond."""
_NO_CALL = {errno.ENOSYS, errno.EPERM}
"""Errors by which a kernel or a container's filter refuses a system call."""
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}


def fsync_folder(folder: Path) -> None:
    """Make renames and links in `folder` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def fsync_file(path: Path) -> os.stat_result:
    """Make a file's content durable, and return the file's status."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
        return os.fstat(fd)
    finally:
        os.close(fd)


def sync_group(folder: Path, paths: Iterable[Path]) -> None:
    """Make the content of many files in `folder` durable.

    One call writes what the folder's whole file system has not written yet, other writers' files included. For more
    than a few files that takes less time than syncing each. Where the call is missing, each is synced.
    """
    try:
        syncfs = ctypes.CDLL(None, use_errno=True).syncfs
    except (OSError, AttributeError):
        syncfs = None
    if syncfs is not None:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if syncfs(fd) == 0:
                return
            code = ctypes.get_errno()
        finally:
            os.close(fd)
        if code not in _NO_CALL:
            raise OSError(code, os.strerror(code))
    for path in paths:
        fsync_file(path)


class SharedSync:
    """Syncs of one growing file. Threads that wait for one at the same time share it."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._is_running = False
        self._asked = 0
        self._done = 0

    def sync(self, fd: int) -> None:
        """Make everything durable that was written before the call. Raises OSError."""
        with self._condition:
            self._asked += 1
            mine = self._asked
            while self._is_running:
                self._condition.wait()
            if self._done >= mine:
                return
            self._is_running = True
            most = self._asked
        try:
            os.fdatasync(fd)
        except BaseException:
            most = 0  # the others sync through their own descriptors, which report the same error
            raise
        finally:
            with self._condition:
                self._done = max(self._done, most)
                self._is_running = False
                self._condition.notify_all()


def open_fresh(path: Path, opener: Callable[[str, int], int] | None = None) -> BinaryIO:
    """Open a file to read. NFS caches that a file is missing for up to a minute, unless the folder is opened, too."""
    try:
        return open(path, "rb", opener=opener)
    except FileNotFoundError:
        os.close(os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY))
        return open(path, "rb", opener=opener)


def is_current(fd: int, path: Path) -> bool:
    """Return whether the open file is still the file at `path`. Opens `path`, because NFS does not cache an opening."""
    try:
        other = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return os.path.samestat(os.fstat(fd), os.fstat(other))
    finally:
        os.close(other)


def write_temporary(folder: Path, content: bytes, *, durably: bool = True) -> Path:
    """Write a new hidden file in `folder`, and return its path. A failure leaves nothing behind."""
    path = folder / f".{uuid.uuid4().hex}.tmp"
    try:
        with path.open("xb") as file:
            file.write(content)
            file.flush()
            if durably:
                os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def write_atomically(path: Path, content: bytes) -> os.stat_result:
    """Replace the file at `path`, and return the new file's status."""
    temporary = write_temporary(path.parent, content)
    try:
        status = temporary.stat()
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)
    return status


def place_new(staged: str | Path, final: str | Path, lock: Path) -> None:
    """Give the staged file its final name. Raises FileExistsError, and changes nothing, if that name is taken.

    `lock` serializes writers if the volume has no hard links.
    """
    try:
        os.link(staged, final)
    except FileExistsError:
        # On NFS this also happens if the link was made but the reply was lost, so that the client sent it again.
        if not Path(staged).samefile(final):
            raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        with locked(lock):
            if Path(final).exists():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from error
            Path(staged).rename(final)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock that other processes, and on NFS other machines, respect. A crash frees it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        lock(fd)
        yield
    finally:
        os.close(fd)


def lock(fd: int) -> None:
    """Lock an open file until it is closed. Raises BackendUnavailableError if another holder keeps the lock."""
    end = time.monotonic() + LOCK_S
    pause = _FIRST_LOCK_AGAIN_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise kept_locked() from None
            time.sleep(pause)
            pause = min(2 * pause, _LOCK_AGAIN_S)
        else:
            return


def kept_locked() -> BackendUnavailableError:
    """Return the error for a lock that does not become free."""
    return BackendUnavailableError(f"Another writer has kept this repo's storage locked for {LOCK_S:.0f} seconds.")
