"""The files of the pull-through cache, by digest. Blocking; call it in a thread."""

import os
import stat
from collections.abc import Generator, Sequence
from pathlib import Path

import msgspec

from pywharf.backends.file_system.cache_layout import entries, make_folder, path_of, replace, shards, unlink_if_there
from pywharf.core.msgspec_warmup import warmed_up
from pywharf.disk.durable import fsync_file, fsync_folder, open_fresh, place_new
from pywharf.index.ports import About, KeptFile

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
        """Return a kept file's size, or None. It is opened: NFS remembers that a file was missing."""
        try:
            with open_fresh(self.path(sha256)) as file:
                return os.fstat(file.fileno()).st_size
        except FileNotFoundError:
            return None

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
            if final.stat().st_size != status.st_size:
                staged.replace(final)  # the other one is torn
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
