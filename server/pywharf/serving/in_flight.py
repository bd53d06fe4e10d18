"""The requests in progress, so that a stopping server can let them finish."""

import asyncio
import contextlib
from collections.abc import Iterator


class RunningRequests:
    """A counter of requests, each from its head to the last byte of its response.

    The framework's own shutdown discards what running uploads still send, so it may begin only after `finish`.
    """

    def __init__(self) -> None:
        self._count = 0
        self._none = asyncio.Event()
        self._none.set()
        self.ending = False
        """Whether the server is stopping, so that connections should be closed after their response."""

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """Count a request within the context."""
        self._count += 1
        self._none.clear()
        try:
            yield
        finally:
            self._count -= 1
            if not self._count:
                self._none.set()

    async def finish(self, longest_s: float) -> bool:
        """Wait at most `longest_s` until all requests are done. Returns whether they are."""
        self.ending = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(longest_s):
                await self._none.wait()
        return not self._count
