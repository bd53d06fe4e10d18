"""The files of the pull-through cache, by digest. Blocking; call it in a thread."""

import os
import stat
from collections.abc import Generator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

import msgspec

from pywharf.backends.file_system.cache_layout import entries, make_folder, path_of, replace, shards, unlink_if_there
from pywharf.core.errors import BackendUnavailableError
from pywharf.core.msgspec_warmup import warmed_up
from pywharf.disk.durable import fsync_file, fsync_folder, open_fresh, place_new
from pywharf.index.ports import About, KeptFile, LocalContent

_MAX_ABOUT_BYTES = 16 * 1024
warmed_up(About)


class CacheFiles:
    """The kept files of one cache. Any number of servers may use the folder concurrently."""

    def __init__(self, folder: Path) -> None:
        self._files = folder / "files"
        self._abouts = folder / "about"
        self._lock = folder / "lock"

    def path(self, sha256: str) -> Path:
        """Return the path that a file has if it is kept."""
        return path_of(self._files, sha256)

    def size(self, sha256: str) -> int | None:
        """Return a kept file's size, or None. It is opened: NFS remembers that a file was missing.

        What is no regular file was put there by somebody else. A link could lead to any file of this machine, and a
        named pipe would block the thread.
        """
        path = self.path(sha256)
        try:
            with open_fresh(path, lambda name, flags: os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK)) as file:
                status = os.fstat(file.fileno())
        except FileNotFoundError:
            return None
        except OSError:
            if _is_regular(path):
                raise
            return None
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def content(self, sha256: str) -> LocalContent:
        """Return the content of a file that is kept."""
        path = self.path(sha256)
        return LocalContent(path, partial(_check, path))

    def keep(self, sha256: str, staged: Path, about: About, spool: Path) -> None:
        """Keep a staged file durably (see CacheStore). Raises OSError."""
        final, described = self.path(sha256), path_of(self._abouts, sha256)
        status = fsync_file(staged)
        make_folder(final.parent)
        make_folder(described.parent)
        # First, so that no file is kept without it. It is not synced: nothing is decided by it.
        replace(described, msgspec.json.encode(about), spool, durably=False)
        try:
            place_new(staged, final, self._lock)
        except FileExistsError:
            found = final.lstat()
            if not stat.S_ISREG(found.st_mode) or found.st_size != status.st_size:
                staged.replace(final)  # the other one is torn, or somebody else's
        except BaseException:
            if not final.exists():
                unlink_if_there(described)
            raise
        fsync_folder(final.parent)
        os.utime(final)
        unlink_if_there(staged)

    def note_use(self, sha256: str) -> None:
        """Set the time of a file's last use to now, by the volume's own clock."""
        os.utime(self.path(sha256))

    def shards(self) -> list[str]:
        """Return what `scan` takes."""
        return shards(self._files)

    def scan(self, shard: str) -> Generator[KeptFile, None, None]:
        """Yield the kept files of one shard."""
        for entry in entries(self._files, shard):
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:  # removed meanwhile
                continue
            if stat.S_ISREG(status.st_mode):
                yield KeptFile(entry.name, status.st_size, status.st_mtime)

    def abouts(self, digests: Sequence[str]) -> dict[str, About]:
        """Return where files came from, as far as that is known."""
        return {digest: about for digest in digests if (about := self._about(digest)) is not None}

    def remove(self, digests: Sequence[str]) -> None:
        """Remove files; missing ones are ignored."""
        for digest in digests:
            unlink_if_there(self.path(digest))
            unlink_if_there(path_of(self._abouts, digest))

    def _about(self, digest: str) -> About | None:
        try:
            with path_of(self._abouts, digest).open("rb") as file:
                return msgspec.json.decode(file.read(_MAX_ABOUT_BYTES), type=About)
        except FileNotFoundError:
            return None
        except (msgspec.MsgspecError, UnicodeDecodeError):  # a power cut may empty it
            return None


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:
        return False


def _check(path: Path, opened: BinaryIO) -> None:
    """Raise BackendUnavailableError if the file that was opened is not the kept one, but one that a link led to."""
    if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode) or path.is_symlink():
        raise BackendUnavailableError("The cache's folder holds something that is no kept file; it is fetched again.")
