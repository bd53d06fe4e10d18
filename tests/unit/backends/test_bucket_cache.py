"""The pull-through cache in a bucket: what it costs in requests, whose clock counts, and what faults leave."""

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywharf.backends.object_store.cache_files import CacheFiles
from pywharf.backends.object_store.cache_layout import CacheLayout
from pywharf.backends.object_store.cache_locks import MAX_LOCK_S, CacheLocks
from pywharf.backends.object_store.cache_pins import CachePins
from pywharf.backends.object_store.client import Stat, Version
from pywharf.backends.object_store.file_uploads import SMALL_BYTES
from pywharf.backends.object_store.found_objects import LONG, UrlLife
from pywharf.backends.object_store.store_clock import StoreClock
from pywharf.core.errors import BackendUnavailableError, InvalidInputError, StorageFullError
from pywharf.core.names import ProjectName, RepoName
from pywharf.index.ports import USE_GRANULARITY_S, About, KeptFile, Pin, RedirectContent, StreamContent
from support.object_stores.memory_client import MemoryClient

LAYOUT = CacheLayout("cache/")
NAME, SHA = "a" * 64, "b" * 64
TEAM, ACME = RepoName("team-a"), ProjectName("acme")
ABOUT = About(ACME, "acme-1.0.tar.gz", "https://index.example/simple/")
WHEN = datetime(2026, 1, 2, tzinfo=UTC)


@dataclass
class World:
    """A bucket, and the time: `skew_s` is by how much the store's clock differs from a server's own."""

    skew_s: float = 0.0
    now_s: float = 1000.4
    clients: list[MemoryClient] = field(default_factory=list)

    def server(self) -> MemoryClient:
        """Return the client of one more server."""
        objects = self.clients[0].objects if self.clients else None
        self.clients.append(MemoryClient(lambda: 1e9 + self.skew_s + self.now_s, objects))
        return self.clients[-1]

    def monotonic(self) -> float:
        """Return the time of each server's own clock, which is never set."""
        return self.now_s

    def clock(self, client: MemoryClient) -> StoreClock:
        return StoreClock(client, LAYOUT.staging, self.monotonic)

    def locks(self, client: MemoryClient | None = None) -> CacheLocks:
        client = client or self.server()
        return CacheLocks(client, LAYOUT, self.clock(client), self.monotonic)

    def files(self, client: MemoryClient, life: UrlLife | None = None) -> CacheFiles:
        return CacheFiles(client, LAYOUT, self.clock(client), life, self.monotonic)

    @property
    def keys(self) -> set[str]:
        return set(self.clients[0].objects)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def fetched(tmp_path: Path) -> Path:
    path = tmp_path / "fetched"
    path.write_bytes(b"content")
    return path


def failing(kind: str, key: str, error: Exception, times: int = 1) -> Callable[[str, str], None]:
    """Return a hook that fails so many requests of a kind for a key."""
    left = [times]

    def hook(method: str, asked: str) -> None:
        if method == kind and asked == key and left[0]:
            left[0] -= 1
            raise error

    return hook


async def listed(files: CacheFiles) -> list[KeptFile]:
    portions = [portion async for portion in files.kept()]
    assert all(portions)
    return [file for portion in portions for file in portion]


# Locks.


@pytest.mark.parametrize("skew_s", [0.0, -90_000.0, 90_000.0, 0.7])
@pytest.mark.parametrize("begun_s", [0.0, 0.3, 0.999])
async def test_a_lock_holds_for_its_time_by_whatever_clock_and_then_exactly_one_gets_it(skew_s, begun_s):
    world = World(skew_s, 1000 + begun_s)
    first, others = world.locks(), [world.locks() for _ in range(8)]
    assert await first.lock(NAME, 60.0)
    for passed_s in (0.0, 30.0, 59.9, 60.0):
        world.now_s = 1000 + begun_s + passed_s
        assert not any(await asyncio.gather(*(one.lock(NAME, 60.0) for one in others)))
    world.now_s = 1000 + begun_s + 65.0
    taken = await asyncio.gather(*(one.lock(NAME, 60.0) for one in (*others, first)))
    assert taken.count(True) == 1


