"""A storage whose answers never end: it sends one byte every few seconds."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

from aiohttp import web

from support.background import in_background

_PAUSE_S = 5.0


class Dribbling:
    """The storage's server. `url` is its address; `asked` counts the requests."""

    def __init__(self) -> None:
        self.url = ""
        self.asked = 0

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0, handler_cancellation=True)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "1000000"})
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(_PAUSE_S)


@contextlib.contextmanager
def dribbling() -> Iterator[Dribbling]:
    """Run a dribbling storage within the context."""
    made = Dribbling()
    with in_background(made.serving(), "dribbling"):
        yield made
