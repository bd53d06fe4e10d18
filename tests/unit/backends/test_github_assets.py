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
from pywharf.egress.policy import Egress

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
async def assets_at(location, *listed):
    """Open the assets of an API that redirects to `location`."""

    async def send(_):
        return web.Response(status=302, headers={"Location": location})

    async with served(send) as port:
        egress = Egress((f"127.0.0.1:{port}", *listed)) if listed else Egress()
        api = GithubApi(f"http://127.0.0.1:{port}", lambda: Token("x"), egress=egress)
        assets = Assets(api, "acme", "wheels")
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
    monkeypatch.setattr("pywharf.egress.resolver.socket.getaddrinfo", lambda *_, **__: here)
    async with assets_at("http://storage.example/file", "storage.example") as assets:
        with pytest.raises(BackendUnavailableError, match="ClientConnectorDNSError"):
            await assets.read(ASSET, 100)


@pytest.mark.parametrize("listed", [(), ("other.example",), ("storage.example:8080",)])
async def test_no_redirect_leads_to_a_host_that_is_not_listed(listed):
    async with assets_at("http://storage.example/file", *listed) as assets:
        assert await assets.signed_url(ASSET) == "http://storage.example/file"  # for the client, on another host
        with pytest.raises(BackendUnavailableError, match=r"http://storage\.example is not among the hosts"):
            await assets.read(ASSET, 100)


async def test_a_name_of_a_public_pattern_has_a_public_address(monkeypatch):
    private = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.1.2.3", 80))]
    monkeypatch.setattr("pywharf.egress.resolver.socket.getaddrinfo", lambda *_, **__: private)
    async with assets_at("http://storage.example/file", "*") as assets:
        with pytest.raises(BackendUnavailableError, match="ClientConnectorDNSError"):
            await assets.read(ASSET, 100)


@pytest.mark.parametrize("location", ["/login", "file:///etc/passwd", "http://u:p@storage.example/", "http://[", ""])
async def test_a_redirect_is_a_whole_address(location):
    async with assets_at(location) as assets:
        with pytest.raises(BackendUnavailableError, match="names no address"):
            await assets.signed_url(ASSET)


async def test_nor_does_the_api_itself(monkeypatch):
    here = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", 80))]
    monkeypatch.setattr("pywharf.egress.resolver.socket.getaddrinfo", lambda *_, **__: here)
    api = GithubApi("http://ghe.example/api/v3", lambda: Token("x"))
    with pytest.raises(BackendUnavailableError, match="api_url names an address of this machine"):
        await api.send("GET", "/repos/a/b")
    await api.aclose()


async def test_no_redirect_leads_there(own_port, monkeypatch):
    """A storage on another host, simulated by a proxy, redirects to this machine."""

    async def redirect(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{own_port}/config\r\nContent-Length: 0\r\n\r\n"
        writer.write(head.encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(redirect, "127.0.0.1", 0) as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        async with assets_at("http://storage.example/file", "storage.example") as assets:
            with pytest.raises(BackendUnavailableError, match="status 302"):
                await assets.read(ASSET, 100)


async def test_this_machine_may_be_listed_as_it_is(own_port):
    async with assets_at(f"http://localhost:{own_port}/file", f"localhost:{own_port}") as assets:
        assert await assets.read(ASSET, 100) == b"for the cluster alone"
