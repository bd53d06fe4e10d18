"""The HTTP client of an index that packages are copied from, with credentials, bounded in time, size and redirects."""

import asyncio
import base64
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import aiohttp
from yarl import URL

from pywharf.core.endpoints import EndpointNotAllowedError
from pywharf.core.errors import (
    ForbiddenError,
    NotFoundError,
    RateLimitedError,
    UnavailableError,
    UpstreamError,
    UpstreamTimeoutError,
)
from pywharf.core.unpacking import ACCEPTED
from pywharf.egress.following import following
from pywharf.egress.policy import Egress
from pywharf.egress.sessions import Sessions, read
from pywharf.index.copying.source import Opened
from pywharf.index.upstream.extra_index import FetchedPage

_MAX_PAGE_BYTES = 64 * 1024 * 1024
_PAGE_S = 60.0
"""Seconds for a whole page, including its redirects."""
_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=15, sock_read=30)
_WINDOW_S = 60.0
_LEAST_BYTES = 64 * 1024
"""Bytes that a file must bring in each window, so that an index that only drips holds nothing up."""
_CHUNK = 256 * 1024
_DEFAULT_RETRY_S = 30
_MAX_RETRY_S = 3600
_GONE = {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}
_DENIED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
_LIMITED = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}


class CopiedIndexClient:
    """A client that sends its credentials to the index's own origin alone, and keeps no cookies.

    Without `index_url` each URL counts as configured: they come from a repo's own backend.
    """

    def __init__(
        self, index_url: str | None, user_agent: str, egress: Egress, credentials: tuple[str, str] | None = None
    ) -> None:
        self._configured = URL(index_url) if index_url is not None else None
        self._egress = egress
        self._sessions = Sessions(egress, _TIMEOUT, {"User-Agent": user_agent})
        self._own_headers = {"Authorization": _basic(*credentials)} if credentials is not None else {}

    async def page(self, url: str, accept: str) -> FetchedPage:
        """Fetch a page. See `pywharf.index.copying.simple_index.IndexClient`."""
        headers = {"Accept": accept, "Accept-Encoding": ACCEPTED}
        try:
            async with asyncio.timeout(_PAGE_S), self._requested(url, headers) as (response, here):
                content = await read(response, _MAX_PAGE_BYTES)
        except TimeoutError as error:
            raise _too_slow() from error
        return FetchedPage(response.status, response.headers.get("Content-Type", ""), content, str(here))

    @contextlib.asynccontextmanager
    async def download(self, url: str) -> AsyncIterator[Opened]:
        """Open a file's content. See `pywharf.index.copying.simple_index.IndexClient`."""
        # Some servers call a .tar.gz gzip-encoded. The bytes are taken as they are; the digest decides.
        headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
        try:
            async with asyncio.timeout(_PAGE_S) as until_it_begins, self._requested(url, headers) as (response, _):
                until_it_begins.reschedule(None)
                async with contextlib.aclosing(_chunks(response)) as chunks:
                    yield Opened(chunks, _modified(response))
        except TimeoutError as error:
            raise _too_slow() from error

    async def aclose(self) -> None:
        await self._sessions.aclose()

    @contextlib.asynccontextmanager
    async def _requested(self, url: str, headers: dict[str, str]) -> AsyncIterator[tuple[aiohttp.ClientResponse, URL]]:
        """Yield a response with status 200."""
        with _translating():
            wanted = URL(url)
            async with following(
                self._sessions,
                self._egress,
                wanted,
                configured=self._configured or wanted,
                headers=headers,
                own_headers=self._own_headers,
            ) as (response, here):
                self._check(response)
                yield response, here

    def _check(self, response: aiohttp.ClientResponse) -> None:
        """Raise the error that a status other than 200 stands for."""
        status = response.status
        if status == HTTPStatus.OK:
            return
        if status in _GONE:
            raise NotFoundError(f"The index answers {status}.")
        if status in _DENIED:
            remedy = "check them" if self._own_headers else "give them with --from_user and --from_secret_env"
            raise ForbiddenError(f"The index denies access ({status}) with these credentials; {remedy}.")
        if status in _LIMITED and (status == HTTPStatus.TOO_MANY_REQUESTS or "Retry-After" in response.headers):
            raise RateLimitedError(f"The index limits the rate of requests ({status}).", _retry_after(response))
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise UnavailableError(f"The index answers {status}.")
        raise UpstreamError(f"The index answers {status}.")


@contextlib.contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except EndpointNotAllowedError as error:
        raise UpstreamError(f"The file or page is at a host that is not allowed: {error}.") from error
    except TimeoutError as error:  # before ClientError: aiohttp's timeouts are both
        raise _too_slow() from error
    except aiohttp.ClientConnectorCertificateError as error:
        raise UpstreamError("The index's certificate is not trusted; name its CA with SSL_CERT_FILE.") from error
    except aiohttp.InvalidURL as error:
        raise UpstreamError("The index links to what is no URL.") from error
    except aiohttp.ClientError as error:
        reason = str(error.os_error) if isinstance(error, aiohttp.ClientConnectorError) else type(error).__name__
        raise UnavailableError(f"The index cannot be reached or read ({reason}).") from error
    except ValueError as error:
        raise UpstreamError(f"The index's answer cannot be read: {error}.") from error


async def _chunks(response: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
    """Yield the body as it arrives. Raises UpstreamTimeoutError if it is slower than `_LEAST_BYTES` a window."""
    window_ends, received = time.monotonic() + _WINDOW_S, 0
    with _translating():
        async for chunk in response.content.iter_chunked(_CHUNK):
            received += len(chunk)
            yield chunk
            if time.monotonic() > window_ends:
                if received < _LEAST_BYTES:
                    raise _too_slow()
                window_ends, received = time.monotonic() + _WINDOW_S, 0


def _too_slow() -> UpstreamTimeoutError:
    return UpstreamTimeoutError("The index did not answer in time.")


def _modified(response: aiohttp.ClientResponse) -> float | None:
    try:
        return parsedate_to_datetime(response.headers.get("Last-Modified", "")).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def _retry_after(response: aiohttp.ClientResponse) -> int:
    try:
        return min(max(int(response.headers.get("Retry-After", "")), 1), _MAX_RETRY_S)
    except ValueError:
        return _DEFAULT_RETRY_S


def _basic(user: str, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{secret}".encode()).decode()
