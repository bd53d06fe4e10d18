"""The pull-through cache in a folder, which several servers may share (see CacheStore).

What is read needs no right to write, so downloads go on while the disk is full or read-only.
"""

import contextlib
import logging
import shutil
import time
from collections.abc import AsyncIterator, Callable, Container, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

from cachetools import TTLCache

from pywharf.backends.file_system.cache_files import CacheFiles
from pywharf.backends.file_system.cache_locks import CacheLocks
from pywharf.backends.file_system.cache_pages import CachePages
from pywharf.backends.file_system.cache_pins import CachePins
from pywharf.backends.file_system.cache_spool import CacheSpool
from pywharf.core.errors import BackendUnavailableError, InvalidConfigError
from pywharf.core.names import ProjectName, RepoName
from pywharf.core.os_errors import of_cache, translating
from pywharf.index.ports import USE_GRANULARITY_S, About, Content, KeptFile, Pin
from pywharf.index.threads import CALL_S, BoundedCalls

_logger = logging.getLogger(__name__)
_MAX_CONCURRENT = 16
"""Concurrent calls. The limit leaves threads to the repos' own storages when the cache's volume answers slowly."""
_LARGE_S = 300.0
"""Seconds allowed for a call that syncs a large file or works on many."""
_PORTION = 500
"""Files that a listing reads in one call, some milliseconds during which requests wait for the interpreter."""
_REMOVED_TOGETHER = 50
_NOTED = 65536
"""Files whose use was noted lately, so that it need not be noted again."""
DEFAULT_FOLDER = "upstream-cache"

T = TypeVar("T")


class FileSystemCacheStore:
    """The folder of one cache, as one process uses it."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._files = CacheFiles(folder)
        self._pages = CachePages(folder, clock)
        self._pins = CachePins(folder)
        self._locks = CacheLocks(folder, clock)
        self._spool = CacheSpool(folder)
        self._calls = BoundedCalls(_MAX_CONCURRENT, "The pull-through cache")
        self._noted: TTLCache[str, None] = TTLCache(_NOTED, USE_GRANULARITY_S)

    @property
    def spool_folder(self) -> Path:
        return self._spool.path

    async def open(self, sha256: str) -> tuple[int, Content] | None:
        size = await self._reading(partial(self._size, sha256))
        return None if size is None else (size, self._files.content(sha256))

    async def keep(self, sha256: str, path: Path, about: About) -> None:
        await self._writing(lambda spool: self._files.keep(sha256, path, about, spool), _LARGE_S)

    async def free_bytes(self) -> int | None:
        return await self._reading(self._free_bytes)

    async def note_use(self, sha256: str) -> None:
        if sha256 in self._noted:
            return
        self._noted[sha256] = None
        try:
            await self._reading(partial(self._files.note_use, sha256))
        except BackendUnavailableError as error:  # a download goes on without it
            _logger.debug("The use of a kept file is not noted: %s", error)

    async def kept(self) -> AsyncIterator[Sequence[KeptFile]]:
        for shard in await self._reading(self._files.shards):
            found = self._files.scan(shard)
            try:
                while portion := await self._reading(partial(_next_files, found)):
                    yield portion
            finally:
                with contextlib.suppress(ValueError):  # a cancelled caller left a thread in it
                    found.close()

    async def abouts(self, digests: Sequence[str]) -> Mapping[str, About]:
        return await self._reading(partial(self._files.abouts, digests), _LARGE_S)

    async def remove(self, digests: Sequence[str]) -> None:
        for start in range(0, len(digests), _REMOVED_TOGETHER):
            portion = digests[start : start + _REMOVED_TOGETHER]
            await self._reading(partial(self._files.remove, portion), _LARGE_S)
            for digest in portion:
                self._noted.pop(digest, None)

    async def lock(self, name: str, seconds: float) -> bool:
        return await self._writing(lambda spool: self._locks.take(name, seconds, spool))

    async def extend(self, name: str, seconds: float) -> bool:
        return await self._writing(lambda spool: self._locks.extend(name, seconds, spool))

    async def unlock(self, name: str) -> None:
        await self._reading(partial(self._locks.release, name))

    async def read_page(self, key: str, most: int) -> bytes | None:
        return await self._reading(partial(self._pages.read, key, most))

    async def write_page(self, key: str, content: bytes) -> None:
        await self._writing(lambda spool: self._pages.write(key, content, spool))

    async def remove_pages(self, unused_for_s: float, but_for: Container[str] = frozenset()) -> int:
        left = 0
        for shard in await self._reading(self._pages.shards):
            left += await self._reading(partial(self._pages.remove_old, shard, unused_for_s, but_for), _LARGE_S)
        return left

    async def remove_leftovers(self) -> None:
        await self._reading(self._spool.remove_leftovers, _LARGE_S)
        await self._reading(self._locks.remove_ended, _LARGE_S)

    async def pins(self, repo: RepoName) -> tuple[Pin, ...]:
        return await self._reading(partial(self._pins.of, repo))

    async def pinning_repos(self) -> tuple[RepoName, ...]:
        return await self._reading(self._pins.repos, _LARGE_S)

    async def pin(self, repo: RepoName, pin: Pin) -> None:
        await self._writing(lambda spool: self._pins.pin(repo, pin, spool))

    async def unpin(self, repo: RepoName, project: ProjectName, filename: str) -> None:
        await self._writing(lambda spool: self._pins.unpin(repo, project, filename, spool))

    async def aclose(self) -> None:
        with contextlib.suppress(BackendUnavailableError):
            await self._reading(self._spool.close)

    def _size(self, sha256: str) -> int | None:
        size = self._files.size(sha256)
        if size is None:
            # The caller is about to fetch it. On a full or read-only disk, it learns that when it writes.
            with contextlib.suppress(OSError):
                self._spool.make()
        return size

    def _free_bytes(self) -> int | None:
        try:
            return shutil.disk_usage(self._folder).free
        except FileNotFoundError:  # nothing was written yet
            return None

    async def _reading(self, function: Callable[[], T], seconds: float = CALL_S) -> T:
        """Run a call that works without a spool folder in a thread."""

        def call() -> T:
            with translating(of_cache):
                return function()

        return await self._calls.run(seconds, call)

    async def _writing(self, function: Callable[[Path], T], seconds: float = CALL_S) -> T:
        """Run a call with the spool folder, which exists, in a thread."""

        def call() -> T:
            with translating(of_cache):
                return function(self._spool.make())

        return await self._calls.run(seconds, call)


def _next_files(found: Iterator[KeptFile]) -> list[KeptFile]:
    return [*islice(found, _PORTION)]


def open_folder(given: str | None, root: Path) -> FileSystemCacheStore:
    """Open the cache's folder, by default one of ROOT. Raises InvalidConfigError for one that others use."""
    if given is None:
        return FileSystemCacheStore(root / DEFAULT_FOLDER)
    if "\0" in given:
        raise InvalidConfigError(f"--cache_config: folder {given[:300]!r} is no path.")
    folder, others = Path(given).absolute().resolve(), root.absolute().resolve()
    if others.is_relative_to(folder) or any(folder.is_relative_to(others / own) for own in ("cache", "sessions")):
        raise InvalidConfigError(
            f"--cache_config: folder {given[:300]!r} holds, or lies among, the packages and sessions of ROOT; give the "
            "cache a folder of its own."
        )
    if any(above.exists() and not above.is_dir() for above in (folder, *folder.parents)):
        raise InvalidConfigError(f"--cache_config: folder {given[:300]!r} is, or lies below, a file; name a folder.")
    return FileSystemCacheStore(folder)
