"""What proxies report about a client, and how much of it is believed. Pure.

Only X-Forwarded-For is read, never RFC 7239's Forwarded: proxies set the former by default, and one that does so
passes a client's own Forwarded on as it came (docs/decisions/0039-audit-and-brakes.md).
"""

import functools
import ipaddress
from collections.abc import Iterator, Sequence

from pywharf.core.addresses import plain

_Ip = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_NETWORKS = 64
_MAX_HOPS = 32
"""Proxies in a row. An address that follows more of them is not looked for."""
_MAX_CACHED = 512
"""Characters of a header whose answer is cached."""


def parse_networks(text: str, name: str) -> tuple[_Network, ...]:
    """Parse addresses and networks in CIDR form, separated by commas. Raises ValueError; `name` is the setting's."""
    given = [part.strip() for part in text.split(",") if part.strip()]
    if not given:
        raise ValueError(f"{name} is empty; give networks such as 10.1.2.0/24, or leave it out")
    if len(given) > MAX_NETWORKS:
        raise ValueError(f"{name} has {len(given)} networks; at most {MAX_NETWORKS} are allowed")
    return tuple(_network(part, name) for part in given)


def _network(part: str, name: str) -> _Network:
    try:
        network = ipaddress.ip_network(part)
    except ValueError as error:
        raise ValueError(f"{name}: {part[:80]!r} is no network ({error}); write for example 10.1.2.0/24") from None
    if not network.prefixlen:
        # Everybody could claim any address, and with --proxy_headers be anybody.
        raise ValueError(f"{name}: {part[:80]!r} is every address; list those of the proxies")
    if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped is not None:
        raise ValueError(f"{name}: write {part[:80]!r} in its IPv4 form")
    return network


class TrustedProxies:
    """The networks whose proxies are believed about the clients that they serve."""

    def __init__(self, networks: Sequence[_Network] = (), *, name_people: bool = False) -> None:
        self.networks = tuple(networks)
        self.name_people = name_people
        """Whether they also say who a person is (`pywharf.core.access.proxy_users`)."""
        self.trusts = functools.lru_cache(maxsize=4096)(self._trusts)
        """Return whether an address is a proxy's."""
        self._cached_client_of = functools.lru_cache(maxsize=4096)(self._client_of)

    def client_of(self, peer: str, forwarded_for: str) -> str:
        """Return the client's address: that of the last hop which is not a trusted proxy's.

        `peer` is the address that has connected, `forwarded_for` all values of X-Forwarded-For, joined by commas. Each
        proxy adds the address that it was asked from at the end, so the end is what trusted ones have written, and
        everything before it a client's invention. A hop that is no address ends the search: the client is then the
        proxy that reported it, so that no client can hide behind an address that does not exist.
        """
        if len(forwarded_for) <= _MAX_CACHED:
            return self._cached_client_of(peer, forwarded_for)
        return self._client_of(peer, forwarded_for)

    def _client_of(self, peer: str, forwarded_for: str) -> str:
        client = plain(peer)
        for hop in _from_the_end(forwarded_for):
            if not self.trusts(client):
                break
            address = _address(hop)
            if address is None:
                break
            client = address
        return client

    def _trusts(self, address: str) -> bool:
        ip = _ip(address)
        return ip is not None and any(ip in network for network in self.networks)


def _from_the_end(forwarded_for: str) -> Iterator[str]:
    rest = forwarded_for
    for _ in range(_MAX_HOPS):
        rest, comma, hop = rest.rpartition(",")
        yield hop.strip()
        if not comma:
            return


def _address(hop: str) -> str | None:
    """Return the address of a hop, which may carry a port: `1.2.3.4:80`, `[::1]:80`."""
    if hop.startswith("["):
        hop, bracket, port = hop[1:].partition("]")
        if not bracket or (port and not _is_port(port)):
            return None
    elif hop.count(":") == 1:
        hop, _, port = hop.partition(":")
        if not _is_port(f":{port}"):
            return None
    ip = _ip(hop)
    return None if ip is None else str(ip)


def _is_port(text: str) -> bool:
    return len(text) <= len(":65535") and text.startswith(":") and text[1:].isascii() and text[1:].isdigit()


def _ip(text: str) -> _Ip | None:
    if "%" in text:  # a zone: an address of one machine's own
        text = text.partition("%")[0]
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(ip, "ipv4_mapped", None) or ip
