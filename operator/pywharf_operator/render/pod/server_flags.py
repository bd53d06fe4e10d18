"""The settings that a server reads from its flags, and so only when it starts."""

from urllib.parse import urlsplit

import msgspec

from pywharf.config.settings import DEFAULT_EXTRA_INDEX_URL
from pywharf.core.endpoints import allowed_reach
from pywharf_operator.render.resolve.endpoints import endpoints_of
from pywharf_operator.render.resolve.usable_identity import usable_identity
from pywharf_operator.spec import PackageServer
from pywharf_operator.spec.forms import age_s


class Flags(msgspec.Struct, frozen=True, kw_only=True):
    """The flags that follow from a PackageServer wherever it runs. The fields have the names of `ServerSettings`."""

    auth_read_expires: int
    auth_write_expires: int
    extra_index_url: str
    """Empty: no extra index."""
    allowed_endpoints: str | None
    """Hosts that the server may connect to, separated by commas. None: those that the configuration names."""
    advisories: str | None = None
    """The URL or the path of the feed; None: there is none."""
    advisories_interval: int = 3600
    """Seconds between two requests for a newer feed."""
    trusted_proxies: str | None = None
    """Addresses and networks, separated by commas; None: no proxy is believed."""
    proxy_headers: bool = False
    """Whether these proxies say who a person is."""


def flags_of(server: PackageServer) -> Flags:
    """Return the flags for `server`."""
    upstream, feed = server.spec.upstream, server.spec.advisories
    proxies = usable_identity(server.spec.identity).trusted_proxies
    own = {} if feed is None else {"advisories": feed.url or feed.path, "advisories_interval": age_s(feed.interval)}
    flags = Flags(
        auth_read_expires=server.spec.auth_read_expires,
        auth_write_expires=server.spec.auth_write_expires,
        allowed_endpoints=",".join(_endpoints(server)),
        extra_index_url=(upstream.url or DEFAULT_EXTRA_INDEX_URL) if upstream.mode != "None" else "",
        trusted_proxies=",".join(proxies) or None,
        proxy_headers=server.spec.identity.proxy_headers and bool(proxies),
    )
    return msgspec.structs.replace(flags, **own)


def _endpoints(server: PackageServer) -> tuple[str, ...]:
    """Return the server's list with the hosts of its own upstream and feed, which its owner names in other fields."""
    listed = endpoints_of(server)
    upstream, feed = server.spec.upstream, server.spec.advisories
    own = [
        (upstream.url or DEFAULT_EXTRA_INDEX_URL) if upstream.mode != "None" else None,
        feed.url if feed is not None else None,
    ]
    hosts = (urlsplit(url).netloc.lower() for url in own if url is not None and allowed_reach(listed, url) is None)
    return (*listed, *dict.fromkeys(hosts))
