"""Listening sockets: `::` takes the connections of both families, so that nobody need know which a machine has."""

import errno
import socket

ANY = "::"
"""All addresses of this machine, of IPv6 and IPv4."""
_ANY_IPV4 = "0.0.0.0"  # noqa: S104 - pods must be reached
_NO_IPV6 = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT}


def listen(host: str, port: int, backlog: int = 1024) -> socket.socket:
    """Listen on an address; on `::` for both families, or IPv4 alone where the kernel has no other. Raises OSError."""
    if host != ANY:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=backlog)
    try:
        return socket.create_server((ANY, port), family=socket.AF_INET6, backlog=backlog, dualstack_ipv6=True)
    except ValueError:  # this Python or kernel knows no such socket
        pass
    except OSError as error:
        if error.errno not in _NO_IPV6:
            raise
    return socket.create_server((_ANY_IPV4, port), family=socket.AF_INET, backlog=backlog)


def url_host(address: str) -> str:
    """An address as it stands in a URL."""
    return f"[{address}]" if ":" in address else address
