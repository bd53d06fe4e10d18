"""The files of the pull-through cache in a bucket: an object for each, addressed by its content.

Beside it lie an object that says where the file came from, and one that is written when the file is used, at most once
an hour by each process. The store dates them, so a list alone tells which files were used least recently.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path

import msgspec
from cachetools import LRUCache

from pywharf.backends.object_store.cache_layout import CacheLayout, ListedFile
from pywharf.backends.object_store.client import ObjectClient, ObjectExistsError, ObjectMissingError
from pywharf.backends.object_store.file_uploads import FileUploads
from pywharf.backends.object_store.found_objects import Found, FoundObjects, UrlLife
from pywharf.backends.object_store.store_clock import StoreClock
from pywharf.core.errors import BackendUnavailableError, StorageFullError
from pywharf.index.ports import USE_GRANULARITY_S, About, Content, KeptFile
from pywharf.index.single_flight import SingleFlight
from pywharf.index.threads import CALL_S, on_storage

_logger = logging.getLogger(__name__)
_FOUND_S = 60.0
"""Seconds for which a file that was found counts as there, although another server may have removed it."""
_NOTED = 65_536
"""Files whose last noted use is remembered."""
_RETRY_S = 60.0
"""Seconds after which a use is noted again that could not be noted."""
_LEFTOVER_S = 3600.0
"""Seconds after which notes without a file belong to none that is being kept."""
_MAX_ABOUT_BYTES = 64 * 1024
_CONCURRENT = 16


class CacheFiles:
    """The kept files of one bucket."""

    def __init__(
        self,
        client: ObjectClient,
        layout: CacheLayout,
        clock: StoreClock,
        life: UrlLife | None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._layout = layout
        self._clock = clock
        self._monotonic = monotonic
        self._uploads = FileUploads(client, layout.staging)
        self._found = FoundObjects(client, life, _FOUND_S, monotonic)
        self._finding: SingleFlight[str, Found | None] = SingleFlight()
        self._noted: LRUCache[str, float] = LRUCache(_NOTED)

    async def open(self, sha256: str) -> tuple[int, Content] | None:
        """See CacheStore.open."""
        found = self._found.known(sha256) or await self._finding.run(sha256, lambda: self._find(sha256))
        return None if found is None else (found.size, found.content)

    async def _find(self, sha256: str) -> Found | None:
        """Ask the store. Many clients ask for one file concurrently when it is new, or no longer counts as there."""
        try:
            return await self._found.find(sha256, self._layout.file(sha256), _removed)
        except ObjectMissingError:
            return None

    async def keep(self, sha256: str, path: Path, about: About) -> None:
        """See CacheStore.keep."""
        size = (await on_storage(CALL_S, path.stat)).st_size
        # First, so that a file has it as soon as it is there.
        await self._client.put(self._layout.about(sha256), msgspec.json.encode(about))
        key = self._layout.file(sha256)
        async with self._uploads.staged(path, size) as staged:
            try:
                await self._uploads.create(key, path, staged)
            except ObjectExistsError:
                # Another server's, or one's own after a lost answer. One of another size is somebody's mistake.
                if not await self._has_size(key, size):
                    await self._client.delete([key])
                    await self._uploads.create(key, path, staged)
        self._found.forget(sha256)
        self._noted[sha256] = self._monotonic()

    async def note_use(self, sha256: str) -> None:
        """See CacheStore.note_use."""
        now = self._monotonic()
        if now - self._noted.get(sha256, float("-inf")) < USE_GRANULARITY_S:
            return
        self._noted[sha256] = now
        try:
            await self._client.put(self._layout.used(sha256), b"used")
        except (BackendUnavailableError, StorageFullError) as error:  # a download goes on without it
            _logger.debug("The use of a kept file is not noted: %s", error)
            self._noted[sha256] = now - USE_GRANULARITY_S + _RETRY_S

    async def kept(self) -> AsyncIterator[Sequence[KeptFile]]:
        """See CacheStore.kept. Notes that no file has are removed on the way."""
        before = await self._clock.now() - _LEFTOVER_S
        async for portion in self._listed():
            leftovers = [file for file in portion if file.size is None and file.last_written < before]
            await self._client.delete([key for file in leftovers for key in file.notes])
            if kept := [file.kept for file in portion if file.kept is not None]:
                yield kept

    async def _listed(self) -> AsyncIterator[list[ListedFile]]:
        """Yield the objects of all files. Those of one file may begin on one page of the list and end on the next."""
        last: ListedFile | None = None
        async for page in self._client.pages(self._layout.files):
            for_now: list[ListedFile] = []
            for file in self._layout.parse_files(page):
                if last is not None and last.sha256 == file.sha256:
                    last.add(file)
                    continue
                if last is not None:
                    for_now.append(last)
                last = file
            yield for_now
        if last is not None:
            yield [last]

    async def remove(self, digests: Sequence[str]) -> None:
        """See CacheStore.remove. Notes are removed first, so that a crash leaves none without its file.

        After an error, no removal is still under way when it is raised: the caller may release its lock.
        """

        async def remove(sha256: str) -> None:
            self._found.forget(sha256)
            self._noted.pop(sha256, None)
            await self._client.delete([self._layout.about(sha256), self._layout.used(sha256)])
            await self._client.delete([self._layout.file(sha256)])
            self._found.forget(sha256)  # found meanwhile

        for start in range(0, len(digests), _CONCURRENT):
            some = [remove(sha256) for sha256 in digests[start : start + _CONCURRENT]]
            for result in await asyncio.gather(*some, return_exceptions=True):
                if isinstance(result, BaseException):
                    raise result

    async def abouts(self, digests: Sequence[str]) -> Mapping[str, About]:
        """See CacheStore.abouts. It costs a request for each."""
        found: dict[str, About] = {}
        for start in range(0, len(digests), _CONCURRENT):
            some = digests[start : start + _CONCURRENT]
            read = zip(some, await asyncio.gather(*map(self._about, some)), strict=True)
            found |= {sha256: about for sha256, about in read if about is not None}
        return found

    async def _about(self, sha256: str) -> About | None:
        try:
            got = await self._client.get(self._layout.about(sha256), _MAX_ABOUT_BYTES)
            return msgspec.json.decode(got.content, type=About)
        except (ObjectMissingError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None

    async def _has_size(self, key: str, size: int) -> bool:
        try:
            return (await self._client.head(key)).size == size
        except ObjectMissingError:
            return False


def _removed() -> BackendUnavailableError:
    error = BackendUnavailableError("The file was removed from the cache while it was read; fetch it again.")
    error.retry_after_s = 1
    return error
