"""The pull-through cache in real object stores: what breaks on the way, and what a store must keep."""

import asyncio
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pywharf.backends.object_store import cache_store
from pywharf.backends.object_store.cache_store import BucketCache
from pywharf.backends.object_store.client import ObjectClient
from pywharf.backends.opening import open_cache
from pywharf.config.cache_config import CACHES, ObjectStoreCache
from pywharf.core.errors import BackendUnavailableError, InvalidConfigError, PreconditionsIgnoredError
from pywharf.index.ports import CacheStore, RedirectContent
from support.object_stores.fault_proxy import FaultProxy, StoreFault, fault_proxy
from support.object_stores.store import ObjectStore
from support.storage.caches import bucket_cache, content_of, digest_of, keep, kept
from support.storage.storages import OBJECT_STORES

LARGE = bytes(range(256)) * 80_000
NAME = digest_of(b"a lock")
OpenStore = Callable[..., CacheStore]


@pytest.fixture
def proxy(s3: ObjectStore) -> Iterator[FaultProxy]:
    with fault_proxy(s3.endpoint) as running:
        yield running


@pytest.fixture
async def behind(s3: ObjectStore, proxy: FaultProxy, tmp_path: Path) -> AsyncIterator[OpenStore]:
    """Return a function that opens one cache through the proxy, as one more server would."""
    opening = bucket_cache(s3, tmp_path, endpoint=proxy.url)
    opened: list[CacheStore] = []

    def open_() -> CacheStore:
        opened.append(opening())
        return opened[-1]

    yield open_
    for store in opened:
        await store.aclose()


async def client_of(store: CacheStore) -> tuple[ObjectClient, str]:
    """Return the client of a cache, and the prefix of its keys."""
    assert isinstance(store, BucketCache)
    return (await store._open()).client, store._layout.prefix  # noqa: SLF001 - the hand that is in the bucket


async def keys_of(store: CacheStore, folder: str = "") -> list[str]:
    client, prefix = await client_of(store)
    keys = [stat.key async for page in client.pages((prefix + folder).rstrip("/")) for stat in page]
    return [key.removeprefix(prefix) for key in keys]


@pytest.mark.parametrize("kind", OBJECT_STORES)
async def test_clients_fetch_files_from_the_store(request, tmp_path, kind):
    store = bucket_cache(request.getfixturevalue(kind), tmp_path, download="redirect")()
    digest = await keep(store, b"0123456789")
    opened = [await store.open(digest) for _ in range(2)]
    assert opened[0] == opened[1]
    assert opened[0] is not None
    assert opened[0][0] == 10
    assert isinstance(opened[0][1], RedirectContent)
    asked = urllib.request.Request(opened[0][1].url, headers={"Range": "bytes=2-4"})
    if kind != "gcs":  # its double has no signatures
        assert await asyncio.to_thread(lambda: urllib.request.urlopen(asked).read()) == b"234"
    await store.aclose()


@pytest.mark.parametrize("kind", OBJECT_STORES)
async def test_a_large_file_goes_in_parts_and_leaves_nothing_behind(request, tmp_path, kind):
    opening = bucket_cache(request.getfixturevalue(kind), tmp_path)
    stores = [opening(), opening()]
    digests = await asyncio.gather(*(keep(store, LARGE) for store in stores))
    opened = await stores[1].open(digests[0])
    assert await content_of(opened) == LARGE
    assert await keys_of(stores[0], "staging/") == []
    assert await keys_of(stores[0], "files/") == [f"files/{digests[0]}", f"files/{digests[0]}.about"]
    await asyncio.gather(*(store.aclose() for store in stores))


@pytest.mark.parametrize("do", ["lost", "cut", 503])
@pytest.mark.parametrize(
    ("method", "key", "content"),
    [
        ("PUT", "/files/[0-9a-f]+$", b"small"),
        ("PUT", ".about$", b"small"),
        ("PUT", "partNumber=2", LARGE),
        ("POST", "/files/.*uploadId", LARGE),
        ("POST", "[?]delete", LARGE),
    ],
)
async def test_a_fault_of_a_moment_costs_nothing(behind, proxy, do, method, key, content):
    store = behind()
    assert await store.lock(NAME, 60.0)
    proxy.faults = [StoreFault(method, key, do)]
    digest = await keep(store, content)
    assert proxy.faults[0].times == 0
    assert await content_of(await behind().open(digest)) == content
    assert await keys_of(store, "staging/") == []


@pytest.mark.parametrize("do", ["lost", "cut", 503])
async def test_a_lock_is_taken_once_and_released_whatever_becomes_of_answers(behind, proxy, do):
    one, other = behind(), behind()
    for store in (one, other):
        await store.pinning_repos()  # which opens it
    proxy.faults = [StoreFault("PUT", "/locks/", do), StoreFault("POST", "[?]delete", do)]
    assert await one.lock(NAME, 600.0)
    assert not await other.lock(NAME, 600.0)
    await one.unlock(NAME)
    assert [fault.times for fault in proxy.faults] == [0, 0]
    assert await other.lock(NAME, 600.0)


