"""Read and write kept pages in the cache's store. Nobody waits for a write, because a store may be slow."""

import asyncio
import logging

from pywharf.core.errors import PywharfError
from pywharf.core.names import ProjectName
from pywharf.index.ports.cache_store import CacheStore
from pywharf.index.upstream.kept_page import MAX_BYTES, KeptPage, decode, encode, key_of
from pywharf.index.upstream.scopes import Scopes
from pywharf.index.upstream.source import Identity

_logger = logging.getLogger(__name__)
_MAX_CONCURRENT_WRITES = 8
_CLOSE_S = 5.0
"""Seconds for the writes under way when the server stops."""

PageID = tuple[Identity, ProjectName]
"""A page's source, with what it is read with, and its project."""


class PageStore:
    """The kept pages in a store."""

    def __init__(self, store: CacheStore, scopes: Scopes) -> None:
        self._store = store
        self._writing: dict[PageID, asyncio.Task[PywharfError | None]] = {}
        self._slots = asyncio.Semaphore(_MAX_CONCURRENT_WRITES)
        self._scopes = scopes

    async def key(self, page_id: PageID) -> str:
        """Return the page's key in the store."""
        identity, name = page_id
        return key_of(identity[0], await self._scopes.of(identity), name)

    async def read(self, page_id: PageID) -> KeptPage | None:
        """Return the kept page, or None. A store that fails holds none: the index is asked then."""
        identity, name = page_id
        try:
            content = await self._store.read_page(await self.key(page_id), MAX_BYTES)
        except PywharfError as error:
            _logger.warning("The cache's page of %s cannot be read: %s", name, error)
            return None
        return None if content is None else await asyncio.to_thread(decode, content, identity[0], name)

    def write(self, page_id: PageID, page: KeptPage) -> None:
        """Begin to write a page, after the writing of an older one."""
        self._writing[page_id] = asyncio.create_task(self._write(page_id, page, self._writing.get(page_id)))

    async def written(self, page_id: PageID) -> None:
        """Wait until the page is written. Raises StorageFullError, BackendUnavailableError."""
        writing = self._writing.get(page_id)
        if writing is not None:
            await asyncio.wait([writing])
            error = writing.result()
            if error is not None:
                raise error

    async def aclose(self) -> None:
        """Let the pages that are being written reach the store, for a limited time."""
        if self._writing:
            _, late = await asyncio.wait(self._writing.values(), timeout=_CLOSE_S)
            for task in late:
                task.cancel()

    async def _write(
        self, page_id: PageID, page: KeptPage, before: asyncio.Task[PywharfError | None] | None
    ) -> PywharfError | None:
        if before is not None:
            await asyncio.wait([before])
        try:
            async with self._slots:
                content = await asyncio.to_thread(encode, page_id[0][0], page)
                if content is not None:
                    await self._store.write_page(await self.key(page_id), content)
        except PywharfError as error:
            _logger.warning("The page of %s is not kept: %s", page_id[1], error)
            return error
        finally:
            if self._writing.get(page_id) is asyncio.current_task():
                del self._writing[page_id]
        return None
