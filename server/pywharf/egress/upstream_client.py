"""The HTTP client of the extra index, bounded in time, size, redirects and number of requests."""

import asyncio
import contextlib
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Self

import aiohttp
from yarl import URL

from pywharf.core.endpoints import EndpointNotAllowedError
from pywharf.core.errors import UpstreamError, UpstreamTimeoutError, UpstreamUnreachableError
from pywharf.core.unpacking import ACCEPTED, Body, TooLargeBodyError
from pywharf.egress.following import following, own_headers_of
from pywharf.egress.policy import Egress
from pywharf.egress.sessions import Sessions
from pywharf.index.fair_slots import FairSlots
from pywharf.index.upstream.extra_index import FetchedPage
from pywharf.index.upstream.source import SourceCredentials

_MAX_BYTES = 64 * 1024 * 1024
"""Bytes of an unpacked page; the largest pages of PyPI have about half of that."""
_RESPONSE_TIMEOUT_S = 15.0
"""Seconds for a whole response, including its redirects."""
_TIMEOUT = aiohttp.ClientTimeout(total=_RESPONSE_TIMEOUT_S, connect=5, sock_read=10)
_TOTAL_TIMEOUT_S = 20.0
"""Seconds for the wait for a slot and then the response."""
_MAX_CONCURRENT = 32
"""Concurrent requests to one index, so that one that hangs does not take the slots of others."""
_LARGE = 1024 * 1024
_MAX_CONCURRENT_LARGE = 3
"""Pages over _LARGE that are in memory until they are parsed, over all indexes; two of them of one host."""
_CHUNK = 256 * 1024
_MAX_TAG = 512
_TAG = re.compile(r'(?:W/)?"[!#-~]*"\Z')
_MAX_DIGITS = 18


class UpstreamClient:
    """An HTTP client that sends credentials to their own origin alone and keeps no cookies. Use as an async context.

    `count` is called with the result of each request: `answered`, `failed` or `timeout`.
    """

    def __init__(self, count: Callable[[str], None], user_agent: str, egress: Egress | None = None) -> None:
        self._count = count
        self._egress = egress or Egress()
        self._sessions = Sessions(self._egress, _TIMEOUT, {"User-Agent": user_agent, "Accept-Encoding": ACCEPTED})
        self._slots: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(_MAX_CONCURRENT))
        """Slots by the index's host; there are as many hosts as configurations name."""
        self._large_slots = FairSlots(_MAX_CONCURRENT_LARGE)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._sessions.aclose()

    @contextlib.asynccontextmanager
    async def fetch(
        self, url: str, accept: str, *, etag: str = "", credentials: SourceCredentials | None = None
    ) -> AsyncIterator[FetchedPage]:
        """Fetch a page. See `pywharf.index.upstream.extra_index.Fetcher`."""
        async with contextlib.AsyncExitStack() as held:
            try:
                async with asyncio.timeout(_TOTAL_TIMEOUT_S), self._slots[URL(url).host or ""]:
                    async with asyncio.timeout(_RESPONSE_TIMEOUT_S):
                        page = await self._fetch(URL(url), _headers(accept, etag), own_headers_of(credentials), held)
            except TimeoutError as error:
                self._count("timeout")
                raise UpstreamTimeoutError(
                    "The extra index did not answer in time; try again, or check --extra_index_url."
                ) from error
            except EndpointNotAllowedError as error:
                self._count("failed")
                raise UpstreamError(f"The extra index cannot be read: {error}.") from error
            except (aiohttp.ClientError, ValueError) as error:
                self._count("failed")
                is_away = isinstance(error, aiohttp.ClientConnectionError)
                raise (UpstreamUnreachableError if is_away else UpstreamError)(
                    f"The extra index cannot be read ({type(error).__name__}); try again, or check --extra_index_url."
                ) from error
            except UpstreamError:
                self._count("failed")
                raise
            self._count("answered")
            yield page

    async def _fetch(
        self, url: URL, headers: dict[str, str], own_headers: dict[str, str], held: contextlib.AsyncExitStack
    ) -> FetchedPage:
        following_redirects = following(
            self._sessions, self._egress, url, configured=url, headers=headers, own_headers=own_headers
        )
        async with following_redirects as (response, here):
            content = await self._read(response, url.host or "", held)
            return FetchedPage(
                response.status,
                response.headers.get("Content-Type", ""),
                content,
                str(here),
                etag=_tag(response.headers.get("ETag", "")),
                serial=_number(response.headers.get("X-PyPI-Last-Serial", "")),
            )

    async def _read(self, response: aiohttp.ClientResponse, host: str, held: contextlib.AsyncExitStack) -> bytes:
        body = Body(response.headers.get("Content-Encoding", ""), _MAX_BYTES)
        is_large = False
        try:
            async for chunk in response.content.iter_chunked(_CHUNK):
                body.feed(chunk)
                if len(body) > _LARGE and not is_large:
                    await held.enter_async_context(self._large_slots.one(host))
                    is_large = True
        except TooLargeBodyError:
            raise UpstreamError(f"The extra index's page is over {_MAX_BYTES} bytes.") from None
        return body.whole()


def _headers(accept: str, etag: str) -> dict[str, str]:
    return {"Accept": accept, "If-None-Match": etag} if etag else {"Accept": accept}


def _tag(header: str) -> str:
    """Return an entity tag that can be sent back (RFC 9110, section 8.8.3), or ""."""
    return header if len(header) <= _MAX_TAG and _TAG.match(header) else ""


def _number(header: str) -> int | None:
    return int(header) if header.isascii() and header.isdigit() and len(header) <= _MAX_DIGITS else None