async def test_a_store_that_is_away_is_named_and_found_again(behind, proxy):
    store = behind()
    digest = await keep(store, b"kept")
    proxy.faults = [StoreFault("GET|HEAD|PUT", ".", 503, times=1000)]
    calls = (lambda: behind().open(digest), lambda: store.open(digest), lambda: store.read_page(digest, 100))
    for call in (*calls, lambda: kept(store), lambda: keep(store, b"new"), store.pinning_repos):
        with pytest.raises(BackendUnavailableError, match=r"store of the bucket 'packages' .*tried again"):
            await call()
    await store.note_use(digest_of(b"another"))  # which a download does not wait for
    proxy.faults = []
    assert await content_of(await store.open(digest)) == b"kept"
    assert set(await kept(store)) == {digest}


async def test_a_hit_sends_only_what_reads_the_bytes(behind, proxy):
    store = behind()
    digest = await keep(store, b"content")
    await content_of(await store.open(digest))
    proxy.seen.clear()
    for _ in range(50):
        await content_of(await store.open(digest))
        await store.note_use(digest)
    assert [method for method, _ in proxy.seen] == ["GET"] * 50


async def test_a_server_whose_own_disk_cannot_be_used_gives_what_is_kept(s3, tmp_path):
    (tmp_path / "upstream-cache").write_text("no folder")
    table = s3.table(download="stream", secret="given beside it")
    config = CACHES[table.pop("type")](**table)
    with_disk, without = open_cache(config, tmp_path / "a", s3.secret), open_cache(config, tmp_path, s3.secret)
    digest = await keep(with_disk, b"kept")
    assert await content_of(await without.open(digest)) == b"kept"
    assert await without.open(NAME) is None
    assert await without.lock(NAME, 60.0)
    await without.unlock(NAME)
    for store in (with_disk, without):
        await store.aclose()


async def test_interrupted_uploads_are_removed_after_a_day(behind, monkeypatch):
    store = behind()
    client, prefix = await client_of(store)
    for name in ("staging/upload", "staging/probe-1/1"):
        await client.put(prefix + name, b"left")
    digest = await keep(store, b"kept")
    await store.remove_leftovers()
    assert len(await keys_of(store, "staging/")) == 2
    monkeypatch.setattr(cache_store, "_LEFTOVER_S", -60.0)
    await store.remove_leftovers()
    assert await keys_of(store, "staging/") == []
    assert await keys_of(store, "files/") == [f"files/{digest}", f"files/{digest}.about"]


async def test_a_cache_and_a_repo_share_a_bucket(s3, tmp_path):
    """With prefixes of their own, none of which lies in the other."""
    stores = [bucket_cache(s3, tmp_path / f"{number}")() for number in range(2)]
    digests = [await keep(store, f"{number}".encode()) for number, store in enumerate(stores)]
    assert [set(await kept(store)) for store in stores] == [{digest} for digest in digests]


async def test_a_store_that_ignores_preconditions_is_refused(gcs, tmp_path):
    with fault_proxy(gcs.endpoint) as proxy:
        proxy.stripped = {"x-goog-if-generation-match"}
        store = bucket_cache(gcs, tmp_path, endpoint=proxy.url)()
        for _ in range(2):
            with pytest.raises(PreconditionsIgnoredError):
                await store.open(NAME)
        proxy.stripped = set()
        assert await store.open(NAME) is None


@pytest.mark.parametrize(
    ("fields", "secret", "said"),
    [
        (
            {"bucket": "no-such-bucket"},
            None,
            "The bucket 'no-such-bucket' does not exist; create it, or correct the ca",
        ),
        ({}, ("nobody", "x" * 20), "does not know the access key; put valid keys into the cache's secret"),
        ({"region": "eu-west-1"}, None, "set the cache's region to that"),
        ({"endpoint": "http://127.0.0.1:1"}, None, "cannot be connected to"),
    ],
)
async def test_wrong_settings_are_named_as_the_cache_s(s3, tmp_path, fields, secret, said):
    text = s3.secret if secret is None else f'access_key_id = "{secret[0]}"\nsecret_access_key = "{secret[1]}"\n'
    store = open_cache(config_of(s3, **fields), tmp_path, text)
    with pytest.raises(BackendUnavailableError) as raised:
        await store.open(NAME)
    assert said in str(raised.value)
    assert "repo" not in str(raised.value)


@pytest.mark.parametrize("text", ["", "x", 'access_key_id = "a"', "[["])
def test_a_secret_that_is_none_is_refused_at_the_start(s3, tmp_path, text):
    with pytest.raises(InvalidConfigError):
        open_cache(config_of(s3), tmp_path, text)


def config_of(store: ObjectStore, **fields: Any) -> ObjectStoreCache:
    table = store.table(secret="given beside it", **fields)
    config = CACHES[table.pop("type")](**table)
    assert isinstance(config, ObjectStoreCache)
    return config
