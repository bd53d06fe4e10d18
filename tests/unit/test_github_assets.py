"""Check where a signed URL may lead: an API must not direct the server to ports of its own machine."""

import asyncio
import contextlib
import socket

import pytest
from aiohttp import web
from github.Auth import Token

from pywharf.backends.github.api import GithubApi
from pywharf.backends.github.assets import Assets
from pywharf.core.errors import BackendUnavailableError

ASSET = "https://ghe.example/api/v3/repos/acme/wheels/releases/assets/7"


@contextlib.asynccontextmanager
async def served(answer):
    """Serve `answer` for every path on a port of this machine."""
    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def assets_at(location, **settings):
    """Open the assets of an API that redirects to `location`."""

    async def send(_):
        return web.Response(status=302, headers={"Location": location})

    async with served(send) as port:
        api = GithubApi(f"http://127.0.0.1:{port}", lambda: Token("x"))
        assets = Assets(api, "acme", "wheels", **settings)
        try:
            yield assets
        finally:
            await assets.aclose()
            await api.aclose()


@pytest.fixture
async def own_port():
    """Serve a port of this machine that trusts every client."""

    async def answer(_):
        return web.Response(text="for the cluster alone")

    async with served(answer) as port:
        yield port


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "0.0.0.0", "[::ffff:127.0.0.1]"],  # noqa: S104 - refused
)
async def test_none_leads_to_this_machine(own_port, host):
    async with assets_at(f"http://{host}:{own_port}/config") as assets:
        for read in (assets.signed_url(ASSET), assets.read(ASSET, 100)):
            with pytest.raises(BackendUnavailableError, match="address of this machine"):
                await read


async def test_no_name_leads_there(monkeypatch):
    """The check happens where the connection is made (see test_upstream_addresses)."""
    here = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))]
    monkeypatch.setattr("pywharf.resolver.socket.getaddrinfo", lambda *_, **__: here)
    async with assets_at("http://storage.example/file") as assets:
        with pytest.raises(BackendUnavailableError, match="ClientConnectorDNSError"):
            await assets.read(ASSET, 100)


async def test_nor_does_the_api_itself(monkeypatch):
    here = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", 80))]
    monkeypatch.setattr("pywharf.resolver.socket.getaddrinfo", lambda *_, **__: here)
    api = GithubApi("http://ghe.example/api/v3", lambda: Token("x"))
    with pytest.raises(BackendUnavailableError, match="api_url names an address of this machine"):
        await api.send("GET", "/repos/a/b")
    await api.aclose()


async def test_no_redirect_leads_there(own_port, monkeypatch):
    """A storage elsewhere, played by a proxy, redirects to this machine."""

    async def redirect(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{own_port}/config\r\nContent-Length: 0\r\n\r\n"
        writer.write(head.encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(redirect, "127.0.0.1", 0) as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        async with assets_at("http://storage.example/file") as assets:
            with pytest.raises(BackendUnavailableError, match="status 302"):
                await assets.read(ASSET, 100)


async def test_where_the_api_is_there_its_files_are(own_port):
    async with assets_at(f"http://localhost:{own_port}/file", may_be_own=True) as assets:
        assert await assets.read(ASSET, 100) == b"for the cluster alone"
