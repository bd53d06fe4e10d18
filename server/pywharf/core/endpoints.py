"""Decide which hosts the server may connect to, and which addresses these hosts may have. Pure.

A list of allowed endpoints holds hosts, each with a port unless it is the scheme's default. `*.HOST` stands for every
subdomain and `*` for any host with a public address.
"""

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import SplitResult, urlsplit

from pywharf.core.addresses import Reach, is_own, literal, reach_of

PUBLIC_ENDPOINTS: Final = (
    "pypi.org",
    "files.pythonhosted.org",
    "api.github.com",
    "uploads.github.com",
    "objects.githubusercontent.com",
    "release-assets.githubusercontent.com",
)
"""Hosts of PyPI and GitHub. Never add a domain in which anybody can rent a host."""
_ENTRY: Final = re.compile(r"\*|(\[[0-9A-Fa-f:.]+\]|(\*\.)?[A-Za-z0-9_.-]+)(:[0-9]{1,5})?")
_PORTS: Final = {"http": 80, "https": 443}


class EndpointNotAllowedError(ValueError):
    """The server may not connect to a URL's host, or to a host's address. The text gives the reason and the remedy."""


def allowed_reach(listed: Sequence[str], url: str) -> Reach | None:
    """Return the most sensitive address that the URL's host may have; None if the host is not on the list.

    A listed host may have a private address. A server may connect to its own machine and network segment only if an
    entry names them literally. `*` allows only public addresses.
    """
    parts = urlsplit(url)
    host, port = host_of(parts), _port(parts)
    if host is None or port is None:
        return None
    usual = _PORTS[parts.scheme]
    found = [reach for entry in listed if (reach := _reach(entry.lower(), host, port, usual)) is not None]
    least = min(found, default=None)
    if least is None or (least is not Reach.OWN and _reaches_less(host, least)):
        return None
    return least


def configured_reach(url: str) -> Reach:
    """Return the most sensitive address that a host named in the configuration itself may have."""
    return Reach.OWN if is_own(urlsplit(url).hostname or "") else Reach.PRIVATE


def redirect_reach(listed: Sequence[str] | None, configured: str, target: str) -> Reach:
    """Return the most sensitive address that the target of a redirect may have.

    `configured` is the URL in the configuration. Without a list, a redirect may lead to the same host and to the hosts
    of PyPI and GitHub. Raises EndpointNotAllowedError.
    """
    if listed is not None:
        reach = allowed_reach(listed, target)
    elif _is_same_host(configured, target):
        reach = configured_reach(target)
    else:
        reach = allowed_reach(PUBLIC_ENDPOINTS, target)
    if reach is None:
        raise not_allowed(target)
    return reach


def not_allowed(url: str) -> EndpointNotAllowedError:
    """Return the error for a URL whose host is not on the list."""
    try:
        parts = urlsplit(url)
        where = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"[:200]
    except ValueError:
        where = "no URL"
    return EndpointNotAllowedError(
        f"{where} is not among the hosts that this server may connect to; have it added to the allowed endpoints"
    )


def entries_of(listed: str) -> tuple[str, ...]:
    """Return the comma-separated entries of a flag's text."""
    return tuple(entry for part in listed.split(",") if (entry := part.strip()))


def check_endpoints(listed: str | None) -> None:
    """Raise ValueError for an entry of a flag's text that cannot name a host."""
    for entry in entries_of(listed or ""):
        if _ENTRY.fullmatch(entry) is None:
            raise ValueError(f"--allowed_endpoints: {entry[:200]!r} names no host; write HOST, HOST:PORT, *.HOST or *")


def host_of(parts: SplitResult) -> str | None:
    """Return the host of a URL in lower case and without a final dot; None if the URL has no host."""
    return (parts.hostname or "").lower().rstrip(".") or None


def _port(parts: SplitResult) -> int | None:
    try:
        return parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return None


def _reach(entry: str, host: str, port: int, usual_port: int) -> Reach | None:
    if entry == "*":
        return Reach.GLOBAL
    named, colon, given = entry.rpartition(":") if not entry.endswith("]") else (entry, "", "")
    pattern, wanted = (named, given) if colon else (entry, str(usual_port))
    if str(port) != wanted:
        return None
    if pattern.startswith("*."):
        return Reach.PRIVATE if host.endswith(pattern[1:]) else None
    if host != pattern.strip("[]").rstrip("."):
        return None
    return Reach.OWN if is_own(host) else Reach.PRIVATE


def _reaches_less(host: str, least: Reach) -> bool:
    """Return whether the host, as written, is more sensitive than `least` allows."""
    if is_own(host):
        return True
    address = literal(host)
    return address is not None and reach_of(address) < least


def _is_same_host(configured: str, target: str) -> bool:
    """Return whether both URLs mean one server: same host and port, or from plain HTTP to TLS at their usual ports."""
    one, other = urlsplit(configured), urlsplit(target)
    if host_of(one) is None or host_of(one) != host_of(other) or _port(other) is None:
        return False
    return _port(one) == _port(other) or (_port(one), _port(other)) == (80, 443)
