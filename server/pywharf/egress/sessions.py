"""The egress policy: which hosts the server connects to, at which addresses, and through which proxy.

Every HTTP client of the server uses it. A client's URL comes from a configuration; a redirect's target comes from the
host that responds.
"""

import contextlib
import urllib.request
from urllib.parse import urlsplit

import aiohttp
import msgspec

from pywharf.core.addresses import Reach
from pywharf.core.endpoints import (
    EndpointNotAllowedError,
    allowed_reach,
    configured_reach,
    entries_of,
    not_allowed,
    redirect_reach,
)
from pywharf.core.proxies import bypasses_proxy
from pywharf.core.unpacking import Body
from pywharf.egress.resolver import Names

_PORTS = {"http": 80, "https": 443}
_CHUNK = 64 * 1024


class Egress(msgspec.Struct, frozen=True):
    """The hosts that may be connected to."""

    allowed: tuple[str, ...] | None = None
    """See `pywharf.core.endpoints`. None: the configured hosts, and PyPI's and GitHub's as targets of redirects."""

    def reach(self, url: str, *, configured: str) -> Reach:
        """Return the most sensitive kind of address that the URL's host may have.

        `configured` is the URL in the configuration from which this one was reached; it may be the same.
        Raises EndpointNotAllowedError.
        """
        if _origin(url) != _origin(configured):
            return redirect_reach(self.allowed, configured, url)
        reach = configured_reach(url) if self.allowed is None else allowed_reach(self.allowed, url)
        if reach is None:
            raise not_allowed(url)
        return reach

    def allows(self, url: str, *, configured: str) -> bool:
        """Return whether the URL's host may be connected to."""
        try:
            self.reach(url, configured=configured)
        except EndpointNotAllowedError:
            return False
        return True


def egress_of(listed: str | None) -> Egress:
    """Return the policy for a flag's text: hosts separated by commas, or None."""
    return Egress(None if listed is None else entries_of(listed))


def proxy_for(url: str) -> str | None:
    """Return the proxy that the environment names for the URL, or None. NO_PROXY is read as Go programs read it."""
    parts = urlsplit(url)
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or bypasses_proxy(
        parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0), proxies.get("no", "")
    ):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


class Sessions:
    """The HTTP sessions of one client, one for each kind of address.

    They ignore the environment, whose credentials would otherwise be sent. They keep no cookies and unpack nothing.
    """

    def __init__(self, egress: Egress, timeout: aiohttp.ClientTimeout, headers: dict[str, str] | None = None) -> None:
        self._egress = egress
        self._timeout = timeout
        self._headers = headers or {}
        self._made: dict[Reach, aiohttp.ClientSession] = {}
        self._names: list[Names] = []
        """The sessions' resolvers, which aiohttp leaves open."""

    def way(self, url: str, *, configured: str) -> tuple[aiohttp.ClientSession, str | None]:
        """Return the session and the proxy for a request. Raises EndpointNotAllowedError."""
        reach = self._egress.reach(url, configured=configured)
        proxy = proxy_for(url)
        # A proxy may have any address, and resolves names itself.
        return self._session(Reach.OWN if proxy else reach), proxy

    def _session(self, reach: Reach) -> aiohttp.ClientSession:
        if reach not in self._made:
            names = Names(reach)
            self._names.append(names)
            self._made[reach] = aiohttp.ClientSession(
                timeout=self._timeout,
                headers=self._headers,
                cookie_jar=aiohttp.DummyCookieJar(),
                connector=aiohttp.TCPConnector(resolver=names, socket_factory=names.socket),
                # A small response may unpack to gigabytes: see `read`.
                auto_decompress=False,
            )
        return self._made[reach]

    async def aclose(self) -> None:
        """Close the connections, and end the threads that resolve names."""
        async with contextlib.AsyncExitStack() as stack:
            for names in self._names:
                stack.push_async_callback(names.close)
            for session in self._made.values():
                stack.push_async_callback(session.close)


async def read(response: aiohttp.ClientResponse, longest: int) -> bytes:
    """Read a whole body and unpack it. Raises TooLargeBodyError past `longest` bytes, ValueError for a broken one."""
    body = Body(response.headers.get("Content-Encoding", ""), longest)
    async for chunk in response.content.iter_chunked(_CHUNK):
        body.feed(chunk)
    return body.whole()


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)
