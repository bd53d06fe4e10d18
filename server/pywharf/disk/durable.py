"""Writing to a file system so that a crash at any byte leaves the old or the new state."""

import contextlib
import errno
import fcntl
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pywharf.core.errors import BackendUnavailableError, StorageFullError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
LOCK_S = 20.0
"""A lock is held for milliseconds. Whoever holds it longer is stopped or gone with its machine."""
_LOCK_AGAIN_S = 0.005
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn the operating system's errors into the application's. Paths stay out of the message: clients see it."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFullError(
                "The storage is full; nothing of this was kept. Free some room or enlarge the volume."
            ) from error
        reason = error.strerror or type(error).__name__
        raise BackendUnavailableError(f"The storage of this repo cannot be used now: {reason}.") from error


def fsync_folder(folder: Path) -> None:
    """Make renames and links in `folder` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def fsync_file(path: Path) -> None:
    """Make a file's content durable."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def open_fresh(path: Path) -> BinaryIO:
    """Open a file to read. NFS remembers that there was none for up to a minute, unless the folder is opened, too."""
    try:
        return path.open("rb")
    except FileNotFoundError:
        os.close(os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY))
        return path.open("rb")


def is_current(fd: int, path: Path) -> bool:
    """Whether the open file is what `path` names now; by opening that, which NFS remembers nothing of."""
    try:
        other = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return os.path.samestat(os.fstat(fd), os.fstat(other))
    finally:
        os.close(other)


def write_temporary(folder: Path, content: bytes) -> Path:
    """A new hidden file in `folder` with that content, durable; nothing is left where it fails."""
    path = folder / f".{uuid.uuid4().hex}.tmp"
    try:
        with path.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def write_atomically(path: Path, content: bytes) -> os.stat_result:
    """Replace `path`; gives the new file's status."""
    temporary = write_temporary(path.parent, content)
    try:
        status = temporary.stat()
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)
    return status


def place_new(staged: Path, final: Path, lock: Path) -> None:
    """Give the staged file its final name, which must be free. Raises FileExistsError and then changes nothing.

    `lock` serializes writers where the volume has no hard links.
    """
    try:
        os.link(staged, final)
    except FileExistsError:
        # On NFS also where it was done and the answer was lost on its way, so that it was done again.
        if not os.path.samestat(staged.stat(), final.stat()):
            raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        with locked(lock):
            if final.exists():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from error
            staged.rename(final)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock that other processes, and on NFS other machines, respect; freed by a crash."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        lock(fd)
        yield
    finally:
        os.close(fd)


def lock(fd: int) -> None:
    """Lock an open file until it is closed. Raises BackendUnavailableError where somebody else keeps it."""
    end = time.monotonic() + LOCK_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise kept_locked() from None
            time.sleep(_LOCK_AGAIN_S)
        else:
            return


def kept_locked() -> BackendUnavailableError:
    """The error for a lock that does not become free."""
    return BackendUnavailableError(f"Another writer has kept this repo's storage locked for {LOCK_S:.0f} seconds.")
