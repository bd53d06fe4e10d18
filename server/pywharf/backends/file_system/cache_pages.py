"""The pages of the pull-through cache, by key. Blocking; call it in a thread."""

import os
import time
from collections.abc import Callable, Container
from pathlib import Path

from pywharf.backends.file_system.cache_layout import entries, make_folder, path_of, replace, shards, unlink_if_there
from pywharf.disk.durable import open_fresh


class CachePages:
    """The kept pages of one cache. Any number of servers may use the folder concurrently."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder / "pages"
        self._clock = clock

    def read(self, key: str, most: int) -> bytes | None:
        """Return a page; None if it is missing or has more than `most` bytes."""
        try:
            with open_fresh(path_of(self._folder, key)) as file:
                content = file.read(most + 1) if os.fstat(file.fileno()).st_size <= most else None
        except FileNotFoundError:
            return None
        return None if content is None or len(content) > most else content

    def write(self, key: str, content: bytes, spool: Path) -> None:
        """Replace a page durably."""
        path = path_of(self._folder, key)
        make_folder(path.parent)
        replace(path, content, spool)

    def shards(self) -> list[str]:
        """Return what `remove_old` takes."""
        return shards(self._folder)

    def remove_old(self, shard: str, unused_for_s: float, but_for: Container[str]) -> int:
        """Remove the old pages of one shard, and return the bytes of those that are left."""
        left, newest = 0, self._clock() - unused_for_s
        for entry in entries(self._folder, shard):
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:  # removed meanwhile
                continue
            if status.st_mtime <= newest and entry.name not in but_for:
                unlink_if_there(entry.path)
            else:
                left += status.st_size
        return left
