"""The hosts that a server allows its repos to name."""

from pywharf.core.endpoints import PUBLIC_ENDPOINTS, allowed_reach
from pywharf_operator.spec.package_server import PackageServer


def allowed(server: PackageServer, url: str) -> bool:
    """Return whether the URL's host is on the server's list. An entry without a port means the scheme's own port.

    No pattern matches the server's own machine or network segment; these must be listed literally.
    """
    return allowed_reach(endpoints_of(server), url) is not None


def endpoints_of(server: PackageServer) -> tuple[str, ...]:
    """Return the hosts that repos may name and that redirects may lead to."""
    listed = server.spec.allowed_endpoints
    return PUBLIC_ENDPOINTS if listed is None else listed
