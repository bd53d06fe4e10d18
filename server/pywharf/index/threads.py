"""Run calls that block on a storage in threads of their own, each for a bounded time.

A network volume that hangs blocks a thread for as long as it hangs. These threads serve only storages, so the server's
other work in threads goes on.
"""

import asyncio
import concurrent.futures
import contextlib
from collections.abc import Callable
from types import TracebackType
from typing import Final, ParamSpec, TypeVar

from pywharf.core.errors import BackendUnavailableError

P = ParamSpec("P")
T = TypeVar("T")

CALL_S: Final = 30.0
"""Seconds for a call that reads or writes a little."""
_THREADS = 32


class _Pool:
    threads: concurrent.futures.ThreadPoolExecutor | None = None


class within:  # noqa: N801 - reads as `async with within(…)`
    """Limit the duration of the context (None: no limit). Raises BackendUnavailableError past the deadline.

    Every download pays for this; a generator is slow.
    """

    __slots__ = ("_seconds", "_timeout", "_what")

    def __init__(self, seconds: float | None, what: str = "The storage") -> None:
        self._seconds, self._what = seconds, what
        self._timeout = asyncio.timeout(seconds)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError as late:
            raise self._late() from late
        if isinstance(error, TimeoutError):
            raise self._late() from error

    def _late(self) -> BackendUnavailableError:
        return BackendUnavailableError(
            f"{self._what} did not answer within {self._seconds or 0:.0f} seconds; check it, and try again."
        )


def submit(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> concurrent.futures.Future[T]:
    """Start a call in a thread. The future is done when the call is, even if nobody waits for it any longer."""
    if _Pool.threads is None:
        _Pool.threads = concurrent.futures.ThreadPoolExecutor(_THREADS, "pywharf-storage")
    return _Pool.threads.submit(function, *args, **kwargs)


async def on_storage(seconds: float, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a call in a thread. Raises BackendUnavailableError if it takes longer; it may still take effect."""
    async with within(seconds):
        return await asyncio.wrap_future(submit(function, *args, **kwargs))


class BoundedCalls:
    """The calls on one storage, of which so many run concurrently. One that hangs leaves threads to the others."""

    def __init__(self, most: int, what: str = "The storage") -> None:
        """`what` names the storage in messages, at the beginning of a sentence."""
        self._slots = asyncio.Semaphore(most)
        self._what = what

    async def run(self, seconds: float | None, function: Callable[[], T]) -> T:
        """Run a call in a thread. Raises BackendUnavailableError if it takes longer; it may still take effect."""
        loop = asyncio.get_running_loop()
        async with within(seconds, self._what):
            await self._slots.acquire()
            running = submit(function)
            # The slot becomes free only when the thread is done, so that a storage that hangs holds so many at most.
            running.add_done_callback(lambda _: _soon(loop, self._slots.release))
            return await asyncio.wrap_future(running)


def _soon(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    """Schedule a call in the event loop from any thread; do nothing if the loop is closed."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function)


def close() -> None:
    """Start no further calls; running ones are left to finish."""
    if _Pool.threads is not None:
        _Pool.threads.shutdown(wait=False, cancel_futures=True)
        _Pool.threads = None
