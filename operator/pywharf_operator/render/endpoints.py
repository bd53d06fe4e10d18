"""Which hosts a server lets repos name."""

from urllib.parse import urlsplit

from pywharf.core.addresses import is_own
from pywharf_operator.spec.forms import PUBLIC_ENDPOINTS
from pywharf_operator.spec.package_server import PackageServer

_PORTS = {"http": 80, "https": 443}


def allowed(server: PackageServer, url: str) -> bool:
    """Whether the URL's host is on the server's list. An entry without a port stands for the scheme's own.

    No pattern stands for the server's own machine or network segment; these must be listed as they are.
    """
    listed = server.spec.allowed_endpoints
    parts = urlsplit(url)
    host, port = (parts.hostname or "").lower(), parts.port or _PORTS[parts.scheme]
    return any(
        _matches(entry.lower(), host, port, _PORTS[parts.scheme])
        for entry in (PUBLIC_ENDPOINTS if listed is None else listed)
    )


def _matches(entry: str, host: str, port: int, usual_port: int) -> bool:
    if entry == "*":
        return not is_own(host)
    named, colon, given = entry.rpartition(":") if not entry.endswith("]") else (entry, "", "")
    pattern, wanted = (named, int(given)) if colon else (entry, usual_port)
    if port != wanted:
        return False
    if pattern.startswith("*."):
        return host.endswith(pattern[1:])
    return host == pattern.strip("[]")
