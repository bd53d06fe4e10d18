"""Files of other indexes: fetched once, verified, kept; and what wrong, slow or missing ones do to clients."""

import asyncio
import contextlib
import gzip
import os
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from pywharf.backends.file_system.cache_store import FileSystemCacheStore
from pywharf.core.errors import BackendUnavailableError, NotFoundError, PywharfError, StorageFullError, UpstreamError
from pywharf.index.ports import About
from pywharf.index.upstream import file_fetch
from pywharf.index.upstream.source import SourceCredentials
from pywharf.serving.in_flight import RunningRequests
from support.server.cached_files import ACME, CachedFiles, cached_files, get
from support.server.file_upstream import FileUpstream, Offered
from support.waiting import until

MIB = 1024 * 1024
CONTENT = os.urandom(3 * MIB + 17)
SMALL = b"a small file"
NAME = "acme-1.0-py3-none-any.whl"
OTHER_DIGEST = "0" * 64


@pytest.fixture
async def upstream() -> AsyncIterator[FileUpstream]:
    index = FileUpstream()
    async with index.serving():
        yield index


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FileSystemCacheStore]:
    opened = FileSystemCacheStore(tmp_path / "cache")
    yield opened
    await opened.aclose()


@pytest.fixture
async def server(upstream, store) -> AsyncIterator[CachedFiles]:
    async with cached_files(upstream, store) as running:
        yield running


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
        yield session


def url(server: CachedFiles, name: str = NAME) -> str:
    return f"{server.url}/{name}"


def spooled(store: FileSystemCacheStore) -> list[Path]:
    return list(store.spool_folder.glob("*")) if store.spool_folder.is_dir() else []


async def nothing_is_kept(server: CachedFiles, store: FileSystemCacheStore) -> bool:
    """Return whether no file is kept and none is spooled, once the fetch has ended."""
    await until(lambda: not spooled(store), "an empty spool folder")
    return not [file async for portion in store.kept() for file in portion]


@pytest.mark.parametrize("content", [b"", SMALL, CONTENT], ids=len)
async def test_a_file_is_fetched_once_and_served_while_upstream_is_gone(server, store, session, content):
    server.offer(NAME, Offered(content))
    first = await get(session, url(server))
    assert (first.status, first.body, first.whole) == (200, content, True)
    assert first.headers["Content-Length"] == str(len(content))
    await until(lambda: not spooled(store), "the file is kept")
    del server.upstream.offered[NAME]
    for _ in range(3):
        again = await get(session, url(server))
        assert (again.status, again.body) == (200, content)
    assert server.upstream.asked[NAME] == 1
    assert (server.counted.misses, server.counted.hits) == (1, 3)
    assert server.counted.fetches == {"fetched": 1}


