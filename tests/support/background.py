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
    failure: list[BaseException] = []

    async def hold() -> None:
        async with part:
            ready.set()
            await stop.wait()

    def run() -> None:
        try:
            loop.run_until_complete(hold())
        except BaseException as error:  # noqa: BLE001 - it is raised in the test's own thread
            failure.append(error)
        finally:
            loop.close()
            ready.set()

    thread = threading.Thread(target=run, name=name)
    thread.start()
    try:
        assert ready.wait(_START_S), f"{name} did not start"
        if not failure:
            yield
    finally:
        if not failure:
            loop.call_soon_threadsafe(stop.set)
        thread.join(_END_S)
    if failure:
        raise failure[0]
