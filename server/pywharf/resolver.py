"""Names of hosts that somebody else chose: they may not mean this machine or its network segment.

What a name means is looked at where the connection is made, so it cannot change between.
"""

import asyncio
import concurrent.futures
import socket

from aiohttp import abc

from pywharf.core.addresses import is_elsewhere

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


def leads_elsewhere(host: str) -> bool:
    """Whether a name means other machines alone, as far as it is known; blocks. For clients that resolve themselves."""
    try:
        return all(is_elsewhere(str(info[4][0])) for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
    except OSError:
        return True  # by a proxy, or not at all: then the connection fails
