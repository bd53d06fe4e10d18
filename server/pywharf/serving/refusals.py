"""Count wrong secrets by client address, so that one client cannot use up the requests that storages allow to all."""

import time
from collections import deque
from collections.abc import Callable

from cachetools import FIFOCache

from pywharf.core.addresses import site

_WINDOW_S = 60.0
_MAX_PER_ADDRESS = 60
"""Wrong secrets of one address in a window. Past it, the address's unknown secrets must wait."""
_MAX_TOTAL = 600
"""Wrong secrets of all addresses in a window. Past it, the addresses that sent one must wait.

A storage locks out a server that asks more often.
"""
_ADDRESSES = 4096
"""The maximum number of addresses that are remembered."""
_USUAL_S = 0.3


class Refusals:
    """The wrong secrets of the last minute, over all repos."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._by_address: FIFOCache[str, deque[float]] = FIFOCache(_ADDRESSES)
        """Evicts the address whose last wrong secret is the oldest; asking again does not keep an address."""
        self._all: deque[float] = deque(maxlen=_MAX_TOTAL)
        self.usual_s = _USUAL_S
        """Seconds that a storage took for the last refusal; clients of an unknown repo wait as long."""

    def note(self, address: str, took_s: float | None = None) -> None:
        """Count a wrong secret; `took_s` is the seconds that a storage took to refuse it."""
        now = self._clock()
        key = site(address)
        own = self._by_address.get(key) or deque(maxlen=_MAX_PER_ADDRESS)
        own.append(now)
        self._by_address[key] = own
        self._all.append(now)
        if took_s is not None:
            self.usual_s = took_s

    def wait_s(self, address: str) -> float:
        """Return the seconds until a storage may be asked about another secret of the address; 0: now."""
        now = self._clock()
        own = self._by_address.get(site(address))
        if own is None or own[-1] + _WINDOW_S <= now:
            return 0.0
        waits = [times[0] + _WINDOW_S - now for times in (own, self._all) if len(times) == times.maxlen]
        return max([0.0, *waits])
