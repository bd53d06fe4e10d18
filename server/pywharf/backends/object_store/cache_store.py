"""The pull-through cache in a bucket, for any number of servers without a disk of their own."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import msgspec

from pywharf.backends.object_store.cache_files import CacheFiles
from pywharf.backends.object_store.cache_layout import CacheLayout
from pywharf.backends.object_store.cache_locks import CacheLocks
from pywharf.backends.object_store.cache_pins import CachePins
from pywharf.backends.object_store.client import ObjectClient, ObjectMissingError
from pywharf.backends.object_store.found_objects import UrlLife
from pywharf.backends.object_store.preconditions import try_preconditions
from pywharf.backends.object_store.store_clock import StoreClock
from pywharf.core.names import ProjectName, RepoName
from pywharf.index.ports import About, Content, KeptFile, Pin
from pywharf.index.threads import CALL_S, on_storage

_LEFTOVER_S = 86_400.0
"""Seconds after which an upload in progress was interrupted."""
_BATCH = 1000


class BucketCache:
    """See CacheStore. Any number of servers may use one bucket concurrently. It connects with the first call."""

    def __init__(
        self, prefix: str, spool_folder: Path, life: UrlLife | None, connect: Callable[[], ObjectClient]
    ) -> None:
        self._layout = CacheLayout(prefix)
        self._spool = spool_folder
        self._life = life
        self._connect = connect
        self._parts: _Parts | None = None
        self._opening = asyncio.Lock()

    @property
    def spool_folder(self) -> Path:
        return self._spool

    async def open(self, sha256: str) -> tuple[int, Content] | None:
        return await (await self._open()).files.open(sha256)

    async def keep(self, sha256: str, path: Path, about: About) -> None:
        await (await self._open()).files.keep(sha256, path, about)

    async def note_use(self, sha256: str) -> None:
        await (await self._open()).files.note_use(sha256)

    async def kept(self) -> AsyncIterator[Sequence[KeptFile]]:
        async for portion in (await self._open()).files.kept():
            yield portion

    async def remove(self, digests: Sequence[str]) -> None:
        await (await self._open()).files.remove(digests)

    async def lock(self, name: str, seconds: float) -> bool:
        return await (await self._open()).locks.lock(name, seconds)

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

    async def remove_pages(self, unused_for_s: float) -> None:
        """See CacheStore.remove_pages. What killed servers left behind is removed, too."""
        parts = await self._open()
        now = await parts.clock.now()
        await self._remove_before(parts.client, self._layout.pages, now - unused_for_s)
        await self._remove_before(parts.client, self._layout.staging, now - _LEFTOVER_S)
        await parts.locks.remove_ended()

    async def pins(self, repo: RepoName) -> tuple[Pin, ...]:
        return await (await self._open()).pins.pins(repo)

    async def all_pins(self) -> dict[RepoName, tuple[Pin, ...]]:
        return await (await self._open()).pins.all_pins()

    async def pin(self, repo: RepoName, pin: Pin) -> None:
        await (await self._open()).pins.pin(repo, pin)

    async def unpin(self, repo: RepoName, project: ProjectName, filename: str) -> None:
        await (await self._open()).pins.unpin(repo, project, filename)

    async def aclose(self) -> None:
        if self._parts is not None:
            await self._parts.client.aclose()

    async def _open(self) -> "_Parts":
        """Return the parts. The first call connects, and tries out what the store promises."""
        if self._parts is not None:
            return self._parts
        async with self._opening:
            if self._parts is None:
                await on_storage(CALL_S, self._make_spool)
                client = self._connect()
                await try_preconditions(client, self._layout.staging)
                clock = StoreClock(client, self._layout.staging)
                self._parts = _Parts(
                    client,
                    clock,
                    CacheFiles(client, self._layout, clock, self._life),
                    CacheLocks(client, self._layout.locks, clock),
                    CachePins(client, self._layout),
                )
        return self._parts

    def _make_spool(self) -> None:
        self._spool.mkdir(parents=True, exist_ok=True)

    @staticmethod
    async def _remove_before(client: ObjectClient, folder: str, before: float) -> None:
        """Remove the objects of a folder that were written before that time, in batches."""
        old: list[str] = []
        async for page in client.pages(folder):
            old.extend(stat.key for stat in page if stat.modified.timestamp() < before)
            if len(old) >= _BATCH:
                await client.delete(old)
                old.clear()
        await client.delete(old)


class _Parts(msgspec.Struct, frozen=True):
    client: ObjectClient
    clock: StoreClock
    files: CacheFiles
    locks: CacheLocks
    pins: CachePins
