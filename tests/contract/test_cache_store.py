"""What every store of the pull-through cache must do, over all servers that share it."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pywharf.core.names import ProjectName, RepoName
from pywharf.index.ports import USE_GRANULARITY_S, About, CacheStore, Pin, StreamContent
from support.storage.caches import (
    CACHES,
    OpenCache,
    about,
    all_pins,
    bucket_cache,
    content_of,
    digest_of,
    keep,
    kept,
    spooled,
)
from support.storage.storages import OBJECT_STORES
from support.waiting import until_true

ACME = ProjectName("acme")
TEAM, OTHER = RepoName("team-a"), RepoName("team-b")
SOME = [b"", b"x", b"a file", bytes(range(256)) * 5000]
FAR_S = 3600.0
_names = itertools.count()


@pytest.fixture(params=[*CACHES, *OBJECT_STORES])
def open_cache(request: pytest.FixtureRequest, tmp_path: Path) -> OpenCache:
    """Return a function that opens the same store as one more server would."""
    if request.param in OBJECT_STORES:
        return bucket_cache(request.getfixturevalue(request.param), tmp_path)
    return CACHES[request.param](tmp_path)


@pytest.fixture
async def store(open_cache: OpenCache) -> AsyncIterator[CacheStore]:
    opened = open_cache()
    yield opened
    await opened.aclose()


@pytest.fixture
async def other(open_cache: OpenCache) -> AsyncIterator[CacheStore]:
    """Open the same store as another server."""
    opened = open_cache()
    yield opened
    await opened.aclose()


def a_name() -> str:
    return digest_of(f"{time.time()} {next(_names)}".encode())


def pin(filename: str = "acme-1.0.tar.gz", content: bytes = b"acme", project: ProjectName = ACME) -> Pin:
    return Pin(project, filename, digest_of(content), len(content))


@pytest.mark.parametrize("content", SOME, ids=len)
async def test_a_kept_file_is_read_by_every_server(store, other, content):
    assert await store.open(digest_of(content)) is None
    assert await other.open(digest_of(content)) is None
    digest = await keep(store, content)
    assert [await content_of(await one.open(digest)) for one in (store, other)] == [content, content]


async def test_a_part_of_a_file_is_read(store):
    digest = await keep(store, b"0123456789")
    opened = await store.open(digest)
    assert opened is not None
    if isinstance(opened[1], StreamContent):
        assert b"".join([part async for part in opened[1].open(3, 5)]) == b"345"


async def test_a_file_is_kept_once(store, other):
    digests = await asyncio.gather(*(keep(one, b"the same", about(f"{n}")) for n in range(8) for one in (store, other)))
    assert set(await kept(store)) == set(digests) == {digest_of(b"the same")}
    assert await content_of(await other.open(digests[0])) == b"the same"


async def test_a_kept_file_leaves_nothing_in_the_spool_folder(store):
    path = await spooled(store, b"content")
    await store.keep(digest_of(b"content"), path, about())
    path.unlink(missing_ok=True)
    assert list(store.spool_folder.iterdir()) == []


async def test_the_spool_folder_is_there_for_a_file_that_was_not_found(store):
    assert await store.open(a_name()) is None
    assert store.spool_folder.is_dir()


async def test_the_spool_folders_of_two_servers_are_apart(store, other):
    mine, theirs = await spooled(store, b"mine"), await spooled(other, b"theirs")
    assert mine.parent != theirs.parent
    await store.remove_leftovers()
    await other.remove_leftovers()
    assert mine.read_bytes() + theirs.read_bytes() == b"minetheirs"


async def test_kept_files_are_listed(store, other):
    before = time.time()
    digests = {await keep(store, f"file {n}".encode() * n): n for n in range(1, 30)}
    for one in (store, other):
        found = await kept(one)
        assert {digest: file.size for digest, file in found.items()} == {
            digest: len(f"file {n}") * n for digest, n in digests.items()
        }
        assert all(before - 60 <= file.last_used <= time.time() + 60 for file in found.values())


async def test_it_is_known_where_a_file_came_from(store, other):
    odd = About(ProjectName("zope-interface"), "zope.interface-1.0+ünïcode.whl", "https://index.example/a/simple/")
    digests = [await keep(store, b"first", about("first")), await keep(store, b"second", odd)]
    assert await other.abouts([*digests, a_name()]) == dict(zip(digests, [about("first"), odd], strict=True))
    assert await other.abouts([]) == {}


async def test_removed_files_are_gone_for_every_server(store, other):
    digests = [await keep(store, f"{n}".encode()) for n in range(5)]
    await other.remove([*digests[:3], a_name()])
    await store.remove(digests[:1])
    await store.remove([])
    assert set(await kept(store)) == set(digests[3:])
    assert [await one.open(digest) for one in (store, other) for digest in digests[:3]] == [None] * 6
    assert await store.abouts(digests[:3]) == {}
    assert await content_of(await store.open(digests[3])) == b"3"


async def test_a_removed_file_is_kept_again(store, other):
    digest = await keep(store, b"again")
    await other.remove([digest])
    await keep(store, b"again", about("later"))
    assert await content_of(await other.open(digest)) == b"again"
    assert await other.abouts([digest]) == {digest: about("later")}


async def test_a_use_is_noted(store, other):
    digest = await keep(store, b"used")
    began = time.time()
    for one in (store, other):
        await one.note_use(digest)
        await one.note_use(digest)
    assert (await kept(store))[digest].last_used >= began - USE_GRANULARITY_S


async def test_the_use_of_a_missing_file_is_ignored(store):
    await store.note_use(a_name())
    assert await kept(store) == {}


async def test_the_room_that_is_left_is_positive_or_unknown(store):
    await keep(store, b"a file")
    free = await store.free_bytes()
    assert free is None or free > 0


async def test_a_lock_is_taken_once(store, other):
    name = a_name()
    calls = [one.lock(name, FAR_S) for _ in range(20) for one in (store, other)]
    assert (await asyncio.gather(*calls)).count(True) == 1
    assert await store.lock(a_name(), FAR_S)


async def test_a_released_lock_is_taken_again(store, other):
    name = a_name()
    await store.unlock(name)
    assert await store.lock(name, FAR_S)
    assert not await other.lock(name, FAR_S)
    await store.unlock(name)
    assert await other.lock(name, FAR_S)


async def test_nobody_releases_the_lock_of_another_server(store, other):
    name = a_name()
    assert await store.lock(name, FAR_S)
    await other.unlock(name)
    assert not await other.lock(name, FAR_S)


async def test_a_lock_that_is_extended_is_never_free(store, other):
    name = a_name()
    assert await store.lock(name, 1.0)
    taken: list[bool] = []
    ended = time.monotonic() + 1.5
    while time.monotonic() < ended:
        assert await store.extend(name, FAR_S)
        taken.append(await other.lock(name, FAR_S))
    assert not any(taken)
    await store.unlock(name)
    assert await other.lock(name, FAR_S)


async def test_nobody_extends_what_it_does_not_hold(store, other):
    name = a_name()
    assert not await store.extend(name, FAR_S)
    assert await store.lock(name, FAR_S)
    assert not await other.extend(name, FAR_S)
    await store.unlock(name)
    assert not await store.extend(name, FAR_S)
    assert await other.lock(name, FAR_S)


async def test_a_lock_that_another_took_after_its_end_is_not_extended(store, other):
    name = a_name()
    assert await store.lock(name, 0.2)

    async def taken() -> bool:
        return bool(await other.lock(name, FAR_S))

    await until_true(taken)
    assert not await store.extend(name, FAR_S)
    await store.unlock(name)
    assert not await store.lock(name, FAR_S)


async def test_a_lock_ends_by_itself(store, other):
    name = a_name()
    assert await store.lock(name, 1.0)
    taken: list[bool] = []

    async def ended() -> bool:
        taken[:] = await asyncio.gather(*(other.lock(name, FAR_S) for _ in range(3)))
        return any(taken)

    await until_true(ended)
    assert taken.count(True) == 1
    await store.unlock(name)  # which it lost
    assert not await store.lock(name, FAR_S)


async def test_leftovers_are_removed_and_locks_stay(store, other):
    name, digest = a_name(), await keep(store, b"kept")
    assert await store.lock(name, FAR_S)
    await other.remove_leftovers()
    assert not await other.lock(name, FAR_S)
    assert await content_of(await store.open(digest)) == b"kept"


async def test_a_page_is_read_by_every_server(store, other):
    key = a_name()
    assert await store.read_page(key, 100) is None
    for content in (b"first", b"the second one", b""):
        await store.write_page(key, content)
        assert [await one.read_page(key, 100) for one in (store, other)] == [content, content]


async def test_a_page_that_is_too_large_counts_as_missing(store):
    key = a_name()
    await store.write_page(key, b"12345")
    assert await store.read_page(key, 4) is None
    assert await store.read_page(key, 5) == b"12345"


async def test_old_pages_are_removed_but_for_some(store, other):
    old, pinned = a_name(), a_name()
    await store.write_page(old, b"old")
    await store.write_page(pinned, b"pinned")
    digest = await keep(store, b"a file")
    assert await other.remove_pages(FAR_S) == len(b"old") + len(b"pinned")
    assert await store.read_page(old, 100) == b"old"

    async def removed() -> bool:
        left = await other.remove_pages(0.0, but_for={pinned, a_name()})
        return bool(left == len(b"pinned"))

    await until_true(removed)
    assert [await store.read_page(key, 100) for key in (old, pinned)] == [None, b"pinned"]
    assert set(await kept(store)) == {digest}


async def test_pins_are_of_a_repo(store, other):
    assert await store.pins(TEAM) == ()
    assert await all_pins(store) == {}
    await store.pin(TEAM, pin())
    await other.pin(OTHER, pin("other-1.0.tar.gz"))
    assert [await one.pins(TEAM) for one in (store, other)] == [(pin(),), (pin(),)]
    assert await all_pins(store) == {TEAM: (pin(),), OTHER: (pin("other-1.0.tar.gz"),)}
    assert set(await store.pinning_repos()) == {TEAM, OTHER}


async def test_a_pin_replaces_the_one_before_it(store, other):
    await store.pin(TEAM, pin())
    await store.pin(TEAM, pin())
    await other.pin(TEAM, pin(content=b"another"))
    await store.pin(TEAM, pin("acme-2.0.tar.gz"))
    await store.pin(TEAM, pin(project=ProjectName("other")))
    wanted = {pin(content=b"another"), pin("acme-2.0.tar.gz"), pin(project=ProjectName("other"))}
    for one in (store, other):
        found = await one.pins(TEAM)
        assert (set(found), len(found)) == (wanted, 3)


async def test_an_unpinned_file_is_no_pin(store, other):
    await store.pin(TEAM, pin())
    await store.pin(TEAM, pin("acme-2.0.tar.gz"))
    await other.unpin(TEAM, ACME, "acme-1.0.tar.gz")
    await other.unpin(TEAM, ACME, "acme-1.0.tar.gz")
    await store.unpin(OTHER, ACME, "acme-1.0.tar.gz")
    assert [await one.pins(TEAM) for one in (store, other)] == [(pin("acme-2.0.tar.gz"),)] * 2
    await store.unpin(TEAM, ACME, "acme-2.0.tar.gz")
    assert await all_pins(other) == {}
    assert await other.pinning_repos() == ()
    await other.pin(TEAM, pin())
    assert await store.pins(TEAM) == (pin(),)


async def test_pins_that_servers_make_concurrently_are_all_kept(store, other):
    pins = [pin(f"acme-{n}.0.tar.gz") for n in range(40)]
    await asyncio.gather(*(one.pin(TEAM, each) for each, one in zip(pins, itertools.cycle((store, other)))))
    assert set(await store.pins(TEAM)) == set(await other.pins(TEAM)) == set(pins)


async def test_a_pin_holds_any_name(store, other):
    name = "acme-1.0+local.ünïcode_äß-" + "x" * 180 + ".whl"
    odd = Pin(ACME, name, digest_of(b"odd"), 2**40)
    await store.pin(TEAM, odd)
    assert await other.pins(TEAM) == (odd,)


async def test_what_is_kept_outlives_its_server(open_cache):
    first = open_cache()
    digest, key = await keep(first, b"kept"), a_name()
    await first.write_page(key, b"page")
    await first.pin(TEAM, pin())
    await first.aclose()
    second = open_cache()
    assert await content_of(await second.open(digest)) == b"kept"
    assert await second.read_page(key, 100) == b"page"
    assert await all_pins(second) == {TEAM: (pin(),)}
    await second.aclose()
