"""Read NO_PROXY as Go programs do, so that one value serves a whole cluster. Pure.

Source: `golang.org/x/net/http/httpproxy`. Entries are separated by commas. Each is `*`, an address, a range in CIDR
form, or a domain. A domain also stands for its subdomains; with a leading dot (`.corp`, `*.corp`) it stands for
subdomains only. An address or a domain may be followed by a port. This machine is never reached through a proxy.
"""

import ipaddress

_Ip = ipaddress.IPv4Address | ipaddress.IPv6Address


def bypasses_proxy(host: str, port: int, no_proxy: str) -> bool:
    """Return whether a connection to the host is made directly although a proxy is configured."""
    name = host.strip().lower().strip("[]")
    address = _address(name)
    if name == "localhost" or (address is not None and address.is_loopback):
        return True
    return any(_matches(entry, name, address, port) for entry in map(str.strip, no_proxy.lower().split(",")) if entry)


def _matches(entry: str, name: str, address: _Ip | None, port: int) -> bool:
    if entry == "*":
        return True
    if "/" in entry:
        return address is not None and _is_within(entry, address)
    pattern, wanted = _split_port(entry)
    if wanted is not None and wanted != str(port):
        return False
    listed = _address(pattern)
    if listed is not None or address is not None:
        return listed == address
    domain = pattern[1:] if pattern.startswith("*.") else pattern
    if not domain.startswith("."):
        return name == domain or name.endswith(f".{domain}")
    return len(domain) > 1 and name.endswith(domain)


def _split_port(entry: str) -> tuple[str, str | None]:
    if entry.startswith("["):
        host, _, rest = entry[1:].partition("]")
        return host, rest.removeprefix(":") or None
    host, colon, port = entry.rpartition(":")
    # More than one colon: an IPv6 address without a port.
    return (host, port) if colon and ":" not in host and host else (entry, None)


def _address(text: str) -> _Ip | None:
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def _is_within(entry: str, address: _Ip) -> bool:
    try:
        network = ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False
    return address in network
