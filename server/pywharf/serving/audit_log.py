"""The writer of the audit log: one JSON line for each event, and a bounded number of those that anybody can cause."""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Literal

import msgspec
from cachetools import FIFOCache

from pywharf.core.addresses import site
from pywharf.core.audit import Event, Kind, Login, Logout, Origin, Refusal, line_of

LOGGER_NAME: Final = "pywharf.audit"
_logger = logging.getLogger(LOGGER_NAME)

Format = Literal["off", "json"]

_ADDRESS_BURST: Final = 20
_ADDRESS_EVERY_S: Final = 6.0
"""Lines about one address's refusals: a burst, then one in so many seconds. As many about its sign-ins."""
_TOTAL_BURST: Final = 200
_TOTAL_EVERY_S: Final = 0.5
"""The same for all addresses together, of a worker."""
_ADDRESSES: Final = 4096


class AuditLog:
    """The audit log of one worker."""

    def __init__(
        self,
        log_format: Format = "json",
        on_suppressed: Callable[[Kind], None] = lambda kind: None,  # noqa: ARG005
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Write in that format. `on_suppressed` is called with the kind of each event that gets no line."""
        self._is_on = log_format != "off"
        self._on_suppressed = on_suppressed
        self._refusals = _Allowances(clock)
        self._sign_ins = _Allowances(clock)

    def write(self, event: Event, origin: Origin) -> None:
        """Write the line about an event, unless it is one refusal or sign-in too many."""
        if not self._is_on:
            return
        if isinstance(event, Refusal | Login | Logout):
            allowances = self._refusals if isinstance(event, Refusal) else self._sign_ins
            suppressed = allowances.take(site(origin.address or ""))
            if suppressed is None:
                self._on_suppressed(event.kind)
                return
            event = msgspec.structs.replace(event, suppressed=suppressed)
        _logger.info("%s", msgspec.json.encode(line_of(event, origin, datetime.now(UTC))).decode())


class _Allowances:
    """The lines that all addresses may cause."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._all = _Allowance(_TOTAL_BURST, _TOTAL_EVERY_S)
        self._by_address: FIFOCache[str, _Allowance] = FIFOCache(_ADDRESSES)

    def take(self, address: str) -> int | None:
        """Return how many events of the address had no line since its last one; None if this one has none either."""
        own = self._by_address.get(address)
        if own is None:
            own = self._by_address[address] = _Allowance(_ADDRESS_BURST, _ADDRESS_EVERY_S)
        now = self._clock()
        # An address that is past its own bound takes nothing of the others' room.
        if own.takes(now) and self._all.takes(now):
            suppressed, own.suppressed = own.suppressed, 0
            return suppressed
        own.suppressed += 1
        return None


class _Allowance:
    """A burst of lines, then one in so many seconds (a token bucket)."""

    __slots__ = ("_burst", "_every_s", "_full_at", "suppressed")

    def __init__(self, burst: int, every_s: float) -> None:
        self._burst, self._every_s = burst, every_s
        self._full_at = float("-inf")
        """When the whole burst is allowed again, if nothing is written until then."""
        self.suppressed = 0

    def takes(self, now: float) -> bool:
        """Take a line if one is allowed now, and return whether it was."""
        full_at = max(now, self._full_at) + self._every_s
        if full_at - now > self._burst * self._every_s:
            return False
        self._full_at = full_at
        return True
