"""The requests in progress, so that a stopping server can let them finish."""

import asyncio
import contextlib


class RunningRequests:
    """A counter of requests, each from its head to the last byte of its response: `with running:` counts one.

    The framework's own shutdown discards what running uploads still send, so it may begin only after `finish`.
    """

    def __init__(self) -> None:
        self._count = 0
        self._none = asyncio.Event()
        self._none.set()
        self.ending = False
        """Whether the server is stopping, so that connections should be closed after their response."""

    def __enter__(self) -> None:
        self._count += 1
        self._none.clear()

    def __exit__(self, *exc_info: object) -> None:
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
