"""Check the deadlines of idle connections, with short times."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from pywharf.web import connections, listening
from pywharf.web.connections import Connections, noted
from pywharf.web.listening import accepting
from support.waiting import until


@contextlib.asynccontextmanager
async def serving(handler) -> AsyncIterator[int]:
    """Serve an application of one handler; yields its port."""
    app = web.Application(middlewares=[noted])
    app.router.add_get("/", handler)
    settings: dict[str, Any] = {"access_log": None}
    runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=0.1, **settings)
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    try:
        async with accepting(runner, listener, connections=Connections(9, "test"), settings=settings, backlog=9):
            yield port
    finally:
        await runner.cleanup()


async def answer(_: web.Request) -> web.Response:
    return web.Response(text="ok")


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n"])
async def test_a_first_request_has_a_deadline(monkeypatch, sent):
    """The deadline also ends a request whose head arrives a byte at a time."""
    monkeypatch.setattr(connections, "_FIRST_REQUEST_S", 0.5)
    async with serving(answer) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)

        async def dribble() -> None:
            while sent:
                writer.write(b"X")
                await asyncio.sleep(0.05)

        dribbling = asyncio.create_task(dribble())
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 20) == b""
        dribbling.cancel()
        writer.close()


async def test_a_request_in_time_has_no_such_deadline(monkeypatch):
    monkeypatch.setattr(connections, "_FIRST_REQUEST_S", 0.5)
    async with serving(answer) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"200 OK" in await reader.readuntil(b"ok")
            await asyncio.sleep(0.7)
        writer.close()


async def test_a_client_that_reads_nothing_is_cut_off(monkeypatch):
    """The kernel cuts it off, wherever the unread part of the answer is buffered."""
    monkeypatch.setattr(listening, "_UNREAD_MS", 500)
    ended: list[BaseException] = []

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(bytes(65536))
        except BaseException as error:
            ended.append(error)
            raise

    async with serving(endless) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: ended, "the answer to end")
        writer.close()