async def test_an_extended_lock_lasts_from_then_on_and_is_never_free(world):
    client = world.server()
    first, other = world.locks(client), world.locks()
    assert await first.lock(NAME, 60.0)
    for _ in range(9):
        world.now_s += 20
        assert await first.extend(NAME, 60.0)
        assert not await other.lock(NAME, 60.0)
    assert client.requests["replace"] == 9
    world.now_s += 59
    assert not await other.lock(NAME, 60.0)
    world.now_s += 6
    assert await other.lock(NAME, 60.0)
    assert not await first.extend(NAME, 60.0)
    await first.unlock(NAME)
    assert not await first.lock(NAME, 60.0)


async def test_a_lock_is_extended_although_the_answer_was_lost(world):
    """The client repeats a request whose answer was lost, and finds its own object."""
    client = world.server()
    locks = world.locks(client)
    assert await locks.lock(NAME, 60.0)
    done = client.replace

    async def repeated(key: str, sent: bytes, expected: Version) -> Version:
        await done(key, sent, expected)
        again: Version = await done(key, sent, expected)
        return again

    client.replace = repeated
    assert await locks.extend(NAME, 60.0)
    assert await locks.extend(NAME, 60.0)


async def test_a_free_lock_costs_two_requests_and_leaves_nothing(world):
    client = world.server()
    locks = world.locks(client)
    assert await locks.lock(NAME, 60.0)
    await locks.unlock(NAME)
    await locks.unlock(NAME)
    assert client.requests == Counter(create=1, delete=1)
    assert world.keys == set()


async def test_who_lost_a_lock_does_not_release_it(world):
    """Even if its request to delete would reach the store late."""
    first, second, third = world.locks(), world.locks(), world.locks()
    assert await first.lock(NAME, 60.0)
    world.now_s += 70
    assert await second.lock(NAME, 60.0)
    await first.unlock(NAME)
    assert not await third.lock(NAME, 60.0)


async def test_a_lock_that_nearly_ended_is_released_without_a_request_to_delete(world):
    client = world.server()
    first, second = world.locks(client), world.locks()
    assert await first.lock(NAME, 60.0)
    world.now_s += 50
    await first.unlock(NAME)
    assert client.requests["delete"] == 0
    assert await second.lock(NAME, 60.0)
    assert not any(await asyncio.gather(first.lock(NAME, 1.0), world.locks().lock(NAME, 1.0)))


@pytest.mark.parametrize("is_ended", [False, True])
async def test_one_s_own_lock_is_known_after_a_lost_answer(world, is_ended):
    """The client repeats a request whose answer was lost, and finds its own object."""
    client = world.server()
    locks, content = world.locks(client), []
    if is_ended:
        assert await world.locks().lock(NAME, 60.0)
        world.now_s += 65
    kind = "replace" if is_ended else "create"

    async def repeated(key: str, sent: bytes, *expected: Version) -> Version:
        content.append(sent)
        await done(key, sent, *expected)
        return await done(key, sent, *expected)

    done: Callable[..., Awaitable[Version]] = getattr(client, kind)
    setattr(client, kind, repeated)
    assert await locks.lock(NAME, 600.0)
    assert client.objects[LAYOUT.lock(NAME)][0] == content[0]
    await locks.unlock(NAME)
    assert LAYOUT.lock(NAME) not in world.keys


async def test_a_foreign_object_locks_for_a_day_at_most(world):
    client = world.server()
    for content in (b"", b"{", b'{"owner": 1}', b"[" * 1000, b"x" * 4000):
        await client.put(LAYOUT.lock(NAME), content)
        assert not await world.locks().lock(NAME, 60.0)
        world.now_s += MAX_LOCK_S + 5
        assert await world.locks().lock(NAME, 60.0)
        await client.delete([LAYOUT.lock(NAME)])


async def test_locks_of_killed_servers_are_removed_and_no_others(world):
    names = [digit * 64 for digit in "0123456789"]
    killed, alive = world.locks(), world.locks()
    assert all([await killed.lock(name, 60.0) for name in names[:6]])
    world.now_s += MAX_LOCK_S + 10
    assert await alive.lock(names[0], MAX_LOCK_S)
    assert await alive.lock(names[8], 60.0)
    await asyncio.gather(world.locks().remove_ended(), world.locks().remove_ended())
    assert world.keys == {LAYOUT.lock(names[0]), LAYOUT.lock(names[8])}
    assert not await world.locks().lock(names[0], 1.0)


