"""Listening sockets. `::` accepts IPv4 and IPv6, so that nobody needs to know which of them a machine has."""

import errno
import socket

ANY = "::"
"""All addresses of this machine, IPv6 and IPv4."""
_ANY_IPV4 = "0.0.0.0"  # noqa: S104 - pods must be reached
_NO_IPV6 = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT}


def listen(host: str, port: int, backlog: int = 1024) -> socket.socket:
    """Listen on an address; `::` means IPv6 and IPv4, or IPv4 alone if the kernel has no IPv6. Raises OSError."""
    if host != ANY:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=backlog)
    try:
        return socket.create_server((ANY, port), family=socket.AF_INET6, backlog=backlog, dualstack_ipv6=True)
    except ValueError:  # this Python or kernel does not support such a socket
        pass
    except OSError as error:
        if error.errno not in _NO_IPV6:
            raise
    return socket.create_server((_ANY_IPV4, port), family=socket.AF_INET, backlog=backlog)


def url_host(address: str) -> str:
    """Return an address as it is written in a URL."""
    return f"[{address}]" if ":" in address else address
