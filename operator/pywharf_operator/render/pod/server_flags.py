"""The settings that a server reads from its flags, and so only when it starts."""

from urllib.parse import urlsplit

import msgspec

from pywharf.config.settings import DEFAULT_EXTRA_INDEX_URL
from pywharf.core.endpoints import allowed_reach
from pywharf_operator.render.resolve.endpoints import endpoints_of
from pywharf_operator.spec import PackageServer


class Flags(msgspec.Struct, frozen=True, kw_only=True):
    """The flags that follow from a PackageServer wherever it runs. The fields have the names of `ServerSettings`."""

    auth_read_expires: int
    auth_write_expires: int
    extra_index_url: str
    """Empty: no extra index."""
    allowed_endpoints: str | None
    """Hosts that the server may connect to, separated by commas. None: those that the configuration names."""


def flags_of(server: PackageServer) -> Flags:
    """Return the flags for `server`."""
    upstream = server.spec.upstream
    return Flags(
        auth_read_expires=server.spec.auth_read_expires,
        auth_write_expires=server.spec.auth_write_expires,
        allowed_endpoints=",".join(_endpoints(server)),
        extra_index_url=(upstream.url or DEFAULT_EXTRA_INDEX_URL) if upstream.mode == "Pages" else "",
    )


def _endpoints(server: PackageServer) -> tuple[str, ...]:
    """Return the server's list with the host of its own upstream, which its owner names in another field."""
    listed = endpoints_of(server)
    upstream = server.spec.upstream
    url = (upstream.url or DEFAULT_EXTRA_INDEX_URL) if upstream.mode == "Pages" else None
    if url is None or allowed_reach(listed, url) is not None:
        return listed
    return (*listed, urlsplit(url).netloc.lower())
