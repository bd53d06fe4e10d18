"""OSV's calls: what anybody may send is small, and no work on it holds up the event loop."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from pywharf.core.errors import InvalidInputError, TooLargeError
from pywharf.core.forwarded import TrustedProxies
from pywharf.index import advisory_queries
from pywharf.index.advisories import CurrentAdvisories
from pywharf.serving.slots import Slots
from pywharf.web import osv
from pywharf.web.keys import ADVISORIES, ADVISORY_QUERIES, ADVISORY_TURN, TRUSTED_PROXIES
from support.advisories import malware, store_of

ACME = b'{"package":{"name":"acme","ecosystem":"PyPI"},"version":"1.0"}'
MANY = b'{"queries":[' + b",".join([ACME] * 1000) + b"]}"


@web.middleware
async def refusing(request: web.Request, handler) -> web.StreamResponse:
    try:
        answer: web.StreamResponse = await handler(request)
    except TooLargeError:
        return web.Response(status=413)
    except InvalidInputError:
        return web.Response(status=400)
    return answer


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[str]:
    app = web.Application(middlewares=[refusing])
    app[ADVISORIES] = CurrentAdvisories(has_feed=True)
    app[ADVISORIES].replace(store_of(malware("acme", "1.0")))
    app[ADVISORY_QUERIES] = Slots(9, "queries")
    app[ADVISORY_TURN] = asyncio.Lock()
    app[TRUSTED_PROXIES] = TrustedProxies()
    app.router.add_post("/v1/query", osv.query)
    app.router.add_post("/v1/querybatch", osv.query_batch)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


async def post(url: str, body: bytes) -> int:
    async with aiohttp.ClientSession() as session, session.post(url, data=body) as response:
        await response.read()
        return response.status


@pytest.mark.parametrize(
    ("call", "body", "status"),
    [
        ("query", ACME, 200),
        ("query", b'{"package":{"name":"acme","ecosystem":"PyPI"},"z":[' + b"[]," * 9000 + b"[]]}", 413),
        ("querybatch", MANY, 200),
        ("querybatch", b'{"queries":[' + b"{}," * 349_520 + b"{}]}", 413),
        ("querybatch", b'{"queries":[' + b"{}," * 60_000 + b"{}]}", 400),
        ("querybatch", b'{"queries":[{"z":' + b"[" * 100_000, 400),
    ],
)
async def test_a_body_is_small(call, body, status):
    async with serving() as url:
        assert await post(f"{url}/{call}", body) == status


def noting(threads: set[int], real):
    """Return the function, which then also notes the threads that call it."""

    def noted(*args):
        threads.add(threading.get_ident())
        return real(*args)

    return noted


@pytest.mark.parametrize(("call", "body"), [("query", ACME), ("querybatch", MANY)])
async def test_a_query_is_read_and_answered_in_a_thread_and_then_there_is_a_pause(call, body, monkeypatch):
    threads: set[int] = set()
    pauses: list[float] = []
    for name in ("decode_body", "_query", "identifiers"):
        monkeypatch.setattr(advisory_queries, name, noting(threads, getattr(advisory_queries, name)))
    pausing = asyncio.sleep

    async def noted(seconds: float) -> None:
        pauses.append(seconds)
        await pausing(0)

    monkeypatch.setattr(asyncio, "sleep", noted)
    async with serving() as url:
        assert await post(f"{url}/{call}", body) == 200
    assert threads
    assert threading.get_ident() not in threads
    assert max(pauses) > 0


def test_a_batch_is_counted_before_its_queries_are_read():
    with pytest.raises(InvalidInputError, match="1001 queries"):
        advisory_queries.parse_batch(b'{"queries":[' + b"1," * 1000 + b"1]}")
