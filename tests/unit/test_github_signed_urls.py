"""Where a signed URL may lead: what a server is told by an API must not bring it to its own machine's ports."""

import asyncio
import socket
from typing import cast

import pytest
from aiohttp import web
from github.Auth import Token

from pywharf.backends.github.api import Answer, GithubApi
from pywharf.backends.github.signed_urls import SignedUrls
from pywharf.core.errors import BackendUnavailableError

ASSET = "https://ghe.example/api/v3/repos/acme/wheels/releases/assets/7"


class Api:
    """One that sends clients wherever it likes."""

    def __init__(self, location):
        self.location = location

    async def get(self, *_, **__):
        return Answer(302, {"location": self.location}, None)


def signed(api, **settings):
    return SignedUrls(cast("GithubApi", api), "acme", "wheels", **settings)


@pytest.fixture
async def own_port():
    """A port of this machine that trusts whoever reaches it."""

    async def answer(_):
        return web.Response(text="for the cluster alone")

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield runner.addresses[0][1]
    await runner.cleanup()


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "0.0.0.0", "[::ffff:127.0.0.1]"],  # noqa: S104 - refused
)
async def test_none_leads_to_this_machine(own_port, host):
    urls = signed(Api(f"http://{host}:{own_port}/config"))
    for read in (urls.url(ASSET), urls.read(ASSET, 100)):
        with pytest.raises(BackendUnavailableError, match="address of this machine"):
            await read
    await urls.aclose()


async def test_no_name_leads_there(monkeypatch):
    """Looked at where the connection is made (see test_upstream_addresses)."""
    here = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))]
    monkeypatch.setattr("pywharf.resolver.socket.getaddrinfo", lambda *_, **__: here)
    urls = signed(Api("http://storage.example/file"))
    with pytest.raises(BackendUnavailableError, match="cannot be reached"):
        await urls.read(ASSET, 100)
    await urls.aclose()


async def test_nor_does_the_api_itself(monkeypatch):
    here = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", 80))]
    monkeypatch.setattr("pywharf.resolver.socket.getaddrinfo", lambda *_, **__: here)
    api = GithubApi("http://ghe.example/api/v3", lambda: Token("x"))
    with pytest.raises(BackendUnavailableError, match="api_url names an address of this machine"):
        await api.send("GET", "/repos/a/b")
    await api.aclose()


async def test_no_redirect_leads_there(own_port, monkeypatch):
    """From a storage elsewhere, whose place a proxy takes here."""

    async def redirect(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{own_port}/config\r\nContent-Length: 0\r\n\r\n"
        writer.write(head.encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(redirect, "127.0.0.1", 0) as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        urls = signed(Api("http://storage.example/file"))
        with pytest.raises(BackendUnavailableError):
            await urls.read(ASSET, 100)
        await urls.aclose()


async def test_where_the_api_is_there_its_files_are(own_port):
    urls = signed(Api(f"http://localhost:{own_port}/file"), may_be_own=True)
    assert await urls.read(ASSET, 100) == b"for the cluster alone"
    await urls.aclose()
