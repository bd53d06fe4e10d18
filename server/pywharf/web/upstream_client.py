"""Reads pages of the extra index, bounded in time, size, redirects and number."""

import asyncio
from types import TracebackType
from typing import Self

import aiohttp

from pywharf.core.errors import UpstreamError, UpstreamTimeoutError
from pywharf.index.extra_index import FetchedPage
from pywharf.web.metrics import Metrics

_MAX_BYTES = 64 * 1024 * 1024
"""Unpacked; the largest pages of PyPI have about half of it."""
_TIMEOUT = aiohttp.ClientTimeout(total=15, connect=5, sock_read=10)
_WITH_WAITING_S = 20.0
"""For one of the places below, and then the answer."""
_MAX_REDIRECTS = 5
_AT_ONCE = 32
_CHUNK = 256 * 1024


class UpstreamClient:
    """An HTTP client that sends no credentials and keeps no cookies. Use as an async context."""

    def __init__(self, metrics: Metrics, user_agent: str) -> None:
        self._metrics = metrics
        self._user_agent = user_agent
        self._session: aiohttp.ClientSession | None = None
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            timeout=_TIMEOUT,
            headers={"User-Agent": self._user_agent},
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=True,  # the proxies of the environment
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def fetch(self, url: str, accept: str) -> FetchedPage:
        """See `pywharf.index.extra_index.Fetcher`."""
        try:
            async with asyncio.timeout(_WITH_WAITING_S), self._places:
                page = await self._fetch(url, accept)
        except TimeoutError as error:
            self._metrics.upstream.labels("timeout").inc()
            msg = "The extra index did not answer in time; try again, or check --extra_index_url."
            raise UpstreamTimeoutError(msg) from error
        except (aiohttp.ClientError, ValueError) as error:
            self._metrics.upstream.labels("failed").inc()
            msg = f"The extra index cannot be read ({type(error).__name__}); try again, or check --extra_index_url."
            raise UpstreamError(msg) from error
        except UpstreamError:
            self._metrics.upstream.labels("failed").inc()
            raise
        self._metrics.upstream.labels("answered").inc()
        return page

    async def _fetch(self, url: str, accept: str) -> FetchedPage:
        assert self._session is not None  # noqa: S101 - the context was entered
        headers = {"Accept": accept}
        async with self._session.get(url, headers=headers, max_redirects=_MAX_REDIRECTS) as response:
            content = bytearray()
            async for chunk in response.content.iter_chunked(_CHUNK):
                content += chunk
                if len(content) > _MAX_BYTES:
                    msg = f"The extra index's page is over {_MAX_BYTES} bytes."
                    raise UpstreamError(msg)
            return FetchedPage(
                response.status, response.headers.get("Content-Type", ""), bytes(content), str(response.url)
            )
