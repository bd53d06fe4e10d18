"""A proxy before an object store: it breaks chosen requests, and counts all."""

import asyncio
import contextlib
import io
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import aiohttp
from aiohttp import web
from yarl import URL

_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive"}
SLOW_DOWN = "<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"


@dataclass
class StoreFault:
    """A fault of the next `times` requests with this method and key (a pattern that is searched in path and query).

    `cut`: the connection is closed and the store never sees the request. `lost`: the store does what is asked, and the
    connection is closed before the answer. `hang`: nothing happens until the proxy ends. `half`: half of the body.
    """

    method: str
    key: str
    do: Literal["cut", "lost", "hang", "half"] | int
    times: int = 1
    body: str = SLOW_DOWN
    location: str | None = None
    """Where an answer with a status redirects to."""

    def fits(self, method: str, path: str) -> bool:
        return (
            self.times > 0 and re.fullmatch(self.method, method) is not None and re.search(self.key, path) is not None
        )


@dataclass
class FaultProxy:
    """`faults` are what breaks; `seen` what was asked: method and path. `stripped` headers never reach the store."""

    target: str
    url: str = ""
    faults: list[StoreFault] = field(default_factory=list)
    seen: list[tuple[str, str]] = field(default_factory=list)
    stripped: set[str] = field(default_factory=set)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request.method, request.raw_path))
        fault = next((one for one in self.faults if one.fits(request.method, request.raw_path)), None)
        if fault is not None:
            fault.times -= 1
        body = await request.read()
        match fault.do if fault is not None else None:
            case "cut":
                return self._cut(request)
            case "hang":
                await asyncio.sleep(3600)
            case int() as status:
                assert fault is not None
                moved = {} if fault.location is None else {"Location": fault.location}
                return web.Response(status=status, headers=moved, text=fault.body, content_type="application/xml")
        headers = {
            name: value for name, value in request.headers.items() if name.lower() not in {*_HOP, *self.stripped}
        }
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.request(
                request.method,
                URL(self.target + request.raw_path, encoded=True),
                headers=headers,
                data=io.BytesIO(body) if body else None,
                allow_redirects=False,
            ) as reply,
        ):
            content = await reply.read()
            if fault is not None and fault.do == "lost":
                return self._cut(request)
            own = {name: value for name, value in reply.headers.items() if name.lower() not in _HOP}
            if request.method == "HEAD":
                own["Content-Length"] = reply.headers.get("Content-Length", "0")
            if fault is not None and fault.do == "half":
                response = web.StreamResponse(status=reply.status, headers=own)
                response.content_length = len(content)
                await response.prepare(request)
                await response.write(content[: len(content) // 2])
                return self._cut(request)
            return web.Response(status=reply.status, headers=own, body=content if request.method != "HEAD" else None)

    @staticmethod
    def _cut(request: web.Request) -> web.Response:
        if request.transport is not None:
            request.transport.abort()
        return web.Response()


@contextlib.contextmanager
def fault_proxy(target: str) -> Iterator[FaultProxy]:
    """Run a proxy to the store's URL (scheme, host and port) in a thread, within the context."""
    proxy = FaultProxy(target)
    started = threading.Event()
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{path:.*}", proxy.handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        proxy.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        ended = asyncio.Event()
        running.append((asyncio.get_running_loop(), ended))
        started.set()
        await ended.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert started.wait(30)
    try:
        yield proxy
    finally:
        loop, ended = running[0]
        loop.call_soon_threadsafe(ended.set)
        thread.join(30)
