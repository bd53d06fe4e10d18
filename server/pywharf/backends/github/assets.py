"""Read release assets: from URLs that GitHub signs, or from the API itself, which requires a token.

A signed URL works for some minutes for anybody who holds it, and is handed out for less than its lifetime. Tokens are
never handed out. The requests bypass PyGithub, which would keep a whole file in memory: the API may answer with the
file.
Source: "Get a release asset" of GitHub's REST API ("API clients should handle both a 200 or 302 response").
"""

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Mapping
from typing import Final
from urllib.parse import urlsplit

import aiohttp
import msgspec
from cachetools import TLRUCache

from pywharf.backends.github.answer import Answer, decoded
from pywharf.backends.github.api import GithubApi
from pywharf.backends.github.refusals import Step, refusal, unreachable
from pywharf.backends.github.signed_urls import life_s
from pywharf.core.addresses import is_own
from pywharf.core.endpoints import EndpointNotAllowedError
from pywharf.core.errors import BackendUnavailableError, NotFoundError
from pywharf.egress.sessions import Sessions, read

_KEPT = 4096
_MARGIN_S = 60.0
"""Seconds that a URL must still be valid when it is handed out: clients may wait, and clocks differ."""
_ITSELF_S = 300.0
"""Seconds for which the cache remembers that the API sends a file itself."""
_CHUNK = 256 * 1024
_OPEN_S = 30
"""Seconds for the head of an answer, even if bytes keep trickling in."""
_STREAM_S = 60.0
_SLOWEST = 16 * 1024
"""Fewest bytes per second of a streamed file. A transfer that takes over _STREAM_S longer is ended."""
_ASSET = re.compile(r"/releases/assets/(\d{1,19})\Z")
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)
_SMALL_TIMEOUT_S = 60
_REFUSAL_BYTES = 64 * 1024
_WHOLE: Final = {"Accept-Encoding": "identity"}
_OK, _PARTIAL, _FOUND = 200, 206, 302
_GIVEN = frozenset({_OK, _PARTIAL, _FOUND})
"""Statuses of answers that hold the file or its address."""


class _Location(msgspec.Struct, frozen=True):
    """The location of a file."""

    url: str | None
    """The signed URL; None if the API sends the file itself."""
    until: float
    """Monotonic time until which it may be handed out."""


