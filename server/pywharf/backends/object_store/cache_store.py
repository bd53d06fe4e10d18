"""The pull-through cache in a bucket, for any number of servers without a disk of their own."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from pywharf.backends.file_system.cache_spool import CacheSpool
from pywharf.backends.object_store.cache_files import CacheFiles
from pywharf.backends.object_store.cache_layout import CacheLayout
from pywharf.backends.object_store.cache_locks import CacheLocks
from pywharf.backends.object_store.cache_pins import CachePins
from pywharf.backends.object_store.client import ObjectClient, ObjectMissingError
from pywharf.backends.object_store.found_objects import UrlLife
from pywharf.backends.object_store.preconditions import try_preconditions
from pywharf.backends.object_store.store_clock import StoreClock
from pywharf.core.errors import BackendUnavailableError, StorageFullError
from pywharf.core.names import ProjectName, RepoName
from pywharf.core.os_errors import of_cache, translating
from pywharf.index.ports import About, Content, KeptFile, Pin
from pywharf.index.threads import CALL_S, on_storage

_LEFTOVER_S = 86_400.0
"""Seconds after which an upload in progress was interrupted."""
_LARGE_S = 300.0

T = TypeVar("T")


class BucketCache:
    """See CacheStore. Any number of servers may use one bucket concurrently. It connects with the first call."""

    def __init__(self, prefix: str, folder: Path, life: UrlLife | None, connect: Callable[[], ObjectClient]) -> None:
        """`folder` is on this machine: files are fetched there. Without a life of URLs, files are streamed."""
        self._layout = CacheLayout(prefix)
        self._spool = CacheSpool(folder)
        self._life = life
        self._connect = connect
        self._parts: _Parts | None = None
        self._opening = asyncio.Lock()

    @property
    def spool_folder(self) -> Path:
        return self._spool.path

    async def open(self, sha256: str) -> tuple[int, Content] | None:
        found = await (await self._open()).files.open(sha256)
        if found is None:
            await self._make_spool()
        return found

    async def keep(self, sha256: str, path: Path, about: About) -> None:
        await (await self._open()).files.keep(sha256, path, about)

    async def free_bytes(self) -> int | None:
        return None

    async def note_use(self, sha256: str) -> None:
        await (await self._open()).files.note_use(sha256)

    async def kept(self) -> AsyncIterator[Sequence[KeptFile]]:
        async for portion in (await self._open()).files.kept():
            yield portion

    async def remove(self, digests: Sequence[str]) -> None:
        await (await self._open()).files.remove(digests)

    async def abouts(self, digests: Sequence[str]) -> Mapping[str, About]:
        return await (await self._open()).files.abouts(digests)

    async def lock(self, name: str, seconds: float) -> bool:
        locks = (await self._open()).locks
        await self._make_spool()
        return await locks.lock(name, seconds)

    async def extend(self, name: str, seconds: float) -> bool:
        return await (await self._open()).locks.extend(name, seconds)

    async def unlock(self, name: str) -> None:
        await (await self._open()).locks.unlock(name)

    async def read_page(self, key: str, most: int) -> bytes | None:
        client = (await self._open()).client
        try:
            got = await client.get(self._layout.page(key), most)
        except ObjectMissingError:
            return None
        return got.content if got.stat.size <= most else None

    async def write_page(self, key: str, content: bytes) -> None:
        await (await self._open()).client.put(self._layout.page(key), content)

    async def remove_pages(self, unused_for_s: float, but_for: Container[str] = frozenset()) -> int:
        parts = await self._open()
        before = await parts.clock.now() - unused_for_s
        folder = self._layout.pages
        left = 0
        async for page in parts.client.pages(folder):
            old = []
            for stat in page:
                if stat.modified.timestamp() <= before and stat.key.removeprefix(f"{folder}/") not in but_for:
                    old.append(stat.key)
                else:
                    left += stat.size
            await parts.client.delete(old)
        return left

    async def remove_leftovers(self) -> None:
        parts = await self._open()
        await on_storage(_LARGE_S, self._on_disk(self._spool.remove_leftovers))
        before = await parts.clock.now() - _LEFTOVER_S
        async for page in parts.client.pages(self._layout.staging):
            await parts.client.delete([stat.key for stat in page if stat.modified.timestamp() < before])
        await parts.locks.remove_ended()

    async def pins(self, repo: RepoName) -> tuple[Pin, ...]:
        return await (await self._open()).pins.pins(repo)

    async def pinning_repos(self) -> tuple[RepoName, ...]:
        return await (await self._open()).pins.pinning_repos()

    async def pin(self, repo: RepoName, pin: Pin) -> None:
        await (await self._open()).pins.pin(repo, pin)

    async def unpin(self, repo: RepoName, project: ProjectName, filename: str) -> None:
        await (await self._open()).pins.unpin(repo, project, filename)

    async def aclose(self) -> None:
        with contextlib.suppress(BackendUnavailableError):
            await on_storage(CALL_S, self._on_disk(self._spool.close))
        if self._parts is not None:
            await self._parts.client.aclose()

    async def _open(self) -> "_Parts":
        """Return the parts. The first call connects, and tries out what the store promises."""
        if self._parts is not None:
            return self._parts
        async with self._opening:
            if self._parts is None:
                client = self._connect()
                await try_preconditions(client, self._layout.staging)
                clock = StoreClock(client, self._layout.staging)
                self._parts = _Parts(
                    client,
                    clock,
                    CacheFiles(client, self._layout, clock, self._life),
                    CacheLocks(client, self._layout, clock),
                    CachePins(client, self._layout),
                )
        return self._parts

    async def _make_spool(self) -> None:
        """Make the folder, again if somebody emptied the disk. On a full one, the caller learns that when it writes."""
        with contextlib.suppress(BackendUnavailableError, StorageFullError):
            await on_storage(CALL_S, self._on_disk(self._spool.make))

    @staticmethod
    def _on_disk(function: Callable[[], T]) -> Callable[[], T]:
        """Translate the errors of a call on this machine's disk."""

        def call() -> T:
            with translating(of_cache):
                return function()

        return call


class _Parts(msgspec.Struct, frozen=True):
    client: ObjectClient
    clock: StoreClock
    files: CacheFiles
    locks: CacheLocks
    pins: CachePins
