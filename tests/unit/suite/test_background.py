"""Check that parts that run in a thread leave nothing open. A leak would be reported in the test that runs next."""

import asyncio
import contextlib
import gc
import socket
import ssl
import warnings
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from support.background import in_background
from support.certificates import Certificates, certificates

WATCHES = 6


class Watched:
    """A TLS server whose answers never end."""

    def __init__(self, made: Certificates) -> None:
        self._made = made
        self.url = ""

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        async def answer(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(b"event\n")
            await asyncio.Event().wait()
            raise AssertionError

        app = web.Application()
        app.router.add_get("/", answer)
        runner = web.AppRunner(app, shutdown_timeout=0, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self._made.server_context()).start()
        self.url = f"https://127.0.0.1:{runner.addresses[0][1]}/"
        try:
            yield
        finally:
            await runner.cleanup()


@contextlib.asynccontextmanager
async def watching(url: str, context: ssl.SSLContext) -> AsyncIterator[None]:
    connector = aiohttp.TCPConnector(ssl=context)
    async with aiohttp.ClientSession(connector=connector) as session, contextlib.AsyncExitStack() as answers:
        for _ in range(WATCHES):
            answer = await answers.enter_async_context(session.get(url))
            assert await answer.content.readline() == b"event\n"
        yield


def test_watches_over_tls_are_closed_with_their_loop(tmp_path):
    made = certificates(tmp_path)
    server = Watched(made)
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        with in_background(server.serving(), "server"):
            context = ssl.create_default_context(cafile=str(made.authority))
            with in_background(watching(server.url, context), "client"):
                pass
        gc.collect()
    assert [str(one.message) for one in shown] == []


@contextlib.asynccontextmanager
async def leaking(left_open: socket.socket) -> AsyncIterator[None]:
    asyncio.get_running_loop().add_reader(left_open, lambda: None)
    yield


def test_what_is_left_open_is_reported_by_name(monkeypatch):
    monkeypatch.setattr("support.background._CLOSE_S", 0.1)
    left_open, peer = socket.socketpair()
    with (
        left_open,
        peer,
        pytest.raises(AssertionError, match="the leaky one leaves 1 sockets open"),
        in_background(leaking(left_open), "the leaky one"),
    ):
        pass


class Failing(contextlib.AbstractAsyncContextManager[None]):
    async def __aenter__(self) -> None:
        raise OSError("no such thing")

    async def __aexit__(self, *error: object) -> None:
        raise AssertionError


def test_a_failure_is_raised_in_the_test():
    with pytest.raises(OSError, match="no such thing"), in_background(Failing(), "failing"):
        pass
