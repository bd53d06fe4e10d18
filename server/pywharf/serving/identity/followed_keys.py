"""Follow the keys of one issuer: fetched again and again, and earlier if a token names one that is unknown."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final, Protocol

from pywharf.core.access.jwt_keys import BadKeysError, KeySet, read_keys
from pywharf.core.backoff import backoff_s
from pywharf.core.errors import IdentityUnavailableError
from pywharf.egress.issuer_keys import KeysUnavailableError
from pywharf.serving.metrics import Metrics

_logger = logging.getLogger(__name__)
_REFRESH_S: Final = 600.0
_JITTER: Final = 0.3
_FIRST_RETRY_S: Final = 5.0
_LONGEST_RETRY_S: Final = 300.0
_UNKNOWN_S: Final = 60.0
"""Seconds between two fetches that tokens with an unknown key cause."""
HELD_S: Final = 24 * 3600.0
"""Seconds for which the last good keys are used if no others can be fetched."""


class KeyFetcher(Protocol):
    """What fetches an issuer's keys."""

    async def fetch(self, issuer: str) -> object:
        """Return the JWK set of the issuer, as JSON. Raises KeysUnavailableError. Bounded in time and size."""


class FollowedKeys:
    """The keys of one issuer in one worker."""

    def __init__(  # noqa: PLR0913 - whose keys, where they come from, and who hears of them
        self,
        issuer: str,
        name: str,
        fetcher: KeyFetcher,
        metrics: Metrics,
        *,
        on_lost: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`issuer` is the `iss`, `name` is what access entries call it.

        `on_lost` is called when a key that was there is not among the newest keys, or is another one.
        """
        self.name = name
        self._issuer = issuer
        self._fetcher = fetcher
        self._metrics = metrics
        self._on_lost = on_lost
        self._clock = clock
        self._keys: KeySet | None = None
        self._fetched_at = 0.0
        self._asked_at: float | None = None
        """When an unknown key last caused a fetch."""
        self._fault = ""
        """What the last fetch failed with; "" if it did not."""
        self._fetching: asyncio.Task[None] | None = None
        """The last fetch, which may have ended."""

    async def run(self) -> None:
        """Fetch the keys until cancelled: regularly, and after a failure earlier."""
        attempt = 0
        try:
            while True:
                await self._fetch()
                attempt = attempt + 1 if self._fault else 0
                await asyncio.sleep(pause_s(attempt))
        finally:
            if self._fetching is not None:
                self._fetching.cancel()
                await asyncio.wait([self._fetching])

    def held_until(self) -> float:
        """Return the monotonic time until which the keys may be used."""
        return self._fetched_at + HELD_S

    async def keys_for(self, key_id: str) -> KeySet:
        """Return the keys, fetched again before if that one is not among them and the last such fetch is long ago.

        Raises IdentityUnavailableError if there are none, or if the newest ones cannot be fetched.
        """
        keys = self._current()
        if keys is not None and key_id in keys.keys:
            return keys
        if self._may_ask():
            await self._fetch()
            keys = self._current()
        if keys is None or (self._fault and key_id not in keys.keys):
            raise IdentityUnavailableError
        return keys

    def _may_ask(self) -> bool:
        """Return whether a token may wait for a fetch now: for one that runs, or for a new one once a minute."""
        if self._fetching is None or not self._fetching.done():
            return True
        now = self._clock()
        if self._asked_at is not None and now - self._asked_at < _UNKNOWN_S:
            return False
        self._asked_at = now
        return True

    def _current(self) -> KeySet | None:
        return self._keys if self._keys is not None and self._clock() < self.held_until() else None

    async def _fetch(self) -> None:
        """Fetch the keys, or join the fetch that runs already."""
        if self._fetching is None or self._fetching.done():
            self._fetching = asyncio.create_task(self._take())
        await asyncio.wait([self._fetching])

    async def _take(self) -> None:
        try:
            new = await asyncio.to_thread(read_keys, await self._fetcher.fetch(self._issuer))
        except (KeysUnavailableError, BadKeysError) as error:
            self._report(str(error))
        except Exception as error:
            _logger.exception("The keys of the issuer %s cannot be taken.", self.name)
            self._report(f"internal error ({type(error).__name__})")
        else:
            old, self._keys, self._fetched_at = self._keys, new, self._clock()
            if self._fault:
                _logger.info("The keys of the issuer %s can be fetched again.", self.name)
            self._fault = ""
            self._metrics.took_identity_keys(self.name)
            if old is not None and not new.holds_all_of(old):
                self._on_lost()

    def _report(self, fault: str) -> None:
        """Count a failure, and log it if it is not the last one's."""
        self._metrics.identity_key_fetches.labels(self.name, "failed").inc()
        if fault == self._fault:
            return
        self._fault = fault
        rest = "there are none yet" if self._keys is None else "the last good ones are used for 24 hours"
        _logger.error("The keys of the issuer %s cannot be used: %s; %s.", self.name, fault, rest)


def pause_s(attempt: int) -> float:
    """Return the seconds until the next fetch, after so many that failed."""
    if not attempt:
        return backoff_s(0, first_s=_REFRESH_S, longest_s=_REFRESH_S, jitter=_JITTER)
    return backoff_s(attempt - 1, first_s=_FIRST_RETRY_S, longest_s=_LONGEST_RETRY_S, jitter=_JITTER)
