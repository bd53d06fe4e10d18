"""The extra index: project lookups, cached for a minute."""

import asyncio
import contextlib
import time
from contextlib import AbstractAsyncContextManager
from typing import Protocol
from urllib.parse import urljoin

import msgspec
from cachetools import TTLCache

from pywharf.core.errors import UpstreamError
from pywharf.core.model import Project
from pywharf.core.names import ProjectName
from pywharf.index.single_flight import SingleFlight
from pywharf.index.upstream.pages import ACCEPT, parse_page_to_show

_FRESH_S = 60.0
_MAX_FILES_KEPT = 200_000
_NOT_FOUND = {404, 410}
_OK = 200

_Key = tuple[str, ProjectName]
"""The other index's URL, and the project."""


class FetchedPage(msgspec.Struct, frozen=True):
    """A complete HTTP response."""

    status: int
    content_type: str
    content: bytes
    url: str
    """The page's URL after redirects; its links are relative to it."""


class Fetcher(Protocol):
    """An HTTP client that reads pages, bounded in time and size."""

    def fetch(self, url: str, accept: str) -> AbstractAsyncContextManager[FetchedPage]:
        """Fetch a page. A large page holds one of a few slots until the context ends.

        Raises UpstreamError, or UpstreamTimeoutError if the request took too long.
        """


class ExtraIndex:
    """The project pages of other indexes, cached for a minute."""

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher
        self._kept: TTLCache[_Key, Project | None, float] = TTLCache(_MAX_FILES_KEPT, _FRESH_S, time.monotonic, _weight)
        self._running = SingleFlight[_Key, Project | None]()

    async def project(self, index_url: str, name: ProjectName) -> Project | None:
        """Return the project's page, or None if that index has none. Concurrent callers share one request.

        Raises UpstreamError.
        """
        key = (index_url, name)
        with contextlib.suppress(KeyError):  # not `get`, which raises it, too, if the entry expires meanwhile
            return self._kept[key]
        return await self._running.run(key, lambda: self._fetch(key))

    async def _fetch(self, key: _Key) -> Project | None:
        try:
            project = await self._look_up(key)
        except UpstreamError as error:
            # Drop the traceback and cause: they would keep a page of many megabytes until the next garbage collection.
            failure = type(error)(str(error))
        else:
            with contextlib.suppress(ValueError):  # it is larger than the cache
                self._kept[key] = project
            return project
        raise failure

    async def _look_up(self, key: _Key) -> Project | None:
        index_url, name = key
        url = urljoin(index_url.rstrip("/") + "/", f"{name}/")
        async with self._fetcher.fetch(url, ACCEPT) as page:
            return await _read(name, page)


async def _read(name: ProjectName, page: FetchedPage) -> Project | None:
    if page.status in _NOT_FOUND:
        return None
    if page.status != _OK:
        raise UpstreamError(f"The extra index answered for {name!r} with the status {page.status}.")
    return await asyncio.to_thread(parse_page_to_show, name, page.content, page.content_type, page.url)


def _weight(project: Project | None) -> int:
    return 10 + (len(project.files) if project is not None else 0)
