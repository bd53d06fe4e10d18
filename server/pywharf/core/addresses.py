"""Classify IP addresses by where a connection to them leads. Only this module knows the spellings of addresses.

An address of this machine or its network segment leads to ports that trust every client, and to a cloud's metadata
service. An IPv6 address may embed an IPv4 address, to which a gateway or a kernel may translate it; each such form is
classified by the embedded address. Source of the ranges: IANA's special-purpose address registries.
"""

import enum
import ipaddress
from collections.abc import Iterator

_Ip = ipaddress.IPv4Address | ipaddress.IPv6Address


class Reach(enum.IntEnum):
    """Where an address leads, from the most to the least sensitive."""

    OWN = 0
    """This machine, its network segment (including multicast and broadcast), or a cloud's metadata service."""
    PRIVATE = 1
    """Other networks that are not part of the public internet."""
    GLOBAL = 2
    """The public internet."""


_OWN_V4 = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "224.0.0.0/4",
            "255.255.255.255/32",
            # Metadata services of Alibaba Cloud, Azure and Oracle Cloud.
            "100.100.100.200/32",
            "168.63.129.16/32",
            "192.0.0.192/32",
        ),
    )
)
_PRIVATE_V4 = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "10.0.0.0/8",
            "100.64.0.0/10",
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.88.99.0/24",
            "192.168.0.0/16",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "240.0.0.0/4",
        ),
    )
)
_OWN_V6 = tuple(
    map(
        ipaddress.IPv6Network,
        (
            "::/128",
            "::1/128",
            "fe80::/10",
            "ff00::/8",
            # Node-local services of AWS, Google Cloud and Scaleway.
            "fd00:ec2::/32",
            "fd20:ce::254/128",
            "fd00:42::42/128",
        ),
    )
)
_UNICAST = ipaddress.IPv6Network("2000::/3")
_PRIVATE_V6 = tuple(map(ipaddress.IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")
_TRANSLATED = ipaddress.IPv6Network("::ffff:0:0:0/96")
_COMPATIBLE = ipaddress.IPv6Network("::/96")
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})
_V4_BITS = 0xFFFFFFFF
_MAX_PARTS = 4


def reach_of(address: str) -> Reach:
    """Return where an IP address leads; it may carry a zone (`fe80::1%eth0`). Raises ValueError for other texts."""
    return _reach(ipaddress.ip_address(address.partition("%")[0]))


_MAPPED = "::ffff:"


def plain(address: str) -> str:
    """Return an address as people write it: `::ffff:1.2.3.4`, which a dual-stack socket reports, becomes `1.2.3.4`."""
    return address.removeprefix(_MAPPED) if "." in address else address


def site(address: str) -> str:
    """Return the address or network that counts as one client. An IPv6 host counts by its /64, as it has all of it."""
    try:
        ip = ipaddress.ip_address(plain(address).partition("%")[0])
    except ValueError:
        return address
    return str(ip) if isinstance(ip, ipaddress.IPv4Address) else str(ipaddress.ip_network((ip, 64), strict=False))


def is_own(host: str) -> bool:
    """Return whether a host, as written and without resolving it, is this machine or its network segment."""
    address = literal(host)
    if address is not None:
        return reach_of(address) is Reach.OWN
    name = host.lower().rstrip(".")
    return name == "localhost" or name.endswith(".localhost")


def literal(host: str) -> str | None:
    """Return the address that a host stands for, without resolving it; None for a name.

    Accepts the numeric spellings of the C library, too, such as `127.1`, `2130706433`, `0x7f000001` and `0177.0.0.1`.
    """
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        return str(ipaddress.ip_address(bare.partition("%")[0]))
    except ValueError:
        return _numeric(bare.lower().rstrip("."))


def _numeric(host: str) -> str | None:
    parts = host.split(".")
    if len(parts) > _MAX_PARTS:
        return None
    try:
        numbers = [_number(part) for part in parts]
    except ValueError:
        return None
    *first, last = numbers
    rest = 8 * (_MAX_PARTS - len(first))
    if any(number > 0xFF for number in first) or last >= 1 << rest:  # noqa: PLR2004 - a byte
        return None
    value = last
    for position, number in enumerate(first):
        value |= number << (24 - 8 * position)
    return str(ipaddress.IPv4Address(value))


def _number(part: str) -> int:
    if not part.isascii() or not part.isalnum():
        raise ValueError
    if part.startswith("0x"):
        return int(part[2:] or "0", 16)
    return int(part, 8 if part.startswith("0") else 10)


def _reach(ip: _Ip) -> Reach:
    if isinstance(ip, ipaddress.IPv4Address):
        if any(ip in network for network in _OWN_V4):
            return Reach.OWN
        return Reach.PRIVATE if any(ip in network for network in _PRIVATE_V4) else Reach.GLOBAL
    if ip.ipv4_mapped is not None:
        return _reach(ip.ipv4_mapped)
    if ip in _NAT64:  # how an IPv6-only network reaches the IPv4 internet
        return _reach(_v4(int(ip)))
    if any(ip in network for network in _OWN_V6):
        return Reach.OWN
    is_global = ip in _UNICAST and not any(ip in network for network in _PRIVATE_V6)
    return min([Reach.GLOBAL if is_global else Reach.PRIVATE, *map(_reach, _embedded(ip))])


def _embedded(ip: ipaddress.IPv6Address) -> Iterator[ipaddress.IPv4Address]:
    """Yield the IPv4 addresses to which a gateway or a kernel may translate an IPv6 address."""
    bits = int(ip)
    if ip in _COMPATIBLE or ip in _TRANSLATED or (bits >> 32) & _V4_BITS in _ISATAP:
        yield _v4(bits)
    if ip.sixtofour is not None:
        yield ip.sixtofour
    if ip.teredo is not None:
        yield from ip.teredo
    if ip in _LOCAL_NAT64:
        yield from _of_local_nat64(bits)


def _of_local_nat64(bits: int) -> Iterator[ipaddress.IPv4Address]:
    """Yield the IPv4 address that each prefix length of RFC 6052 gives. Bits 64 to 71 are zero and hold nothing."""
    yield _v4(bits)
    joined = (bits >> 64 & (1 << 64) - 1) << 56 | bits & (1 << 56) - 1
    for length in (48, 56, 64):
        found = _v4(joined >> (120 - length - 32))
        # A longer prefix leaves zeros where a shorter one has the address.
        if int(found) >> 24:
            yield found


def _v4(bits: int) -> ipaddress.IPv4Address:
    return ipaddress.IPv4Address(bits & _V4_BITS)
