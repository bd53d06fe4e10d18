"""Run calls that block on a storage in threads of their own, each for a bounded time.

A network volume that hangs blocks a thread for as long as it hangs. These threads serve only storages, so the server's
other work in threads goes on.
"""

import asyncio
import concurrent.futures
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Final, ParamSpec, TypeVar

from pywharf.core.errors import BackendUnavailableError

P = ParamSpec("P")
T = TypeVar("T")

CALL_S: Final = 30.0
"""Seconds for a call that reads or writes a little."""
_THREADS = 32


class _Pool:
    threads: concurrent.futures.ThreadPoolExecutor | None = None


@contextlib.asynccontextmanager
async def within(seconds: float | None, what: str = "The storage") -> AsyncIterator[None]:
    """Limit the duration of the context (None: no limit). Raises BackendUnavailableError past the deadline."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise BackendUnavailableError(
            f"{what} did not answer within {seconds or 0:.0f} seconds; check it, and try again."
        ) from error


def submit(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> concurrent.futures.Future[T]:
    """Start a call in a thread. The future is done when the call is, even if nobody waits for it any longer."""
    if _Pool.threads is None:
        _Pool.threads = concurrent.futures.ThreadPoolExecutor(_THREADS, "pywharf-storage")
    return _Pool.threads.submit(function, *args, **kwargs)


async def on_storage(seconds: float, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a call in a thread. Raises BackendUnavailableError if it takes longer; it may still take effect."""
    async with within(seconds):
        return await asyncio.wrap_future(submit(function, *args, **kwargs))


def close() -> None:
    """Start no further calls; running ones are left to finish."""
    if _Pool.threads is not None:
        _Pool.threads.shutdown(wait=False, cancel_futures=True)
        _Pool.threads = None