async def test_the_store_s_clock_is_read_once_an_hour_and_never_fast(world):
    world.skew_s = 12_345.0
    client = world.server()
    clock = world.clock(client)
    for _ in range(100):
        told = (await asyncio.gather(clock.now(), clock.now()))[0]
        true = 1e9 + world.skew_s + world.now_s
        assert true - 1 <= told <= true
        world.now_s += 70
    assert client.requests == Counter(put=2, head=2, delete=2)
    assert world.keys == set()


# Files.


async def test_a_file_costs_two_requests_to_keep_and_one_a_minute_to_find(world, fetched):
    client = world.server()
    files = world.files(client)
    await files.keep(SHA, fetched, ABOUT)
    assert client.requests == Counter(put=1, create=1)
    for _ in range(1000):
        found = await files.open(SHA)
        assert found is not None
        assert found[0] == 7
        await files.note_use(SHA)
    assert client.requests == Counter(put=1, create=1, head=1)
    world.now_s += 61
    await files.open(SHA)
    assert client.requests["head"] == 2


async def test_many_who_ask_for_one_file_concurrently_cost_one_request(world, fetched):
    client = world.server()
    files = world.files(client)
    assert set(await asyncio.gather(*(files.open(SHA) for _ in range(200)))) == {None}
    await files.keep(SHA, fetched, ABOUT)
    assert len({id(found[1]) for found in await asyncio.gather(*(files.open(SHA) for _ in range(200))) if found}) == 1
    assert client.requests["head"] == 2


@pytest.mark.parametrize("name", ["", "../pins/x", "a" * 63, "A" * 64, f"{SHA}/", f"{SHA}\n", f"{SHA}.used"])
async def test_what_is_no_digest_leads_nowhere(world, fetched, name):
    files, locks = world.files(world.server()), world.locks()
    calls = (files.open(name), files.keep(name, fetched, ABOUT), files.remove([name]), files.note_use(name))
    for call in (*calls, files.abouts([name]), locks.lock(name, 1.0)):
        with pytest.raises(ValueError, match="is no SHA-256"):
            await call
    assert world.keys == set()


async def test_a_use_is_noted_once_an_hour_by_each_server(world, fetched):
    one, other = world.server(), world.server()
    files = world.files(one), world.files(other)
    await files[0].keep(SHA, fetched, ABOUT)
    for _ in range(3):
        for _ in range(100):
            await asyncio.gather(*(each.note_use(SHA) for each in files))
            world.now_s += USE_GRANULARITY_S / 101
        world.now_s += USE_GRANULARITY_S / 101
    assert one.requests == Counter(put=1 + 2, create=1)
    assert other.requests == Counter(put=3)
    (file,) = await listed(files[0])
    assert 1e9 + world.now_s - file.last_used <= USE_GRANULARITY_S + 1


async def test_a_use_that_cannot_be_noted_breaks_no_download_and_is_not_repeated_for_each(world):
    client = world.server()
    files = world.files(client)
    client.before = failing("put", LAYOUT.used(SHA), BackendUnavailableError("away"))
    for _ in range(50):
        await files.note_use(SHA)
    assert client.requests == Counter(put=1)
    world.now_s += 61
    await files.note_use(SHA)
    assert client.requests == Counter(put=2)
    assert world.keys == {LAYOUT.used(SHA)}


async def test_a_signed_url_is_the_same_for_its_time_while_the_file_is_there(world, fetched):
    one, other = world.server(), world.server()
    files, elsewhere = world.files(one, LONG), world.files(other)
    await files.keep(SHA, fetched, ABOUT)
    urls = []
    for _ in range(100):
        found = await files.open(SHA)
        assert found is not None
        assert isinstance(found[1], RedirectContent)
        urls.append(found[1].url)
        world.now_s += 59
    assert len(set(urls)) == math.ceil(100 * 59 / LONG.given_s)
    assert one.requests["sign"] == len(set(urls))
    await elsewhere.remove([SHA])
    world.now_s += 61
    assert await files.open(SHA) is None