class Assets:
    """The assets of one repository. Of an asset's API URL only the number is used: an index cannot choose the host.

    Each method raises NotFoundError and BackendUnavailableError.
    """

    def __init__(self, api: GithubApi, owner: str, repo: str) -> None:
        self._api = api
        self._path = f"/repos/{owner}/{repo}/releases/assets"
        self._kept: TLRUCache[str, _Location, float] = TLRUCache(
            _KEPT,
            lambda _number, location, _now: location.until,
            lambda: time.monotonic(),  # noqa: PLW0108 - found at each call, so that a test can replace it
        )
        """Locations by the number of the asset."""
        self._sessions = Sessions(api.egress, _TIMEOUT)

    async def signed_url(self, asset: str) -> str | None:
        """Return the URL that a client may follow; None if GitHub sends the file itself and requires a token."""
        return await self._url(_number(asset))

    async def stream(self, asset: str, first: int, last: int) -> AsyncIterator[bytes]:
        """Yield the bytes from `first` to `last`, inclusive."""
        async with await self._open(_number(asset), {**_WHOLE, "Range": f"bytes={first}-{last}"}) as response:
            before = first if response.status == _OK else 0
            left = last - first + 1
            wait_s = _STREAM_S + (before + left) / _SLOWEST
            try:
                while True:
                    began = time.monotonic()
                    async with asyncio.timeout(wait_s):
                        chunk = await response.content.read(_CHUNK)
                    wait_s -= time.monotonic() - began
                    if not chunk:
                        return
                    wanted = chunk[before : before + left]
                    before = max(before - len(chunk), 0)
                    left -= len(wanted)
                    if wanted:
                        yield wanted
                    if left <= 0:
                        return
            except (aiohttp.ClientError, TimeoutError) as error:
                raise BackendUnavailableError(
                    f"GitHub broke off in the middle of a file ({type(error).__name__})."
                ) from error

    async def read(self, asset: str, longest: int) -> bytes:
        """Read a small asset completely. Raises BackendUnavailableError if it is longer than `longest` bytes."""
        content = b""
        try:
            async with asyncio.timeout(_SMALL_TIMEOUT_S), await self._open(_number(asset), _WHOLE) as response:
                while len(content) <= longest and (more := await response.content.read(longest + 1 - len(content))):
                    content += more
        except (aiohttp.ClientError, TimeoutError) as error:
            raise BackendUnavailableError(
                f"GitHub broke off in the middle of a file ({type(error).__name__}); try again."
            ) from error
        if len(content) > longest:
            raise BackendUnavailableError(f"A file that should be small has over {longest} bytes.")
        return content

    async def aclose(self) -> None:
        """Close the connections."""
        await self._sessions.aclose()

    async def _url(self, number: str, *, fresh: bool = False) -> str | None:
        if not fresh:
            with contextlib.suppress(KeyError):  # not `get`, which raises it, too, if the entry expires meanwhile
                return self._kept[number].url
        async with await self._ask(number) as response:
            location = response.headers.get("location", "")
            gives_itself = response.status != _FOUND
            response.close()  # its body may be the file
        if gives_itself:
            found = _Location(None, time.monotonic() + _ITSELF_S)
        else:
            self._check(location)
            found = _Location(location, time.monotonic() + max(life_s(location) - _MARGIN_S, 0))
        self._kept[number] = found
        return found.url

    async def _open(self, number: str, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        """Return an answer whose body begins with the file (status 200) or with the requested range (206)."""
        said = ""
        for fresh in (False, True):  # a cached URL may have expired
            url = await self._url(number, fresh=fresh)
            try:
                if url is None:
                    response = await self._ask(number, headers)
                else:
                    response = await self._get(url, headers)
            except EndpointNotAllowedError as error:
                raise BackendUnavailableError(f"A file of GitHub's cannot be read: {error}.") from None
            except (aiohttp.ClientError, TimeoutError, asyncio.IncompleteReadError) as error:
                said = type(error).__name__
                continue
            if response.status in {_OK, _PARTIAL}:
                return response
            said = f"status {response.status}"
            response.close()
        raise BackendUnavailableError(f"GitHub's storage does not give a file ({said}); try again.")

    async def _ask(self, number: str, headers: Mapping[str, str] | None = None) -> aiohttp.ClientResponse:
        """Return the API's answer, which holds the file or its address; the body is not read yet."""
        response = await self._api.retried(lambda: self._ask_once(number, headers or _WHOLE))
        if response.status not in _GIVEN:
            raise refusal(Step.FIND_FILE, Answer(response.status, {}, None))
        return response

    async def _ask_once(self, number: str, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        url = f"{self._api.url}{self._path}/{number}"
        sent = {**headers, **await self._api.headers(), "Accept": "application/octet-stream"}
        data = None
        try:
            response = await self._get(url, sent)
            if response.status not in _GIVEN:
                async with asyncio.timeout(_OPEN_S), response:
                    data = decoded((await read(response, _REFUSAL_BYTES)).decode(errors="replace"))
        except EndpointNotAllowedError as error:
            raise BackendUnavailableError(f"{error}.") from None
        except (ValueError, aiohttp.ClientError, TimeoutError) as error:
            raise unreachable(error) from None
        self._api.heed(Answer(response.status, {key.lower(): value for key, value in response.headers.items()}, data))
        return response

    async def _get(self, url: str, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        """Return the answer to a request, without following redirects. Raises EndpointNotAllowedError."""
        session, proxy = self._sessions.way(url, configured=self._api.url)
        async with asyncio.timeout(_OPEN_S):
            response = await session.get(url, headers=headers, proxy=proxy, allow_redirects=False)
        if response.status in {_OK, _PARTIAL} and response.headers.get("Content-Encoding", "identity") != "identity":
            response.close()
            raise aiohttp.ClientPayloadError("the file is packed")
        return response

    def _check(self, location: str) -> None:
        """Raise BackendUnavailableError for a redirect that neither a server nor its clients should follow."""
        host = _host(location)
        if not host:
            raise BackendUnavailableError("GitHub names no address of the file; try again.")
        if is_own(host) and not self._api.egress.allows(location, configured=self._api.url):
            raise BackendUnavailableError(
                "GitHub names an address of this machine or its network segment, where no file of its is."
            )


def _host(location: str) -> str | None:
    """Return the host of a whole http(s) URL without user info; None for anything else."""
    try:
        parts = urlsplit(location)
    except ValueError:
        return None
    return parts.hostname if parts.scheme in {"http", "https"} and "@" not in parts.netloc else None


def _number(asset: str) -> str:
    matched = _ASSET.search(asset)
    if matched is None:
        raise NotFoundError(f"The index's url {asset[:200]!r} is no asset of a release; run update_index.")
    return matched[1]
