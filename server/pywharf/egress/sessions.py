"""The HTTP sessions of the server's clients, which connect to what the egress policy allows and nothing else."""

import contextlib

import aiohttp

from pywharf.core.addresses import Reach
from pywharf.core.unpacking import Body
from pywharf.egress.policy import Egress, proxy_for
from pywharf.egress.resolver import Names

_CHUNK = 64 * 1024


class Sessions:
    """The HTTP sessions of one client, one for each kind of address.

    They ignore the environment, whose credentials would otherwise be sent. They keep no cookies and unpack nothing.
    """

    def __init__(
        self,
        egress: Egress,
        timeout: aiohttp.ClientTimeout,
        headers: dict[str, str] | None = None,
        *,
        read_bufsize: int = 64 * 1024,
        most_connections: int = 100,
    ) -> None:
        self._egress = egress
        self._read_bufsize = read_bufsize
        self._most_connections = most_connections
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
                connector=aiohttp.TCPConnector(
                    resolver=names, socket_factory=names.socket, limit=self._most_connections
                ),
                # A small response may unpack to gigabytes: see `read`.
                auto_decompress=False,
                read_bufsize=self._read_bufsize,
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
