"""The project pages of other indexes, cached for a minute."""

import asyncio
import contextlib
import time
from contextlib import AbstractAsyncContextManager
from operator import attrgetter
from typing import Final, Protocol
from urllib.parse import urljoin

import msgspec
from cachetools import TTLCache

from pywharf.core.errors import UpstreamError
from pywharf.core.model import Project
from pywharf.core.names import ProjectName
from pywharf.index.single_flight import SingleFlight
from pywharf.index.upstream.health import SourceHealth
from pywharf.index.upstream.page_weight import MAX_HELD_BYTES, weight_of
from pywharf.index.upstream.pages import ACCEPT, parse_page_to_show
from pywharf.index.upstream.source import Identity, Source, SourceCredentials

_FRESH_S = 60.0
_OK = 200
_UNAUTHORIZED = {401, 403}
NOT_FOUND: Final = frozenset({404, 410})
"""The statuses with which an index says that it has no such project."""

_Key = tuple[Identity, ProjectName]


class FetchedPage(msgspec.Struct, frozen=True):
    """A complete HTTP response."""

    status: int
    content_type: str
    content: bytes
    url: str
    """The page's URL after redirects; its links are relative to it."""
    etag: str = ""
    """Its entity tag as it was sent; "": none."""
    serial: int | None = None
    """The number of the index's last change to the project (`X-PyPI-Last-Serial`), if it says that."""


class _Kept(msgspec.Struct, frozen=True):
    project: Project | None
    weight: int


class Fetcher(Protocol):
    """An HTTP client that reads pages, bounded in time and size."""

    def fetch(
        self, url: str, accept: str, *, etag: str = "", credentials: SourceCredentials | None = None
    ) -> AbstractAsyncContextManager[FetchedPage]:
        """Fetch a page. A large page holds one of a few slots until the context ends.

        With an `etag`, the answer may be 304 without content. Credentials are sent to the URL's own origin alone.

        Raises UpstreamError, or UpstreamTimeoutError if the request took too long.
        """


class ExtraIndex:
    """The project pages of other indexes, cached for a minute."""

    def __init__(self, fetcher: Fetcher, health: SourceHealth | None = None) -> None:
        self._fetcher = fetcher
        self.health = health or SourceHealth()
        """Which indexes fail."""
        self._kept: TTLCache[_Key, _Kept, float] = TTLCache(
            MAX_HELD_BYTES, _FRESH_S, time.monotonic, attrgetter("weight")
        )
        self._running = SingleFlight[_Key, Project | None]()

    async def project(self, source: Source, name: ProjectName) -> Project | None:
        """Return the project's page, or None if that index has none. Concurrent callers share one request.

        Raises UpstreamError.
        """
        key = (source.identity, name)
        with contextlib.suppress(KeyError):  # not `get`, which raises it, too, if the entry expires meanwhile
            return self._kept[key].project
        return await self._running.run(key, lambda: self._fetch(key))

    async def _fetch(self, key: _Key) -> Project | None:
        (url, credentials), name = key
        try:
            async with self._fetcher.fetch(page_url(url, name), ACCEPT, credentials=credentials) as page:
                project = await read_page(name, page)
        except UpstreamError as error:
            # Drop the traceback and cause: they would keep a page of many megabytes until the next garbage collection.
            failure = type(error)(str(error))
        else:
            self.health.answered(url)
            weight = await asyncio.to_thread(weight_of, project) if project is not None else weight_of(None)
            with contextlib.suppress(ValueError):  # it is larger than the cache
                self._kept[key] = _Kept(project, weight)
            return project
        self.health.failed(url)
        raise failure


def page_url(index_url: str, name: ProjectName) -> str:
    """Return the URL of a project's page."""
    return urljoin(index_url.rstrip("/") + "/", f"{name}/")


async def read_page(name: ProjectName, page: FetchedPage) -> Project | None:
    """Read an index's answer, in a thread: None if it has no such project. Raises UpstreamError."""
    if page.status in NOT_FOUND:
        return None
    if page.status in _UNAUTHORIZED:
        raise UpstreamError(
            f"The extra index answered for {name!r} with the status {page.status}; check the credentials for it."
        )
    if page.status != _OK:
        raise UpstreamError(f"The extra index answered for {name!r} with the status {page.status}.")
    return await asyncio.to_thread(parse_page_to_show, name, page.content, page.content_type, page.url)
