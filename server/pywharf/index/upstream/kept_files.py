"""Files of other indexes: kept once they were fetched and verified, and streamed while they are fetched."""

import asyncio
import contextlib
import logging
import time
from contextlib import AbstractContextManager
from functools import partial
from types import TracebackType
from typing import Final, Self

import msgspec
from cachetools import LRUCache

from pywharf.core.errors import BusyError, NotFoundError, PywharfError
from pywharf.core.model import File
from pywharf.core.names import ProjectName
from pywharf.index.ports.cache_store import USE_GRANULARITY_S, CacheStore
from pywharf.index.ports.packages import Content, LocalContent
from pywharf.index.ports.served_content import CachedContent, FetchableContent, GrowingContent, ServedContent
from pywharf.index.threads import within
from pywharf.index.upstream.file_fetch import Fetching, FileFetch, NoRoom
from pywharf.index.upstream.file_fetching import FileCounts, FileFetcher
from pywharf.index.upstream.first_digests import FirstDigests
from pywharf.index.upstream.kept_metadata import KeptMetadata, Lately
from pywharf.index.upstream.passing_through import passed_through
from pywharf.index.upstream.scopes import Scopes
from pywharf.index.upstream.source import Source
from pywharf.index.upstream.spool import Spool
from pywharf.index.upstream.spool_room import SpoolRoom
from pywharf.index.upstream.wanted_file import WantedFile

_logger = logging.getLogger(__name__)
MAX_FILE_BYTES: Final = 5 * 1024 * 1024 * 1024
"""The most bytes of a file for a repo without a limit of its own."""
_REMEMBERED = 8192
"""Kept files that are found without asking the store."""
_STORE_S = 5.0
"""Seconds for a question to the store, so that a broken one only slows downloads."""
_STORE_AGAIN_S = 10.0
"""Seconds for which a store that failed is not asked again."""
_ATTEMPTS = 3


class _Seen(msgspec.Struct, gc=False):
    """A kept file on this machine."""

    size: int
    content: LocalContent
    noted: float
    """Monotonic seconds when its use was last noted."""


