"""Where an index may bring this server to: its own machine and network segment are no index's to name.

What a name means is looked at where the connection is made, so it cannot change between.
"""

import asyncio
import concurrent.futures
import socket

from aiohttp import abc
from yarl import URL

from pywharf.core.addresses import is_elsewhere, is_own
from pywharf.core.errors import UpstreamError

_NAME_THREADS = 4
"""A name server that does not answer blocks a thread for up to half a minute: these, and none that serve clients."""


class Names(abc.AbstractResolver):
    """Resolves host names, to addresses elsewhere alone, unless `any_address` is wanted."""

    def __init__(self, *, any_address: bool) -> None:
        self._any_address = any_address
        self._threads = concurrent.futures.ThreadPoolExecutor(_NAME_THREADS, "pywharf-names")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[abc.ResolveResult]:
        """See AbstractResolver. Raises OSError where no address may be used."""
        found = await asyncio.get_running_loop().run_in_executor(self._threads, _look_up, host, port, family)
        usable = [one for one in found if self._any_address or is_elsewhere(one["host"])]
        if not usable:
            msg = f"{host} is an address of this machine or network segment"
            raise OSError(msg)
        return usable

    async def close(self) -> None:
        """See AbstractResolver."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _look_up(host: str, port: int, family: socket.AddressFamily) -> list[abc.ResolveResult]:
    infos = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG)
    numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    return [
        abc.ResolveResult(hostname=host, host=str(address[0]), port=port, family=kind, proto=protocol, flags=numeric)
        for kind, _, protocol, _, address in infos
    ]


def redirected(here: URL, location: str, *, configured: URL) -> URL:
    """Where a redirect leads; `configured` is what was asked first.

    Raises UpstreamError where it may not lead there, ValueError where it is no URL.
    """
    target = here.join(URL(location))
    if target.scheme not in {"http", "https"} or not target.host or target.user or target.password:
        why = "is no plain http(s) URL"
    elif here.scheme == "https" and target.scheme != "https":
        why = "is without TLS"
    elif is_own(target.host) and target.origin() != configured.origin():
        why = "is this machine or its network segment"
    else:
        return target
    msg = f"The extra index redirects to an address that {why}."
    raise UpstreamError(msg)
