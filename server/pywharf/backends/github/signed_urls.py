"""Where an asset's content lies: a URL that GitHub signs, for anybody who holds it, and for some minutes.

Each is handed out for less than its life. What GitHub is asked with stays here.
"""

import asyncio
import base64
import re
import time
import urllib.request
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from typing import Final
from urllib.parse import parse_qs, urlsplit

import aiohttp
import msgspec

from pywharf.backends.github.api import GithubApi
from pywharf.core.addresses import is_own
from pywharf.core.errors import BackendUnavailableError, NotFoundError
from pywharf.resolver import Names

_KEPT = 4096
_LIFE_S = 60.0
"""Of one that does not say how long it lives."""
_LONGEST_S = 300.0
"""What is believed of one that says more."""
_MARGIN_S = 60.0
"""Left of its life when it is handed out last: a client may wait before it follows it, and clocks differ."""
_CHUNK = 256 * 1024
_ASSET = re.compile(r"/releases/assets/(\d{1,19})\Z")
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)
_SMALL_TIMEOUT = aiohttp.ClientTimeout(total=60, sock_connect=10)


class SignedUrls:
    """The URLs of one repository's assets, and what they lead to."""

    def __init__(self, api: GithubApi, owner: str, repo: str, *, may_be_own: bool = False) -> None:
        self._api = api
        self._may_be_own = may_be_own
        """Whether they may lead to this machine or its network segment, as where the API itself is there."""
        self._path = f"/repos/{owner}/{repo}/releases/assets"
        self._kept: OrderedDict[str, tuple[str, float]] = OrderedDict()
        """By number of the asset: URL, and until when (monotonic) it is handed out."""
        self._session: aiohttp.ClientSession | None = None

    async def url(self, asset: str, *, fresh: bool = False) -> str:
        """For an asset by its API URL, of which only the number counts: an index says no host. Raises NotFoundError."""
        matched = _ASSET.search(asset)
        if matched is None:
            msg = f"The index's url {asset[:200]!r} is no asset of a release; run update_index."
            raise NotFoundError(msg)
        number = matched[1]
        kept = self._kept.get(number)
        if kept is not None and not fresh and time.monotonic() < kept[1]:
            return kept[0]
        answer = await self._api.get(f"{self._path}/{number}", accept="application/octet-stream")
        location = answer.headers.get("location")
        if answer.status == 404:  # noqa: PLR2004
            msg = "The file is no longer in the storage."
            raise NotFoundError(msg)
        if answer.status != 302 or location is None:  # noqa: PLR2004
            msg = f"GitHub names no address of the file (status {answer.status}); try again."
            raise BackendUnavailableError(msg)
        if not self._may_be_own and is_own(urlsplit(location).hostname or ""):
            msg = "GitHub names an address of this machine or its network segment, where no file of its is."
            raise BackendUnavailableError(msg)
        self._kept[number] = location, time.monotonic() + max(_life_s(location) - _MARGIN_S, 0)
        self._kept.move_to_end(number)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return location

    async def stream(self, asset: str, first: int, last: int) -> AsyncIterator[bytes]:
        """The bytes from first to last, inclusive. Raises NotFoundError, BackendUnavailableError."""
        async with await self._open(asset, first, last) as response:
            left = last - first + 1
            try:
                async for chunk in response.content.iter_chunked(_CHUNK):
                    yield chunk[:left]
                    left -= len(chunk)
                    if left <= 0:
                        return
            except (aiohttp.ClientError, TimeoutError) as error:
                msg = f"GitHub broke off in the middle of a file ({type(error).__name__})."
                raise BackendUnavailableError(msg) from error

    async def read(self, asset: str, longest: int) -> bytes:
        """A small one, whole. Raises BackendUnavailableError where it is longer."""
        content = await self._read(await self.url(asset), longest)
        if content is None:  # one that was kept may have expired
            content = await self._read(await self.url(asset, fresh=True), longest)
        if content is None:
            msg = "GitHub's storage does not give a file; try again."
            raise BackendUnavailableError(msg)
        if len(content) > longest:
            msg = f"A file that should be small has over {longest} bytes."
            raise BackendUnavailableError(msg)
        return content

    async def _read(self, url: str, longest: int) -> bytes | None:
        """At most a byte more than `longest`; None: the storage refuses."""
        try:
            async with self._opened().get(url, timeout=_SMALL_TIMEOUT, allow_redirects=False) as response:
                if response.status != 200:  # noqa: PLR2004
                    return None
                content = await response.content.read(longest + 1)
                while len(content) <= longest and (more := await response.content.read(longest + 1 - len(content))):
                    content += more
                return content
        except (aiohttp.ClientError, TimeoutError) as error:
            msg = f"GitHub's storage cannot be reached ({type(error).__name__})."
            raise BackendUnavailableError(msg) from error

    async def _open(self, asset: str, first: int, last: int) -> aiohttp.ClientResponse:
        headers = {"Range": f"bytes={first}-{last}", "Accept-Encoding": "identity"}
        said = ""
        for fresh in (False, True):  # one that was kept may have expired
            url = await self.url(asset, fresh=fresh)
            try:
                response = await self._opened().get(url, headers=headers, timeout=_TIMEOUT, allow_redirects=False)
            except (aiohttp.ClientError, TimeoutError, asyncio.IncompleteReadError) as error:
                said = type(error).__name__
                continue
            if response.status == 206 or (response.status == 200 and first == 0):  # noqa: PLR2004
                return response
            said = f"status {response.status}"
            response.close()
        msg = f"GitHub's storage does not give a file ({said}); try again."
        raise BackendUnavailableError(msg)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            # A proxy may be on this machine, and looks up names itself.
            any_address = self._may_be_own or bool(urllib.request.getproxies())
            self._session = aiohttp.ClientSession(
                trust_env=True,
                cookie_jar=aiohttp.DummyCookieJar(),
                connector=aiohttp.TCPConnector(resolver=Names(any_address=any_address)),
            )
        return self._session

    async def aclose(self) -> None:
        """Give back the connections."""
        if self._session is not None:
            await self._session.close()


def _life_s(url: str) -> float:
    """Seconds that a signed URL lives on: the least that its query says, in whichever of the ways it does.

    Azure: `se`; Amazon: `X-Amz-Date`, `X-Amz-Expires`; GitHub itself: `exp` of `jwt`, which ends long before `se`.
    """
    query = {key.lower(): values[-1] for key, values in parse_qs(urlsplit(url).query).items()}
    now = time.time()
    ends: list[float] = []
    for name, end in _ENDS.items():
        if name in query:
            try:
                ends.append(end(query, now))
            except (ValueError, LookupError, TypeError, OverflowError, msgspec.MsgspecError):
                ends.append(now + _LIFE_S)
    return min([*ends, now + _LONGEST_S]) - now if ends else _LIFE_S


def _amazon_s(query: Mapping[str, str], now: float) -> float:
    since = query.get("x-amz-date")
    began = datetime.strptime(since, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp() if since else now
    return began + float(query["x-amz-expires"])


def _token_s(query: Mapping[str, str], _now: float) -> float:
    """Read, not verified: whoever made the URL says it."""
    payload = query["jwt"].split(".")[1]
    return float(msgspec.json.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["exp"])


_ENDS: Final[Mapping[str, Callable[[Mapping[str, str], float], float]]] = {
    "se": lambda query, _now: datetime.fromisoformat(query["se"]).timestamp(),
    "jwt": _token_s,
    "x-amz-expires": _amazon_s,
    "expires": lambda query, _now: float(query["expires"]),
}
"""When it ends, in Unix seconds, by the parameter that says it."""