async def test_clients_get_the_bytes_that_have_arrived_but_not_the_end(server, session):
    offered = Offered(CONTENT, "gated")
    server.offer(NAME, offered)
    async with session.get(url(server)) as response:
        assert response.status == 200
        assert await response.content.readexactly(len(CONTENT) // 2) == CONTENT[: len(CONTENT) // 2]
        rest = asyncio.create_task(response.content.read())
        offered.gate.set()
        assert await rest == CONTENT[len(CONTENT) // 2 :]


async def test_many_clients_share_one_fetch(server, session):
    offered = Offered(CONTENT[:MIB], "gated")
    server.offer(NAME, offered)
    asking = [asyncio.create_task(get(session, url(server))) for _ in range(200)]
    await until(lambda: server.counted.misses == 200, "all clients have asked")
    offered.gate.set()
    assert all([(got := await one).whole and got.body == offered.content for one in asking])
    assert server.upstream.asked[NAME] == 1


async def test_a_client_that_goes_away_ends_nothing(server, store, session):
    offered = Offered(CONTENT, "gated")
    server.offer(NAME, offered)
    async with session.get(url(server)) as response:
        await response.content.readany()
        response.close()
    offered.gate.set()
    await until(lambda: server.counted.fetches["fetched"] == 1, "the fetch goes on")
    await until(lambda: not spooled(store), "the file is kept")
    assert (await get(session, url(server))).body == CONTENT
    assert server.upstream.asked[NAME] == 1


async def test_a_client_that_reads_nothing_holds_up_no_other(server, session):
    server.offer(NAME, Offered(CONTENT))
    async with session.get(url(server)):
        assert (await get(session, url(server))).body == CONTENT


@pytest.mark.parametrize("how", ["whole", "gated"])
@pytest.mark.parametrize(
    ("header", "first", "last"),
    [
        ("bytes=0-99", 0, 99),
        (f"bytes={MIB}-", MIB, len(CONTENT) - 1),
        ("bytes=-500", len(CONTENT) - 500, len(CONTENT) - 1),
        (f"bytes=10-{2 * MIB}", 10, 2 * MIB),
    ],
)
async def test_a_part_of_a_file_is_sent_while_it_is_fetched_and_afterwards(server, session, how, header, first, last):
    offered = Offered(CONTENT, how)
    server.offer(NAME, offered)
    asking = asyncio.create_task(get(session, url(server), Range=header))
    await until(lambda: server.counted.misses == 1, "the client has asked")
    offered.gate.set()
    for got in (await asking, await get(session, url(server), Range=header)):
        assert (got.status, got.body) == (206, CONTENT[first : last + 1])
        assert got.headers["Content-Range"] == f"bytes {first}-{last}/{len(CONTENT)}"
    assert server.upstream.asked[NAME] == 1


async def test_a_part_is_complete_only_when_the_whole_file_is_verified(server, session):
    offered = Offered(CONTENT, "gated")
    server.offer(NAME, offered, sha256=OTHER_DIGEST)
    asking = asyncio.create_task(get(session, url(server), Range="bytes=0-99"))
    await until(lambda: server.counted.misses == 1, "the client has asked")
    offered.gate.set()
    assert (await asking).status == 502


@pytest.mark.parametrize("header", [f"bytes={len(CONTENT)}-", "bytes=5-2"])
async def test_a_range_outside_the_file_is_refused(server, session, header):
    server.offer(NAME, Offered(CONTENT))
    assert (await get(session, url(server), Range=header)).status == 416


@pytest.mark.parametrize("size", [len(CONTENT), None])
async def test_head_fetches_nothing(server, session, size):
    server.offer(NAME, Offered(CONTENT), size=size)
    got = await get(session, url(server), "HEAD")
    assert got.status == 200
    assert server.upstream.asked[NAME] == 0
    if size is not None:
        assert got.headers["Content-Length"] == str(size)


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("content", [SMALL, CONTENT], ids=len)
async def test_a_file_whose_size_the_page_does_not_say(server, session, announced, content):
    server.offer(NAME, Offered(content, announced=announced), size=None)
    got = await get(session, url(server), Range="bytes=0-3")
    assert got.whole
    # Without a size a part can be sent only once the whole file is there.
    assert (got.status, got.body) in ([(206, content[:4])] if announced else [(206, content[:4]), (200, content)])
    assert (await get(session, url(server))).body == content
    assert server.upstream.asked[NAME] == 1


WRONG: dict[str, tuple[Offered, dict[str, object]]] = {
    "cut": (Offered(CONTENT, "cut"), {}),
    "digest": (Offered(CONTENT), {"sha256": OTHER_DIGEST}),
    "digest and no size": (Offered(CONTENT, announced=False), {"sha256": OTHER_DIGEST, "size": None}),
    "shorter than the page says": (Offered(CONTENT, announced=False), {"size": len(CONTENT) + 1}),
    "longer than the page says": (Offered(CONTENT, announced=False), {"size": len(CONTENT) - 1}),
    "endless": (Offered(CONTENT, "endless"), {}),
    "compressed": (Offered(gzip.compress(bytes(50 * MIB)), headers={"Content-Encoding": "gzip"}), {"size": 50 * MIB}),
}


@pytest.mark.parametrize("case", WRONG)
async def test_wrong_content_breaks_the_connection_and_is_not_kept(server, store, session, case):
    offered, changes = WRONG[case]
    server.offer(NAME, offered, **changes)
    got = await get(session, url(server))
    assert not got.whole or got.status in {502, 504}
    assert got.body != CONTENT
    assert await nothing_is_kept(server, store)
    await until(lambda: not server.upstream.open, "the request is over")


async def test_a_small_wrong_file_is_an_answer(server, store, session):
    server.offer(NAME, Offered(SMALL), sha256=OTHER_DIGEST)
    got = await get(session, url(server))
    assert (got.status, got.whole) == (502, True)
    assert b"digest" in got.body
    assert await nothing_is_kept(server, store)
    assert server.counted.fetches == {"wrong": 1}


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (404, {}, 404),
        (410, {}, 404),
        (403, {}, 502),
        (500, {}, 502),
        (302, {"Location": "http://169.254.1.1/x"}, 502),
        (302, {"Location": "http://elsewhere.example/x"}, 502),
    ],
)
async def test_what_upstream_answers_instead(server, store, session, status, headers, expected):
    server.offer(NAME, Offered(CONTENT, status=status, headers=headers))
    assert (await get(session, url(server))).status == expected
    assert await nothing_is_kept(server, store)


