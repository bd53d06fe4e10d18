"""Decide whether the server may connect to a repo's store.

A store that a repo names must be among the allowed endpoints. The clouds' own hosts are allowed: their names are made
of parts that hold no dot. obstore resolves names by itself. So the addresses of a named host are checked before it is
used, and again every few seconds; an address that changes in between is noticed only then.
"""

import time
from collections.abc import Callable
from urllib.parse import urlsplit

from pywharf.core.addresses import Reach
from pywharf.core.endpoints import EndpointNotAllowedError
from pywharf.core.errors import BackendUnavailableError
from pywharf.egress.policy import Egress, proxy_for
from pywharf.egress.resolver import RefusedAddressError, resolve
from pywharf.index.threads import on_storage

_CHECK_S = 10.0
_RESOLVE_S = 10.0
_PORTS = {"http": 80, "https": 443}


class StoreEgress:
    """The check of one repo's endpoint."""

    def __init__(self, egress: Egress, endpoint: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._egress = egress
        self._endpoint = endpoint
        self._clock = clock
        self._checked_at = float("-inf")

    async def check(self) -> None:
        """Raise BackendUnavailableError if the endpoint, or the address that it has now, is not allowed."""
        if not self._endpoint or self._clock() - self._checked_at < _CHECK_S:
            return
        try:
            reach = self._egress.reach(self._endpoint, configured=self._endpoint)
        except EndpointNotAllowedError as error:
            raise BackendUnavailableError(f"endpoint: {error}.") from error
        if proxy_for(self._endpoint) is None and reach is not Reach.OWN:
            await self._check_addresses(reach)
        self._checked_at = self._clock()

    async def _check_addresses(self, reach: Reach) -> None:
        parts = urlsplit(self._endpoint)
        host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
        try:
            await on_storage(_RESOLVE_S, _all_usable, host, port, reach)
        except RefusedAddressError as error:
            raise BackendUnavailableError(f"endpoint: {error}.") from error
        except OSError as error:
            raise BackendUnavailableError(
                f"endpoint: the host {host!r} cannot be resolved; correct it, or check the name server."
            ) from error


def _all_usable(host: str, port: int, reach: Reach) -> None:
    """Raise RefusedAddressError unless every address may be used, as obstore takes any of them."""
    usable = {str(info[4][0]) for info in resolve(host, port, reach)}
    if usable != {str(info[4][0]) for info in resolve(host, port, min(Reach))}:
        raise RefusedAddressError(f"{host} has an address that is not allowed beside others")
