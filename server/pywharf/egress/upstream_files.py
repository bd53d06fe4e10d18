"""The HTTP client that fetches files of other indexes, bounded in time, redirects and number of requests."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from http import HTTPStatus
from types import TracebackType
from typing import Self

import aiohttp
from yarl import URL

from pywharf.core.endpoints import EndpointNotAllowedError
from pywharf.core.errors import BusyError, NotFoundError, UpstreamAwayError, UpstreamError, UpstreamTimeoutError
from pywharf.egress.following import following, own_headers_of
from pywharf.egress.policy import Egress
from pywharf.egress.sessions import Sessions
from pywharf.egress.upstream_addresses import redirected
from pywharf.index.upstream.file_fetching import Arriving, FetchKind
from pywharf.index.upstream.source import Source

_CONNECT_S, _SILENCE_S = 5.0, 30.0
_SLOT_S = 30.0
"""Seconds to wait for a slot. Installers give up on a server that is silent for about as long."""
_HEAD_S = 60.0
"""Seconds until the head of the last response, including the redirects."""
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_SILENCE_S)
_BUFFER = 256 * 1024
"""Bytes of a response that are buffered while the ones before are written; there may be twice as many."""
_MAX_CONCURRENT = 64
"""Concurrent requests of one kind for files of one index, so that one that hangs does not take the slots of others."""
_UNLIMITED = 0
"""The slots bound the connections; those of one index must not be taken by another."""
_GONE = {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}


class UpstreamFiles:
    """A client that sends a source's credentials to its own origin alone, and keeps no cookies. Use as a context."""

    def __init__(self, user_agent: str, egress: Egress | None = None) -> None:
        self._egress = egress or Egress()
        # Some servers call a .tar.gz gzip-encoded. The bytes are taken as they are; the digest decides.
        headers = {"User-Agent": user_agent, "Accept": "*/*", "Accept-Encoding": "identity"}
        self._sessions = Sessions(self._egress, _TIMEOUT, headers, read_bufsize=_BUFFER, most_connections=_UNLIMITED)
        self._slots: defaultdict[tuple[str, FetchKind], asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(_MAX_CONCURRENT)
        )
        """Slots by the index's URL, of which configurations name a bounded number, and by kind."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._sessions.aclose()

    @contextlib.asynccontextmanager
    async def fetch(
        self,
        url: str,
        filename: str,
        source: Source,
        kind: FetchKind,
        *,
        prepare: Callable[[], Awaitable[None]] | None = None,
    ) -> AsyncIterator[Arriving]:
        """Request a file. See `pywharf.index.upstream.file_fetching.FileFetcher`."""
        async with contextlib.AsyncExitStack() as held:
            await held.enter_async_context(_slot(self._slots[source.url, kind], filename))
            if prepare is not None:
                await prepare()
            with _translating(filename):
                async with asyncio.timeout(_HEAD_S):
                    response = await held.enter_async_context(self._requested(url, filename, source))
            chunks = await held.enter_async_context(contextlib.aclosing(_chunks(response, filename)))
            yield Arriving(response.content_length, chunks)

    @contextlib.asynccontextmanager
    async def _requested(self, url: str, filename: str, source: Source) -> AsyncIterator[aiohttp.ClientResponse]:
        """Yield a response with status 200."""
        index = URL(source.url)
        if not url:
            raise UpstreamError(f"The upstream index does not say where {filename!r} is.")
        # A page's links are as little to be trusted as its redirects.
        file = redirected(index, url, configured=index, egress=self._egress)
        own_headers = own_headers_of(source.credentials)
        async with following(
            self._sessions, self._egress, file, configured=index, headers={}, own_headers=own_headers
        ) as (response, _):
            if response.status in _GONE:
                raise NotFoundError(f"The upstream index no longer has {filename!r}; it answers {response.status}.")
            if response.status != HTTPStatus.OK:
                raise UpstreamError(f"The upstream index answers {response.status} for {filename!r}.")
            yield response


@contextlib.asynccontextmanager
async def _slot(slots: asyncio.Semaphore, filename: str) -> AsyncIterator[None]:
    """Hold a slot within the context. Raises BusyError."""
    try:
        async with asyncio.timeout(_SLOT_S):
            await slots.acquire()
    except TimeoutError:
        raise BusyError(
            f"{filename!r} is not fetched yet: {_MAX_CONCURRENT} other files of this upstream index are; try again in "
            "some seconds."
        ) from None
    try:
        yield
    finally:
        slots.release()


@contextlib.contextmanager
def _translating(filename: str) -> Iterator[None]:
    try:
        yield
    except EndpointNotAllowedError as error:
        raise UpstreamError(f"{filename!r} is at a host that is not allowed: {error}.") from error
    except TimeoutError as error:  # before ClientError: aiohttp's timeouts are both
        raise UpstreamTimeoutError(f"The upstream index did not send {filename!r} in time; try again later.") from error
    except aiohttp.ClientConnectionError as error:
        raise UpstreamAwayError("", filename) from error
    except (aiohttp.ClientError, ValueError) as error:
        raise UpstreamError(
            f"The upstream index's answer for {filename!r} cannot be read ({type(error).__name__})."
        ) from error


async def _chunks(response: aiohttp.ClientResponse, filename: str) -> AsyncGenerator[bytes, None]:
    """Yield the body in the pieces that have arrived since the piece before."""
    with _translating(filename):
        async for chunk in response.content.iter_any():
            yield chunk