@pytest.mark.parametrize(
    "location",
    ["http://elsewhere.example/x", "file:///etc/passwd", "http://u:p@127.0.0.1:1/x", "http://169.254.1.1/x", "//[", ""],
)
async def test_a_page_may_not_link_anywhere(server, session, location):
    server.offer(NAME, Offered(CONTENT), location=location)
    got = await get(session, url(server))
    assert got.status == 502, got


async def test_upstream_that_is_away_is_no_missing_file(server, session, unused_tcp_port):
    server.offer(NAME, Offered(CONTENT))
    server.records[NAME] = server.offer(NAME, Offered(CONTENT), location=server.upstream.address(NAME))
    server.upstream.url = f"http://127.0.0.1:{unused_tcp_port}/simple/"
    server.offer(NAME, Offered(CONTENT))
    assert (await get(session, url(server))).status == 504


async def test_credentials_go_to_the_index_alone(server, session):
    server.credentials = SourceCredentials("user", "pass")
    server.offer(NAME, Offered(SMALL))
    assert (await get(session, url(server))).body == SMALL
    assert server.upstream.headers[-1]["Authorization"] == "Basic dXNlcjpwYXNz"
    elsewhere = FileUpstream()
    async with elsewhere.serving():
        elsewhere.offered["other"] = Offered(SMALL)
        host = elsewhere.url.split("/")[2]
        async with cached_files(
            server.upstream, FileSystemCacheStore(Path(os.devnull)), allowed=(host, server.upstream.url.split("/")[2])
        ) as careful:
            careful.credentials = server.credentials
            careful.offer(
                "moved", Offered(status=302, headers={"Location": elsewhere.address("other")}), size=None, sha256=""
            )
            got = await get(session, url(careful, "moved"))
            assert got.body == SMALL
        assert "Authorization" not in elsewhere.headers[-1]


async def test_a_file_over_the_repos_limit_is_not_fetched(server, store, session):
    server.max_bytes = MIB
    for size in (len(CONTENT), None):
        server.offer(NAME, Offered(CONTENT), size=size)
        assert (await get(session, url(server))).status == 502
    server.offer(NAME, Offered(CONTENT, "endless"), size=None)
    got = await get(session, url(server))
    assert not got.whole or got.status == 502
    assert await nothing_is_kept(server, store)


