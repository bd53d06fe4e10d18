"""Repeat calls of a source or target that is not available now, and respect its rate limit."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pywharf.core.backoff import backoff_s
from pywharf.core.errors import RateLimitedError, UnavailableError, UpstreamTimeoutError

_logger = logging.getLogger(__name__)
T = TypeVar("T")
_ATTEMPTS = 4
_FIRST_S = 1.0
_LONGEST_S = 30.0
_JITTER = 0.5
_MAX_LIMITED_S = 2 * 3600.0
"""Longest wait in seconds for a rate limit; GitHub's resets every hour."""
TRANSIENT = (UnavailableError, UpstreamTimeoutError)
"""Errors after which the same call may succeed."""


class Retrying:
    """The calls to one source or target. If it limits the rate of one call, all calls wait."""

    def __init__(self, attempts: int = _ATTEMPTS, first_s: float = _FIRST_S) -> None:
        self._attempts, self._first_s = attempts, first_s
        self._resume_at = 0.0
        """When calls may go on, on the monotonic clock."""

    async def run(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call until it succeeds. Raises the last error after several attempts; waits for a rate limit don't count."""
        attempt = 0
        limited_until = time.monotonic() + _MAX_LIMITED_S
        while True:
            # Another call may have met the limit meanwhile; then this one meets it, too.
            await asyncio.sleep(max(self._resume_at - time.monotonic(), 0))
            try:
                return await call()
            except RateLimitedError as error:
                if time.monotonic() + error.retry_after_s > limited_until:
                    raise
                _logger.warning("%s It goes on in %d s.", error, error.retry_after_s)
                self._resume_at = max(self._resume_at, time.monotonic() + max(error.retry_after_s, 1))
            except TRANSIENT as error:
                attempt += 1
                if attempt >= self._attempts:
                    raise
                pause_s = backoff_s(attempt - 1, first_s=self._first_s, longest_s=_LONGEST_S, jitter=_JITTER)
                _logger.info("%s Trying again in %.1f s.", error, pause_s)
                await asyncio.sleep(pause_s)
