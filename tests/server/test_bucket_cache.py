"""Two servers with one cache in a bucket: what both want is fetched once, and what is evicted goes once."""

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest

from pywharf.core.errors import BackendUnavailableError
from pywharf.core.names import RepoName
from pywharf.index.ports import CacheStore, Pin
from pywharf.index.upstream import leases
from pywharf.index.upstream.page_upkeep import PageUpkeep
from pywharf.index.upstream.upkeep import Upkeep
from support.object_stores.fault_proxy import FaultProxy, StoreFault, fault_proxy
from support.server.cached_files import ACME, CachedFiles, cached_files, get
from support.server.file_upstream import FileUpstream, Offered
from support.storage.caches import bucket_cache, content_of, keep, kept
from support.waiting import until

MAX_BYTES = 9_500
NAME = "acme-1.0-py3-none-any.whl"
SMALL, LARGE = os.urandom(300_000), os.urandom(9_000_000)


@pytest.fixture
async def upstream() -> AsyncIterator[FileUpstream]:
    index = FileUpstream()
    async with index.serving():
        yield index


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False) as session:
        yield session


@contextlib.asynccontextmanager
async def stores(opening: Callable[[], CacheStore], count: int = 2) -> AsyncIterator[list[CacheStore]]:
    """Open one cache for so many servers."""
    opened = [opening() for _ in range(count)]
    try:
        yield opened
    finally:
        for store in opened:
            await store.aclose()


@contextlib.asynccontextmanager
async def servers(
    upstream: FileUpstream, opened: list[CacheStore], offered: Offered
) -> AsyncIterator[list[CachedFiles]]:
    async with contextlib.AsyncExitStack() as stack:
        running = [await stack.enter_async_context(cached_files(upstream, store)) for store in opened]
        for server in running:
            server.offer(NAME, offered)
        yield running


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=len)
@pytest.mark.parametrize("kind", ["s3", "azure"])
async def test_two_servers_fetch_a_file_once(request, upstream, session, tmp_path, kind, content):
    offered = Offered(content, "gated")
    async with (
        stores(bucket_cache(request.getfixturevalue(kind), tmp_path)) as opened,
        servers(upstream, opened, offered) as running,
    ):
        asking = [asyncio.create_task(get(session, f"{one.url}/{NAME}")) for one in running for _ in range(5)]
        await until(lambda: sum(one.counted.misses for one in running) == 10, "all have asked")
        offered.gate.set()
        assert all([(await one).body == content for one in asking])
        assert upstream.asked == {NAME: 1}
        upstream.offered.clear()
        for one in running:
            got = await get(session, f"{one.url}/{NAME}", Range="bytes=5-1004")
            assert (got.status, got.body) == (206, content[5:1005])
        assert [sorted(await kept(store)) for store in opened] == [[running[0].records[NAME].sha256]] * 2


async def test_what_a_new_file_and_a_hundred_downloads_cost(s3, upstream, session, tmp_path):
    """As the table in docs/object-stores.md says. Requests to delete cost nothing."""
    with fault_proxy(s3.endpoint) as proxy:
        opening = bucket_cache(s3, tmp_path, endpoint=proxy.url)
        async with stores(opening, 1) as [store], servers(upstream, [store], Offered(SMALL)) as [server]:
            await store.pinning_repos()  # which opens it
            proxy.seen.clear()
            assert (await get(session, f"{server.url}/{NAME}")).body == SMALL
            await until(lambda: ("POST", "/packages?delete") in proxy.seen, "the lock is released")
            assert cost(proxy) == {"PUT": 3, "HEAD": 2}
            proxy.seen.clear()
            for _ in range(100):
                assert (await get(session, f"{server.url}/{NAME}")).body == SMALL
            assert cost(proxy) == {"HEAD": 1, "GET": 100}


def cost(proxy: FaultProxy) -> Counter[str]:
    return Counter(method for method, path in proxy.seen if not path.endswith("?delete"))


async def test_a_server_that_dies_in_mid_fetch_holds_the_other_up_for_its_lease(
    s3, upstream, session, tmp_path, monkeypatch
):
    monkeypatch.setattr(leases, "LEASE_S", 1.0)
    async with (
        stores(bucket_cache(s3, tmp_path)) as [dead, alive],
        servers(upstream, [alive], Offered(SMALL)) as [server],
    ):
        assert await dead.lock(server.records[NAME].sha256, 1.0)
        assert (await get(session, f"{server.url}/{NAME}")).body == SMALL
        assert upstream.asked == {NAME: 1}
        assert server.counted.passed == {}
        await until(lambda: server.counted.fetches["fetched"] == 1, "the file is kept")


class Shown:
    """What the upkeep of one server shows."""

    def __init__(self) -> None:
        self.evicted = 0

    def set_cache_usage(self, files: int, file_bytes: int, page_bytes: int) -> None:
        """Ignore it."""

    def count_evicted(self, reason: str, files: int, size: int) -> None:
        assert (reason, size) == ("limit", files * 1000)
        self.evicted += files


async def no_keys() -> AsyncIterator[frozenset[str]]:
    yield frozenset()


def upkeep_of(store: CacheStore, shown: Shown) -> Upkeep:
    pages = PageUpkeep(store, MAX_BYTES, 7 * 86400.0, pinned_keys=no_keys, keys_of=lambda _: ())
    return Upkeep(store, MAX_BYTES, pages, shown)


async def test_two_servers_evict_once(s3, tmp_path):
    with fault_proxy(s3.endpoint) as proxy:
        async with stores(bucket_cache(s3, tmp_path, endpoint=proxy.url)) as opened:
            shown = [Shown(), Shown()]
            upkeeps = [upkeep_of(store, one) for store, one in zip(opened, shown, strict=True)]
            contents = [os.urandom(1000) for _ in range(12)]
            digests = [await keep(opened[number % 2], content) for number, content in enumerate(contents)]
            for digest, content in zip(digests[:3], contents, strict=False):
                await opened[0].pin(RepoName("team-a"), Pin(ACME, f"{digest}.whl", digest, len(content)))
            proxy.seen.clear()
            await asyncio.gather(*(upkeep.check() for upkeep in upkeeps))
            left = set(await kept(opened[0]))
            assert left == set(await kept(opened[1]))
            assert left >= set(digests[:3])
            assert (len(left), sum(one.evicted for one in shown)) == (8, 4)
            assert sorted(one.evicted for one in shown) == [0, 4]
            for digest, content in zip(digests, contents, strict=True):
                expected = content if digest in left else None
                assert [await content_of(await store.open(digest)) for store in opened] == [expected] * 2


async def test_an_eviction_that_breaks_off_is_completed_by_the_other_server(s3, tmp_path):
    with fault_proxy(s3.endpoint) as proxy:
        async with stores(bucket_cache(s3, tmp_path, endpoint=proxy.url)) as opened:
            shown = [Shown(), Shown()]
            upkeeps = [upkeep_of(store, one) for store, one in zip(opened, shown, strict=True)]
            for number in range(12):
                await keep(opened[number % 2], os.urandom(1000))
            proxy.faults = [StoreFault("POST", "[?]delete", 403, times=8)]
            with pytest.raises(BackendUnavailableError):
                await upkeeps[0].check()
            assert len(await kept(opened[1])) == 12
            await upkeeps[1].check()
            assert len(await kept(opened[0])) == 8
            assert [one.evicted for one in shown] == [0, 4]