class KeptFiles:
    """The files of other indexes, for all repos of one worker. Use it as an async context.

    A file is identified by its digest alone, so repos share it. The caller has decided that the client may have it.
    """

    def __init__(  # noqa: PLR0913 - its parts
        self,
        store: CacheStore,
        fetcher: FileFetcher,
        counts: FileCounts,
        *,
        scopes: Scopes,
        max_spool_bytes: int,
        finishing: AbstractContextManager[object] | None = None,
    ) -> None:
        """Prepare it. `finishing` is entered while a complete file is moved into the store."""
        self._store = store
        self._counts = counts
        self._first = FirstDigests(store, scopes)
        self._metadata = KeptMetadata(store, fetcher, counts)
        self._fetching = Fetching(
            store,
            fetcher,
            counts,
            SpoolRoom(max_spool_bytes),
            self._first,
            self._find,
            contextlib.nullcontext() if finishing is None else finishing,
        )
        self._fetcher = fetcher
        self._seen: LRUCache[str, _Seen] = LRUCache(_REMEMBERED)
        self._fetches: dict[tuple[str, Source, int], tuple[FileFetch, asyncio.Task[None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._ask_again = 0.0
        """Monotonic seconds before which the store is not asked, because it failed."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the fetches that are under way."""
        for task in (tasks := list(self._tasks)):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def known(self, source: Source, project: ProjectName, file: File) -> File:
        """Return the record with the digest of the first fetch, if the other index says none and the file was fetched.

        A record with a digest is returned as it is. Without one, `sha256` is empty until the file was fetched once.
        """
        return file if file.sha256 else await self._first.known(source, project, file)

    async def open(
        self, source: Source, project: ProjectName, file: File, *, max_bytes: int = MAX_FILE_BYTES
    ) -> ServedContent:
        """Open a file. What is not kept is fetched when the content's bytes are asked for.

        Parameters:
            source: The index whose page lists the file.
            project: The file's project.
            file: The record on that page; `location` is the file's address.
            max_bytes: The most bytes that are fetched.
        """
        if not file.sha256:
            file = await self._first.known(source, project, file)
        wanted = WantedFile(source, project, file, max_bytes)
        fetchable = FetchableContent(file.size, partial(self._begin, wanted))
        seen = self._seen.get(file.sha256)
        if seen is None:
            found = await self._find(wanted) if file.sha256 else None
            if found is None:
                return fetchable
            seen = self._seen.get(file.sha256)
            if seen is None:  # not on this machine
                self._counts.found(file.size or 0)
                self._note_use(file.sha256)
                return found
        if file.size is not None and seen.size != file.size:
            return fetchable
        self._counts.found(seen.size)
        self._note_use(file.sha256, seen)
        return CachedContent(seen.content, fetchable)

    async def metadata(self, source: Source, project: ProjectName, file: File) -> bytes:
        """Return a file's core metadata, verified. Raises NotFoundError, UpstreamError."""
        sha256 = file.metadata_sha256 or ""
        found = self._metadata.lately(sha256)
        if found is not None:
            self._note_use(sha256, found)
            return found.content
        return await self._metadata.read(WantedFile(source, project, file, MAX_FILE_BYTES))

    async def keep(self, source: Source, project: ProjectName, file: File, *, max_bytes: int = MAX_FILE_BYTES) -> None:
        """Fetch a file and its core metadata unless they are kept, and wait until they are.

        Raises NotFoundError, UpstreamError, StorageFullError, BackendUnavailableError.
        """
        file = await self.known(source, project, file)
        wanted = WantedFile(source, project, file, max_bytes)
        self._ask_again = 0.0
        if file.sha256 and await self._find(wanted) is not None:
            with contextlib.suppress(PywharfError):
                await self._store.note_use(file.sha256)
        else:
            _, task = self._fetch(wanted)
            await asyncio.wait([task])
            task.result()
        await self._metadata.keep(wanted)

    async def _begin(self, wanted: WantedFile) -> Content | GrowingContent:
        """Return the content with bytes to send. See FetchableContent."""
        self._counts.missed()
        self._seen.pop(wanted.sha256, None)
        for _ in range(_ATTEMPTS):
            fetch, task = self._fetch(wanted)
            begun = await fetch.begun()
            if isinstance(begun, NoRoom):
                self._counts.passed_through("no room")
                return passed_through(self._fetcher, wanted, self._counts, begun.size)
            if not isinstance(begun, Spool):
                return begun
            with contextlib.suppress(FileNotFoundError):  # it was just moved into the store, or removed
                return GrowingContent(await begun.open(), begun.size, begun.ready)
            await asyncio.wait([task])
            if begun.failure is not None:
                raise begun.failure
            wanted = msgspec.structs.replace(wanted, file=await self.known(wanted.source, wanted.project, wanted.file))
            if (found := await self._find(wanted)) is not None:
                return found
        raise BusyError(f"The cache could not keep {wanted.file.filename!r} so far; try again in some seconds.")

    def _fetch(self, wanted: WantedFile) -> tuple[FileFetch, asyncio.Task[None]]:
        """Return the fetch of the file that is under way, or a new one."""
        key = wanted.flight
        running = self._fetches.get(key)
        if running is None:
            fetch = FileFetch(wanted, self._fetching)
            task = asyncio.create_task(fetch.run(), name=f"fetch {wanted.file.filename}")
            running = self._fetches[key] = (fetch, task)
            self._tasks.add(task)
            task.add_done_callback(lambda task: self._ended(key, wanted, task))
        return running

    def _ended(self, key: tuple[str, Source, int], wanted: WantedFile, task: asyncio.Task[None]) -> None:
        self._fetches.pop(key, None)
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            if not isinstance(error, PywharfError):
                _logger.error("The fetch of %s ended", wanted.file.filename, exc_info=error)
            elif not isinstance(error, NotFoundError):
                _logger.warning("%s was not fetched into the cache: %s", wanted.file.filename, error)

    async def _find(self, wanted: WantedFile) -> Content | None:
        """Return what the store keeps; None if it has none, or fails. A file of another size counts as damaged."""
        if time.monotonic() < self._ask_again:
            return None
        digest = wanted.sha256
        try:
            async with within(_STORE_S, "The cache's storage"):
                found = await self._store.open(digest) if digest else None
                if found is None:
                    return None
                size, content = found
                if wanted.file.size is not None and size != wanted.file.size:
                    return None
        except PywharfError as error:
            self._ask_again = time.monotonic() + _STORE_AGAIN_S
            _logger.warning("The cache's storage does not answer; files are fetched again: %s", error)
            return None
        if isinstance(content, LocalContent):
            self._seen[digest] = _Seen(size, content, -USE_GRANULARITY_S * 2)
        return content

    def _note_use(self, sha256: str, seen: _Seen | Lately | None = None) -> None:
        """Note in the store that a file is used, unless that was lately `seen`."""
        if seen is not None:
            now = time.monotonic()
            if now - seen.noted <= USE_GRANULARITY_S:
                return
            seen.noted = now
        task = asyncio.create_task(self._noted(sha256))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _noted(self, sha256: str) -> None:
        with contextlib.suppress(PywharfError):
            await self._store.note_use(sha256)
