"""Slow down clients that send wrong secrets again and again."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

from pywharf.core.addresses import site
from pywharf.serving.wrong_secrets import WrongSecrets

_DELAY_S = 1.0
_MAX_DELAYED_OF_ADDRESS = 8
_MAX_DELAYED = 64
"""Answers of a worker that wait, of one address and of all. Further ones do not wait: they would hold connections."""


class Brake:
    """The brake of one worker on wrong secrets. What it counts by, all workers share."""

    def __init__(
        self,
        wrong_secrets: WrongSecrets | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._wrong_secrets = wrong_secrets or WrongSecrets()
        self._sleep = sleep
        self._delayed: Counter[str] = Counter()

    async def wrong(self, address: str, repo: str) -> float:
        """Count a wrong secret. Returns seconds for Retry-After, after a delay, if there were too many; otherwise 0."""
        wait_s, address = self._wrong_secrets.note(address, repo), site(address)
        if wait_s and self._delayed[address] < _MAX_DELAYED_OF_ADDRESS and self._delayed.total() < _MAX_DELAYED:
            self._delayed[address] += 1
            try:
                await self._sleep(_DELAY_S)
            finally:
                self._delayed[address] -= 1
                if not self._delayed[address]:
                    del self._delayed[address]
        return wait_s
