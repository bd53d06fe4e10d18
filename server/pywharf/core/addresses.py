"""Addresses that no configuration or redirect of somebody else's should lead to: this machine and its network segment.

Behind them are ports that trust whoever reaches them, and a cloud's metadata service (169.254.169.254).
"""

import ipaddress

_MAPPED = "::ffff:"


def is_elsewhere(address: str) -> bool:
    """Whether an IP address is another machine's, beyond the network segment. Raises ValueError for what is none."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return not (ip.is_loopback or ip.is_link_local or ip.is_unspecified or ip.is_multicast)


def plain(address: str) -> str:
    """An address as people write it: one of IPv4 that a socket of both families shows as of IPv6 is of IPv4."""
    return address.removeprefix(_MAPPED) if "." in address else address


def site(address: str) -> str:
    """Whom an address belongs to, so that one client counts once: a host of IPv6 has a whole /64."""
    try:
        ip = ipaddress.ip_address(plain(address).partition("%")[0])
    except ValueError:
        return address
    return str(ip) if ip.version == 4 else str(ipaddress.ip_network((ip, 64), strict=False))  # noqa: PLR2004


def is_own(host: str) -> bool:
    """Whether a host as it is written, without asking anybody, is this machine or its network segment."""
    try:
        return not is_elsewhere(host)
    except ValueError:
        name = host.lower()
        return name == "localhost" or name.endswith(".localhost")
