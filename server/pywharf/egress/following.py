"""Send a GET request and follow its redirects, each of which must lead to an allowed host."""

import contextlib
from collections.abc import AsyncIterator, Mapping

import aiohttp
from yarl import URL

from pywharf.core.errors import UpstreamError
from pywharf.egress.policy import Egress
from pywharf.egress.sessions import Sessions
from pywharf.egress.upstream_addresses import redirected
from pywharf.index.upstream.source import SourceCredentials

_MAX_REDIRECTS = 5
_REDIRECTS = {301, 302, 303, 307, 308}


def own_headers_of(credentials: SourceCredentials | None) -> dict[str, str]:
    """Return the headers with a source's credentials, for `following`; none without credentials."""
    if credentials is None:
        return {}
    return {"Authorization": aiohttp.encode_basic_auth(credentials.username, credentials.password, "utf-8")}


@contextlib.asynccontextmanager
async def following(  # noqa: PLR0913 - what to request, and how
    sessions: Sessions,
    egress: Egress,
    url: URL,
    *,
    configured: URL,
    headers: Mapping[str, str],
    own_headers: Mapping[str, str] | None = None,
) -> AsyncIterator[tuple[aiohttp.ClientResponse, URL]]:
    """Request `url`, and yield the first response that is no redirect, with its own URL.

    `configured` is the URL in the configuration from which `url` was reached; it may be the same. `own_headers` hold
    credentials and are sent to its origin alone.

    Raises UpstreamError, EndpointNotAllowedError, aiohttp.ClientError, ValueError, TimeoutError.
    """
    here = url
    for _ in range(_MAX_REDIRECTS + 1):
        session, proxy = sessions.way(str(here), configured=str(configured))
        sent = {**headers, **(own_headers or {})} if here.origin() == configured.origin() else headers
        async with session.get(here, headers=sent, proxy=proxy, allow_redirects=False) as response:
            if response.status not in _REDIRECTS or "Location" not in response.headers:
                yield response, here
                return
            here = redirected(here, response.headers["Location"], configured=configured, egress=egress)
    raise UpstreamError(f"The index redirects more than {_MAX_REDIRECTS} times.")