async def test_a_file_that_another_server_removes_breaks_the_stream_and_is_missed_then(world, fetched):
    files, elsewhere = world.files(world.server()), world.files(world.server())
    await files.keep(SHA, fetched, ABOUT)
    found = await files.open(SHA)
    assert found is not None
    await elsewhere.remove([SHA])
    assert isinstance(found[1], StreamContent)
    with pytest.raises(BackendUnavailableError, match="removed from the cache") as raised:
        [part async for part in found[1].open(0, 6)]
    assert raised.value.retry_after_s == 1
    assert await files.open(SHA) is None


@pytest.mark.parametrize("size", [0, 7, SMALL_BYTES, SMALL_BYTES + 1])
async def test_of_servers_that_keep_one_file_one_writes_it(world, tmp_path, size):
    path = tmp_path / "fetched"
    path.write_bytes(b"x" * size)
    clients = [world.server() for _ in range(4)]
    await asyncio.gather(*(world.files(client).keep(SHA, path, ABOUT) for client in clients))
    assert world.keys == {LAYOUT.file(SHA), LAYOUT.about(SHA)}
    assert clients[0].objects[LAYOUT.file(SHA)][0] == path.read_bytes()


@pytest.mark.parametrize("content", [b"", b"half of i", bytes(SMALL_BYTES + 1)])
async def test_an_object_of_another_size_is_replaced(world, tmp_path, content):
    client = world.server()
    await client.put(LAYOUT.file(SHA), b"by hand")
    path = tmp_path / "fetched"
    path.write_bytes(content)
    await world.files(client).keep(SHA, path, ABOUT)
    assert client.objects[LAYOUT.file(SHA)][0] == content


async def test_servers_that_replace_one_wrong_object_do_not_fail(world, fetched):
    clients = [world.server() for _ in range(3)]
    await clients[0].put(LAYOUT.file(SHA), b"by somebody")
    await asyncio.gather(*(world.files(client).keep(SHA, fetched, ABOUT) for client in clients))
    assert clients[0].objects[LAYOUT.file(SHA)][0] == b"content"


async def test_another_writer_of_the_prefix_is_named(world, fetched):
    client, other = world.server(), world.server()

    def write(method: str, key: str) -> None:
        if method == "create" and key == LAYOUT.file(SHA):
            other.objects[key] = (b"x", Stat(key, 1, Version("x"), WHEN))

    client.before = write
    with pytest.raises(BackendUnavailableError, match="Something else writes"):
        await world.files(client).keep(SHA, fetched, ABOUT)


@pytest.mark.parametrize("kind", ["put", "create"])
async def test_a_full_store_keeps_nothing(world, fetched, kind):
    client = world.server()
    files = world.files(client)
    key = LAYOUT.about(SHA) if kind == "put" else LAYOUT.file(SHA)
    client.before = failing(kind, key, StorageFullError("full"))
    with pytest.raises(StorageFullError):
        await files.keep(SHA, fetched, ABOUT)
    assert await files.open(SHA) is None
    await files.keep(SHA, fetched, ABOUT)
    assert await files.open(SHA) is not None


async def test_notes_without_a_file_are_removed_after_an_hour(world, fetched):
    client = world.server()
    files = world.files(client)
    digests = [digit * 64 for digit in "0123456789"]
    for digest in digests:
        await files.note_use(digest)
        await client.put(LAYOUT.about(digest), b"{}")
    for digest in digests[::3]:
        await files.keep(digest, fetched, ABOUT)
    for passed_s, notes in ((3500, 20), (3700, 8)):
        world.now_s = 1000 + passed_s
        found = await listed(files)
        assert [(file.sha256, file.size) for file in found] == [(digest, 7) for digest in digests[::3]]
        assert len(world.keys) == notes + 4


async def test_a_list_is_right_wherever_its_pages_end(world, fetched):
    files = world.files(world.server())
    digests = [f"{number:064x}" for number in range(17)]
    for number, digest in enumerate(digests):
        await files.keep(digest, fetched, ABOUT)
        world.now_s += 2 * USE_GRANULARITY_S
        if number % 3 == 0:
            await files.note_use(digest)
    found = await listed(files)
    assert [file.sha256 for file in found] == digests
    used = [1e9 + math.floor(1000 + 2 * USE_GRANULARITY_S * (number + (number % 3 == 0))) for number in range(17)]
    assert [file.last_used for file in found] == used