async def test_a_file_without_a_digest_keeps_its_first_one(server, store, session):
    server.offer(NAME, Offered(CONTENT), sha256="", size=None)
    assert (await get(session, url(server))).body == CONTENT
    await until(lambda: not spooled(store), "the file is kept")
    server.upstream.offered[NAME] = Offered(SMALL)
    again = await get(session, url(server))
    assert again.body == CONTENT
    assert len(again.headers["ETag"]) == 66
    await store.remove([again.headers["ETag"].strip('"')])
    gone = await get(session, url(server))
    assert gone.body != SMALL, "the file changed under its name"
    async with cached_files(server.upstream, store) as restarted:
        restarted.records = server.records
        assert (await restarted.kept.known(server.source, ACME, server.records[NAME])).size == len(CONTENT)


async def test_a_kept_file_that_was_removed_or_damaged_is_fetched_again(server, store, session):
    file = server.offer(NAME, Offered(CONTENT))
    await server.keep(NAME)
    assert (await get(session, url(server))).body == CONTENT
    await store.remove([file.sha256])
    assert (await get(session, url(server))).body == CONTENT
    await until(lambda: not spooled(store), "the file is kept")
    found = await store.open(file.sha256)
    assert found is not None
    os.truncate(found[1].path, 100)
    assert (await get(session, url(server))).body == CONTENT
    assert server.upstream.asked[NAME] == 3


class Faulty(FileSystemCacheStore):
    """A store with an injected fault: `full` cannot keep, `away` can do nothing."""

    fault = ""

    async def keep(self, sha256: str, path: Path, about: About) -> None:
        self._fail(StorageFullError("full") if self.fault == "full" else BackendUnavailableError("away"))
        await super().keep(sha256, path, about)

    async def open(self, sha256: str):
        if self.fault == "away":
            raise BackendUnavailableError("away")
        return await super().open(sha256)

    async def lock(self, name: str, seconds: float) -> bool:
        if self.fault == "away":
            raise BackendUnavailableError("away")
        return await super().lock(name, seconds)

    def _fail(self, error: PywharfError) -> None:
        if self.fault:
            raise error


