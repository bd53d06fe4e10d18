"""Resolve host names chosen by others, and check each address where the connection is made.

The DNS response cannot change between the check and the connection: the checked address is the one connected to.
"""

import asyncio
import concurrent.futures
import socket
from collections.abc import Sequence

from aiohttp import abc

from pywharf.core.addresses import Reach, reach_of

_NAME_THREADS = 4
"""Threads for name resolution only: a name server that does not answer blocks one for up to half a minute."""
_NEEDED = {
    Reach.PRIVATE: "this machine or its network segment",
    Reach.GLOBAL: "this machine or a private network; list the host among the allowed endpoints",
}

AddressInfo = tuple[int, int, int, str, tuple[str | int, ...] | tuple[int, bytes]]
"""One result of `socket.getaddrinfo`."""


class RefusedAddressError(OSError):
    """The error for an address that the host may not have."""


class Names(abc.AbstractResolver):
    """A resolver of host names to addresses that are at most as sensitive as `reach`."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._threads = concurrent.futures.ThreadPoolExecutor(_NAME_THREADS, "pywharf-names")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[abc.ResolveResult]:
        """Resolve a host; see AbstractResolver. Raises OSError if no address may be used."""
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads, resolve, host, port, self._reach, family
        )
        numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        return [
            abc.ResolveResult(
                hostname=host, host=str(address[0]), port=port, family=kind, proto=protocol, flags=numeric
            )
            for kind, _, protocol, _, address in found
        ]

    def socket(self, info: AddressInfo) -> socket.socket:
        """Return a socket for a connection to that address. Raises RefusedAddressError, also for a literal address."""
        check(str(info[4][0]), self._reach)
        return socket.socket(family=info[0], type=info[1], proto=info[2])

    async def close(self) -> None:
        """Stop the threads; see AbstractResolver."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def resolve(host: str, port: int, reach: Reach, family: int = socket.AF_UNSPEC) -> Sequence[AddressInfo]:
    """Return the addresses of a host that may be used; blocks. Raises OSError if there are none."""
    infos = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG)
    usable = [info for info in infos if reach_of(str(info[4][0])) >= reach]
    if not usable:
        raise RefusedAddressError(f"{host} has an address of {_NEEDED.get(reach, 'no kind')}")
    return usable


def check(address: str, reach: Reach) -> None:
    """Raise RefusedAddressError for an address that is more sensitive than `reach`."""
    if reach_of(address) < reach:
        raise RefusedAddressError(f"{address} is an address of {_NEEDED.get(reach, 'no kind')}")
