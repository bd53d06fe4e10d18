"""The egress policy: which hosts the server connects to, at which addresses, and through which proxy.

Every HTTP client of the server uses it. A client's URL comes from a configuration; a redirect's target comes from the
host that responds. What uses the policy without connecting, such as a run of update_index on a volume, needs no HTTP
client.
"""

import urllib.request
from urllib.parse import urlsplit

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

_PORTS = {"http": 80, "https": 443}


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


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)