async def test_objects_of_others_are_no_files(world):
    client = world.server()
    for name in ("x", "A" * 64, f"{SHA}.other", f"{SHA}/about", f"{SHA}.about/x", f"x{SHA}", f"{SHA}\n"):
        await client.put(f"{LAYOUT.files}/{name}", b"")
    assert await listed(world.files(client)) == []


async def test_a_removal_goes_on_after_it_was_interrupted(world, fetched):
    client = world.server()
    files = world.files(client)
    await files.keep(SHA, fetched, ABOUT)
    client.before = failing("delete", LAYOUT.file(SHA), BackendUnavailableError("away"))
    with pytest.raises(BackendUnavailableError):
        await files.remove([SHA])
    assert [file.sha256 for file in await listed(files)] == [SHA]
    await files.remove([SHA])
    assert not [key for key in world.keys if SHA in key]


# Pins.


async def test_a_pin_costs_two_requests_and_a_list_reads_all(world):
    client = world.server()
    pins = CachePins(client, LAYOUT)
    for number in range(10):
        await pins.pin(TEAM, Pin(ACME, f"acme-{number}.tar.gz", SHA, number))
    assert client.requests == Counter(list=10, put=10)
    await pins.pin(TEAM, Pin(ACME, "acme-1.tar.gz", SHA, 1))
    assert client.requests == Counter(list=11, put=10)
    assert len(await pins.pins(TEAM)) == 10
    assert client.requests["get"] == 0


async def test_of_concurrent_pins_of_one_name_one_counts_and_the_next_call_mends(world):
    servers = [CachePins(world.server(), LAYOUT) for _ in range(5)]
    made = [Pin(ACME, "acme-1.tar.gz", f"{number}" * 64, number) for number in range(5)]
    await asyncio.gather(*(one.pin(TEAM, pin) for one, pin in zip(servers, made, strict=True)))
    (counted,) = await servers[0].pins(TEAM)
    assert counted in made
    await servers[0].pin(TEAM, made[3])
    assert await servers[1].pins(TEAM) == (made[3],)
    assert len(world.keys) == 1


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=255), st.integers(0, 2**53))
def test_every_pin_is_read_back_from_its_key(filename, size):
    pin = Pin(ACME, filename, SHA, size)
    try:
        key = LAYOUT.pin(TEAM, pin)
    except InvalidInputError:
        assert len(filename.encode()) > 255
        return
    assert LAYOUT.parse_pin(Stat(key, 3, Version(""), WHEN)) == (TEAM, pin)
    folders = key.removeprefix(f"{LAYOUT.pins_of(TEAM)}/").split("/")
    assert all(folder and not folder.startswith(".") and len(folder) <= 200 and folder.isascii() for folder in folders)


@pytest.mark.parametrize(
    "filename", ["", ".", "..", "../acme-1.tar.gz", "acme-1.tar.gz/..", "/", "a" * 5000, "\0", "é"]
)
async def test_a_hostile_name_unpins_no_other_file(world, filename):
    pins = CachePins(world.server(), LAYOUT)
    kept = [Pin(ACME, name, SHA, 1) for name in ("acme-1.tar.gz", "a" * 250, "a" * 200)]
    for pin in kept:
        await pins.pin(TEAM, pin)
    await pins.unpin(TEAM, ACME, filename)
    assert set(await pins.pins(TEAM)) == set(kept)
    await pins.unpin(TEAM, ACME, "a" * 200)
    assert set(await pins.pins(TEAM)) == set(kept[:2])


async def test_a_repo_s_pins_are_its_own(world):
    pins = CachePins(world.server(), LAYOUT)
    repos = [RepoName(name) for name in ("a", "a-b", "a.b", "a0", "ab")]
    for number, repo in enumerate(repos):
        await pins.pin(repo, Pin(ACME, "acme-1.tar.gz", SHA, number))
    for number, repo in enumerate(repos):
        assert [pin.size for pin in await pins.pins(repo)] == [number]
    assert set(await pins.pinning_repos()) == set(repos)
