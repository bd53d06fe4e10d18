"""Slots for work in threads that repos wait for: a bounded number, shared fairly by their holders."""

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator


class FairSlots:
    """A bounded number of slots. A holder gets another one only while it holds fewer than are free.

    So one slot is left for a holder that has none. The holder with the fewest slots comes first; of several, the one
    that has been waiting longest since it was granted one.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._held: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        """By holder. One that is granted a slot and waits for more becomes the last."""

    @contextlib.asynccontextmanager
    async def one(self, holder: str) -> AsyncIterator[None]:
        """Wait for a slot, and hold it within the context."""
        await self._acquire(holder)
        try:
            yield
        finally:
            self._release(holder)

    async def _acquire(self, holder: str) -> None:
        if holder not in self._waiting and self._held[holder] < self._free:
            self._take(holder)
            return
        granted = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(holder, deque()).append(granted)
        try:
            await granted
        except asyncio.CancelledError:
            if granted.cancelled():
                self._drop(holder, granted)
            else:  # it was granted in the same moment
                self._release(holder)
            raise

    def _take(self, holder: str) -> None:
        self._free -= 1
        self._held[holder] += 1

    def _release(self, holder: str) -> None:
        self._free += 1
        self._held[holder] -= 1
        if not self._held[holder]:
            del self._held[holder]
        while self._waiting:
            first = min(self._waiting, key=lambda one: self._held[one])
            if self._held[first] >= self._free:
                return
            waiting = self._waiting.pop(first)
            granted = waiting.popleft()
            if waiting:
                self._waiting[first] = waiting
            if not granted.cancelled():
                self._take(first)
                granted.set_result(None)

    def _drop(self, holder: str, granted: asyncio.Future[None]) -> None:
        """Forget a future that nobody awaits."""
        waiting = self._waiting.get(holder)
        if waiting is not None and granted in waiting:
            waiting.remove(granted)
            if not waiting:
                del self._waiting[holder]
