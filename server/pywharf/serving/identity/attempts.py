"""Bound the tokens that one address may have refused, so that a burst of forged ones does not hold up the others."""

import time
from collections.abc import Callable
from typing import Final

from cachetools import FIFOCache

from pywharf.core.addresses import site
from pywharf.core.errors import BusyError

WINDOW_S: Final = 10.0
MOST: Final = 500
"""Refused tokens of one address in a window. Each costs about a tenth of a millisecond."""
_ADDRESSES: Final = 4096
"""Addresses that are remembered."""


class Attempts:
    """The refused tokens by address. Tokens that were accepted, and accepted again, are not counted."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._windows: FIFOCache[str, tuple[float, int]] = FIFOCache(_ADDRESSES)
        """When an address's window began, and how many were refused in it."""

    def check(self, address: str) -> None:
        """Raise BusyError if no other token of the address may be verified now."""
        began, count = self._windows.get(site(address), (0.0, 0))
        if count >= MOST and self._clock() < began + WINDOW_S:
            raise BusyError("Too many tokens from your address were refused; try again in some seconds.")

    def note(self, address: str) -> None:
        """Count a refused token."""
        client, now = site(address), self._clock()
        began, count = self._windows.get(client, (now, 0))
        self._windows[client] = (began, count + 1) if now < began + WINDOW_S else (now, 1)
