"""The requests under way, so that a server that stops can let them come to their end."""

import asyncio
import contextlib
from collections.abc import Iterator


class RunningRequests:
    """Counts requests from their heads to the last byte of their answers.

    The framework's own shutdown throws away what running uploads still send, so it may begin only after `finish`.
    """

    def __init__(self) -> None:
        self._count = 0
        self._none = asyncio.Event()
        self._none.set()
        self.ending = False
        """Whether the server was told to stop, so that connections should be closed after their answer."""

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
        """Wait until all are done, at most so long; whether they are."""
        self.ending = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(longest_s):
                await self._none.wait()
        return not self._count
