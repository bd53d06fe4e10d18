"""Asynchronous parts for tests that block: run in a thread with an event loop of its own."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator

_START_S = 10.0
_END_S = 20.0


@contextlib.contextmanager
def in_background(part: contextlib.AbstractAsyncContextManager[None], name: str) -> Iterator[None]:
    """Hold `part` open, in a thread, within the context."""
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    ready = threading.Event()

    async def hold() -> None:
        async with part:
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(hold()), name=name)
    thread.start()
    try:
        assert ready.wait(_START_S), f"{name} did not start"
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(_END_S)
        loop.close()