class SlowKeep(FileSystemCacheStore):
    """A store that takes its time to keep a file."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()

    async def keep(self, sha256: str, path: Path, about: About) -> None:
        self.begun.set()
        await self.go_on.wait()
        await super().keep(sha256, path, about)


@pytest.mark.parametrize(("fault", "reason"), [("full", "store full"), ("away", "no room")])
async def test_downloads_go_on_while_the_store_fails(upstream, tmp_path, session, fault, reason):
    store = Faulty(tmp_path / "cache")
    store.fault = fault
    async with cached_files(upstream, store) as server:
        server.offer(NAME, Offered(CONTENT))
        for header, part in ({}, CONTENT), ({"Range": f"bytes={MIB}-"}, CONTENT[MIB:]):
            got = await get(session, url(server), **header)
            assert (got.body, got.whole) == (part, True)
        await until(lambda: server.counted.passed[reason] == 2, "both are counted")
        assert upstream.asked[NAME] == 2, "each download asks once"
        server.offer("wrong", Offered(CONTENT), sha256=OTHER_DIGEST)
        got = await get(session, url(server, "wrong"))
        assert not got.whole
        server.offer("missing", Offered(status=404))
        assert (await get(session, url(server, "missing"))).status == 404
        with pytest.raises((StorageFullError, BackendUnavailableError)):
            await server.keep(NAME)
        store.fault = ""
        await server.keep(NAME)
    await store.aclose()


async def test_files_that_are_fetched_take_bounded_room(upstream, store, session):
    async with cached_files(upstream, store, max_spool_bytes=4 * MIB) as server:
        first, second = Offered(CONTENT, "gated"), Offered(CONTENT[::-1])
        server.offer(NAME, first)
        server.offer("second", second)
        server.offer("no size", second, size=None)
        asking = asyncio.create_task(get(session, url(server)))
        await until(lambda: spooled(store), "the first is spooled")
        assert (await get(session, url(server, "second"))).body == second.content
        assert server.counted.passed == {"no room": 1}
        assert upstream.asked["second"] == 1
        got = await asyncio.gather(*(get(session, url(server, "no size")) for _ in range(5)))
        assert [one.body == second.content for one in got] == [True] * 5
        assert upstream.asked["no size"] <= 1 + 5, "one learns the size for all"
        server.counted.passed.clear()
        first.gate.set()
        assert (await asking).body == CONTENT
        await until(lambda: not spooled(store), "the first is kept")
        assert (await get(session, url(server, "second"))).body == second.content
        assert not server.counted.passed


async def test_many_small_files_wait_until_others_are_kept(server, session, store):
    names = [f"small-{number}" for number in range(300)]
    for name in names:
        server.offer(name, Offered(name.encode()))
    got = await asyncio.gather(*(get(session, url(server, name)) for name in names))
    assert [one.body.decode() for one in got] == names
    assert not server.counted.passed
    await until(lambda: not spooled(store), "all are kept")


async def test_a_link_in_the_cache_leads_nowhere(server, store, session, tmp_path):
    server.offer(NAME, Offered(CONTENT))
    assert (await get(session, url(server))).body == CONTENT
    await until(lambda: not spooled(store), "it is kept")
    assert (await get(session, url(server))).body == CONTENT
    digest = server.records[NAME].sha256
    path, secret = tmp_path / "cache" / "files" / digest[:2] / digest, tmp_path / "secret"
    secret.write_bytes(bytes(len(CONTENT)))
    path.unlink()
    path.symlink_to(secret)
    assert (await get(session, url(server))).body == CONTENT
    await until(lambda: not path.is_symlink(), "the kept file is there again")


@contextlib.asynccontextmanager
async def replicas(upstream: FileUpstream, folder: Path, *offered: Offered) -> AsyncIterator[list[CachedFiles]]:
    """Run two servers with one cache."""
    async with contextlib.AsyncExitStack() as stack:
        running = []
        for _ in range(2):
            store = FileSystemCacheStore(folder)
            stack.push_async_callback(store.aclose)
            running.append(await stack.enter_async_context(cached_files(upstream, store)))
        for server in running:
            server.offer(NAME, *offered)
        yield running


async def test_replicas_fetch_a_file_once(upstream, tmp_path, session):
    offered = Offered(CONTENT, "gated")
    async with replicas(upstream, tmp_path, offered) as servers:
        asking = [asyncio.create_task(get(session, url(server))) for server in servers for _ in range(3)]
        await until(lambda: sum(server.counted.misses for server in servers) == 6, "all have asked")
        offered.gate.set()
        assert all([(await one).body == CONTENT for one in asking])
    assert upstream.asked[NAME] == 1


@pytest.mark.parametrize(("size", "seconds"), [(0, 10), (50_000_000, 20), (200_000_000, 25), (None, 25)])
def test_a_replica_waits_longer_for_a_larger_file(size, seconds):
    assert file_fetch.wait_s(size) == seconds


async def test_a_replica_that_cannot_wait_fetches_the_file_itself(upstream, tmp_path, session, monkeypatch):
    monkeypatch.setattr(file_fetch, "_WAIT_S", 0.2)
    offered = Offered(CONTENT, "gated")
    async with replicas(upstream, tmp_path, offered) as (one, other):
        slow = asyncio.create_task(get(session, url(one)))
        await until(lambda: upstream.asked[NAME] == 1, "one fetches")
        also = [asyncio.create_task(get(session, url(other))) for _ in range(5)]
        await until(lambda: upstream.asked[NAME] == 2, "the other does, too")
        offered.gate.set()
        assert all([(await task).body == CONTENT for task in (slow, *also)])
        assert other.counted.passed == {"locked": 1}
    assert upstream.asked[NAME] == 2


async def test_metadata_is_fetched_verified_and_kept(server, store):
    raw = b"Metadata-Version: 2.1\nName: acme\n"
    digest = server.offer(f"{NAME}.metadata", Offered(raw)).sha256
    file = server.offer(NAME, Offered(CONTENT), metadata_sha256=digest)
    assert await asyncio.gather(*(server.kept.metadata(server.source, ACME, file) for _ in range(5))) == [raw] * 5
    assert await store.open(digest) is not None
    async with cached_files(server.upstream, store) as restarted:
        server.upstream.offered.clear()
        assert await restarted.kept.metadata(server.source, ACME, file) == raw
    assert server.upstream.asked == {f"{NAME}.metadata": 1}


@pytest.mark.parametrize(
    ("offered", "error"),
    [
        (Offered(b"other"), UpstreamError),
        (Offered(status=404), NotFoundError),
        (Offered(status=500), UpstreamError),
        (Offered(bytes(MIB), "endless"), UpstreamError),
        (Offered(b"cut off", "cut"), UpstreamError),
    ],
    ids=["other", "missing", "failing", "endless", "cut"],
)
async def test_wrong_metadata_is_refused(server, store, offered, error):
    server.upstream.offered[f"{NAME}.metadata"] = offered
    file = server.offer(NAME, Offered(CONTENT), metadata_sha256=OTHER_DIGEST)
    with pytest.raises(error):
        await server.kept.metadata(server.source, ACME, file)
    assert await nothing_is_kept(server, store)
    assert server.counted.fetches.total() == 1


async def test_keeping_waits_until_file_and_metadata_are_kept(server, store):
    raw = b"Metadata-Version: 2.1\n"
    digest = server.offer(f"{NAME}.metadata", Offered(raw)).sha256
    file = server.offer(NAME, Offered(CONTENT), metadata_sha256=digest)
    await asyncio.gather(*(server.keep(NAME) for _ in range(5)))
    assert [await store.open(one) is not None for one in (file.sha256, digest)] == [True, True]
    await server.keep(NAME)
    assert server.upstream.asked == {NAME: 1, f"{NAME}.metadata": 1}


async def test_a_server_that_stops_ends_its_fetches(upstream, store, session):
    async with cached_files(upstream, store) as server:
        server.offer(NAME, Offered(CONTENT, "gated"))
        asking = asyncio.create_task(get(session, url(server)))
        await until(lambda: spooled(store), "the file is spooled")
    got = await asking
    assert not got.whole
    assert not spooled(store)
    assert await store.lock(server.records[NAME].sha256, 1), "the lock is released"
    await until(lambda: not upstream.open, "the request is over")


async def test_a_server_that_stops_waits_until_a_complete_file_is_kept(upstream, tmp_path, session):
    store, running = SlowKeep(tmp_path / "cache"), RunningRequests()
    async with cached_files(upstream, store, finishing=running) as server:
        server.offer(NAME, Offered(CONTENT))
        assert (await get(session, url(server))).body == CONTENT
        await store.begun.wait()
        assert not await running.finish(0.05)
        store.go_on.set()
        assert await running.finish(30)
    assert await store.open(server.records[NAME].sha256) is not None
    await store.aclose()


async def test_a_silent_upstream_is_given_up(upstream, store, session, monkeypatch):
    monkeypatch.setattr("pywharf.egress.upstream_files._TIMEOUT", aiohttp.ClientTimeout(total=None, sock_read=0.2))
    async with cached_files(upstream, store) as server:
        server.offer(NAME, Offered(CONTENT, "hang"))
        assert (await get(session, url(server))).status == 504
        server.offer("stalled", Offered(CONTENT[::-1], "gated"))
        assert not (await get(session, url(server, "stalled"))).whole
        assert server.counted.fetches == {"timeout": 2}
