"""Asynchronous parts for blocking tests, run in a thread with its own event loop."""

import asyncio
import contextlib
import selectors
import threading
from collections.abc import Iterator

_START_S = 10.0
_END_S = 20.0
_CLOSE_S = 5.0
"""Seconds that connections may take to close. TLS sends a closing message to its peer, which may be gone."""


@contextlib.contextmanager
def in_background(part: contextlib.AbstractAsyncContextManager[None], name: str) -> Iterator[None]:
    """Hold `part` open in a thread within the context."""
    selector = selectors.DefaultSelector()
    loop = asyncio.SelectorEventLoop(selector)
    own = set(selector.get_map())
    """Descriptors of the loop itself."""
    stop = asyncio.Event()
    ready = threading.Event()
    failure: list[BaseException] = []

    async def hold() -> None:
        async with part:
            ready.set()
            await stop.wait()

    async def wait_until_closed() -> None:
        """Wait until no socket is left: a socket that outlives its loop would be reported by the next test."""
        end = loop.time() + _CLOSE_S
        while left := set(selector.get_map()) - own:
            if loop.time() > end:
                msg = f"{name} leaves {len(left)} sockets open: close what opened them"
                raise AssertionError(msg)
            await asyncio.sleep(0.01)

    def run() -> None:
        try:
            try:
                loop.run_until_complete(hold())
            finally:
                loop.run_until_complete(wait_until_closed())
                loop.run_until_complete(loop.shutdown_default_executor())
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
