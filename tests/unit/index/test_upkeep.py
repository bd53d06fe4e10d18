"""The upkeep of the pull-through cache: who lists it, what goes, and what the others learn of it."""

import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from pywharf.backends.file_system.cache_store import FileSystemCacheStore
from pywharf.core.errors import StorageFullError
from pywharf.core.names import ProjectName, RepoName
from pywharf.index.ports import KeptFile, LocalContent, Pin
from pywharf.index.upstream.page_upkeep import PageUpkeep
from pywharf.index.upstream.upkeep import USAGE_KEY, Upkeep
from support.storage.caches import about, digest_of, keep, kept

HOUR = 3600.0


class Clock:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


class Shown:
    """What was shown last."""

    def __init__(self) -> None:
        self.usage: tuple[int, int, int] | None = None
        self.evicted = 0
        self.reasons: set[str] = set()

    def set_cache_usage(self, files: int, file_bytes: int, page_bytes: int) -> None:
        self.usage = files, file_bytes, page_bytes

    def thousands(self) -> tuple[int, ...]:
        """Return the usage without the bytes of the page that holds the usage itself."""
        return tuple(number // 1000 for number in self.usage or ())

    def count_evicted(self, reason: str, files: int, size: int) -> None:
        del size
        self.evicted += files
        self.reasons.add(reason)


class Server:
    """One server with the cache."""

    def __init__(self, folder: Path, clock: Clock, max_bytes: int) -> None:
        self.store = FileSystemCacheStore(folder, clock)
        self.shown = Shown()
        pages = PageUpkeep(
            self.store,
            max_bytes,
            7 * 86400.0,
            pinned_keys=self.pinned_pages,
            keys_of=lambda about: [digest_of(f"{about.source} {about.project}".encode())],
            clock=clock,
        )
        self.upkeep = Upkeep(self.store, max_bytes, pages, self.shown, clock=clock)

    async def pinned_pages(self) -> AsyncIterator[set[str]]:
        yield {digest_of(b"of a served repo")}

    async def keep(self, content: bytes, age_s: float = 0.0) -> str:
        digest = await keep(self.store, content)
        opened = await self.store.open(digest)
        assert opened is not None
        assert isinstance(opened[1], LocalContent)
        used = time.time() - age_s
        os.utime(opened[1].path, (used, used))
        self.upkeep.added(len(content))
        return digest


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def server(tmp_path: Path, clock: Clock) -> AsyncIterator[Callable[..., Server]]:
    servers: list[Server] = []

    def make(max_bytes: int = 1000) -> Server:
        servers.append(Server(tmp_path / "cache", clock, max_bytes))
        return servers[-1]

    yield make
    for one in servers:
        await one.store.aclose()


async def test_what_was_used_least_recently_is_evicted(server, clock):
    one = server(max_bytes=1000)
    digests = [await one.keep(bytes([n]) * 100, age_s=n * HOUR) for n in range(12)]
    clock.now += 1
    await one.upkeep.check()
    assert set(await kept(one.store)) == set(digests[:9])
    assert one.shown.usage == (9, 900, 0)
    assert (one.shown.evicted, one.shown.reasons) == (3, {"limit"})


async def test_nothing_is_evicted_below_the_limit(server):
    one = server(max_bytes=1000)
    digests = {await one.keep(bytes([n]) * 100, age_s=n * HOUR) for n in range(10)}
    await one.upkeep.check()
    assert set(await kept(one.store)) == digests
    assert (one.shown.usage, one.shown.evicted) == ((10, 1000, 0), 0)


async def test_pinned_files_stay_for_every_repo(server):
    one = server(max_bytes=300)
    digests = [await one.keep(bytes([n]) * 100, age_s=n * HOUR) for n in range(6)]
    for repo, number in (("team-a", 5), ("team-b", 4)):
        await one.store.pin(RepoName(repo), Pin(ProjectName("acme"), f"{number}", digests[number], 100))
    await one.upkeep.check()
    assert set(await kept(one.store)) == {digests[5], digests[4]}


async def test_a_file_that_is_pinned_during_an_eviction_stays(server):
    one = server(max_bytes=300)
    digests = [await one.keep(bytes([n]) * 100, age_s=n * HOUR) for n in range(6)]
    list_, listings = one.store.kept, 0

    async def listing() -> AsyncIterator[Sequence[KeptFile]]:
        nonlocal listings
        listings += 1
        async for portion in list_():
            yield portion
        if listings == 2:
            await one.store.pin(RepoName("team-a"), Pin(ProjectName("acme"), "f", digests[5], 100))

    one.store.kept = listing
    await one.upkeep.check()
    assert set(await kept(one.store)) == {digests[0], digests[1], digests[5]}
    assert one.shown.usage == (3, 300, 0)


async def test_pages_count_and_only_files_make_room_for_them(server):
    one = server(max_bytes=1000)
    digests = [await one.keep(bytes([n]) * 100, age_s=n * HOUR) for n in range(9)]
    await one.store.write_page(digest_of(b"page"), bytes(200))
    await one.upkeep.check()
    assert set(await kept(one.store)) == set(digests[:7])
    assert one.shown.usage == (7, 700, 200)


async def test_other_servers_show_what_one_found(server, clock):
    one, other = server(), server()
    await one.keep(b"some")
    await one.upkeep.check()
    clock.now += 300
    await other.upkeep.check()
    assert other.shown.usage == one.shown.usage == (1, 4, 0)


async def test_a_cache_in_which_nothing_changes_is_not_listed_again(server, clock):
    one = server()
    await one.keep(b"some")
    await one.upkeep.check()
    digest = await keep(one.store, b"unnoticed")  # by nobody who counts
    clock.now += 300
    await one.upkeep.check()
    assert one.shown.usage == (1, 4, 0)
    one.upkeep.added(len(b"unnoticed"))
    clock.now += 300
    await one.upkeep.check()
    assert one.shown.usage == (2, 13, 0)
    await one.store.remove([digest])
    clock.now += 7 * HOUR
    await one.upkeep.check()
    assert one.shown.usage is not None
    assert one.shown.usage[:2] == (1, 4)


async def nothing_may_be_listed() -> AsyncIterator[Sequence[KeptFile]]:
    assert time.time() < 0
    yield ()


async def test_one_server_at_a_time_evicts(server):
    one, other = server(max_bytes=100), server(max_bytes=100)
    await one.keep(b"a" * 90, age_s=HOUR)
    await one.keep(b"b" * 90)
    listed: list[str] = []
    list_ = one.store.kept

    async def listing() -> AsyncIterator[Sequence[KeptFile]]:
        async for portion in list_():
            if not listed:
                listed.append("one")
                await other.upkeep.check()  # which does not list meanwhile
            yield portion

    one.store.kept = listing
    other.store.kept = nothing_may_be_listed
    await one.upkeep.check()
    assert listed
    assert other.shown.evicted == 0
    assert len(await kept(one.store)) == 1


async def test_a_store_without_room_is_made_smaller_than_its_limit(server, clock):
    one = server(max_bytes=10**12)
    digests = [await one.keep(bytes([n]) * 100, age_s=n * HOUR) for n in range(10)]
    clock.now += 1
    await one.upkeep.check()
    assert one.shown.evicted == 0
    one.upkeep.is_full()

    async def full(*_: object) -> bool:
        raise StorageFullError("full")

    one.store.lock = full
    one.store.write_page = full
    await one.upkeep.check()
    assert set(await kept(one.store)) == set(digests[:8])
    await one.upkeep.check()
    assert (one.shown.evicted, one.shown.reasons) == (2, {"full"})


async def test_the_cache_leaves_room_on_its_volume_to_others(server, clock):
    one = server(max_bytes=2000)
    digests = [await one.keep(bytes([n]) * 100, age_s=n * HOUR) for n in range(10)]
    free = 200

    async def free_bytes() -> int:
        return free

    one.store.free_bytes = free_bytes
    await one.upkeep.check()
    assert one.shown.evicted == 0
    free = 100
    clock.now += 300
    await one.upkeep.check()
    assert set(await kept(one.store)) == set(digests[:8])
    assert one.shown.reasons == {"full"}


async def test_old_pages_are_removed_but_for_those_of_pinned_files(server, clock):
    one = server()
    digest = await one.keep(b"pinned")
    await one.store.pin(RepoName("team-a"), Pin(ProjectName("acme"), "f", digest, 6))
    pinned = digest_of(f"{about().source} acme".encode())
    keys = pinned, digest_of(b"of a served repo"), digest_of(b"other")
    for key in keys:
        await one.store.write_page(key, b"page" * 1000)
    await one.upkeep.check()
    clock.now += 9 * 86400
    await one.upkeep.check()
    assert [await one.store.read_page(key, 10_000) for key in keys] == [b"page" * 1000] * 2 + [None]
    assert one.shown.thousands() == (0, 0, 8)


async def test_no_page_is_removed_before_all_repos_are_served(server, clock):
    clock.now += 30 * 86400
    one = server(max_bytes=100_000)
    await one.store.write_page(digest_of(b"page"), bytes(90_000))
    await one.upkeep.check()
    assert one.shown.thousands() == (0, 0, 90)
    clock.now += 2 * HOUR
    await one.upkeep.check()
    assert one.shown.thousands() == (0, 0, 0)


async def test_pages_that_take_too_much_are_removed_before_they_are_old(server, clock):
    one = server(max_bytes=100_000)
    for name in ("a", "b", "c"):
        await one.store.write_page(digest_of(name.encode()), bytes(10_000))
    await one.upkeep.check()
    assert one.shown.thousands() == (0, 0, 30)
    clock.now += 3 * 86400
    await one.upkeep.check()
    assert one.shown.thousands() == (0, 0, 0)


async def test_pages_that_take_too_much_are_removed_soon_on_a_full_volume(server, clock):
    one, other = server(max_bytes=100_000), server(max_bytes=100_000)
    await one.upkeep.check()
    for name in ("a", "b", "c"):
        await one.store.write_page(digest_of(name.encode()), bytes(10_000))

    async def no_bytes() -> int:
        return 0

    one.store.free_bytes = other.store.free_bytes = no_bytes
    clock.now += 900
    await other.upkeep.check()
    assert other.shown.thousands() == (0, 0, 0)


async def test_a_usage_that_cannot_be_read_is_found_anew(server):
    one = server()
    await one.keep(b"some")
    await one.store.write_page(USAGE_KEY, b"{")
    await one.upkeep.check()
    assert one.shown.usage is not None
    assert one.shown.usage[:2] == (1, 4)
