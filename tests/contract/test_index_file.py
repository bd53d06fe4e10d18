"""The index file: replaced completely or not at all, by one writer at a time; either codec can be read."""

import asyncio
import os

import pytest

from pywharf.core.errors import IndexConflictError
from pywharf.index.ports import UNCHANGED, Backend, StoredIndex
from support.storage.storages import SHARED


async def stored(backend: Backend) -> StoredIndex:
    found = await backend.read_index()
    assert isinstance(found, StoredIndex), found
    return found


async def test_there_is_none_at_first(backend):
    assert await backend.read_index() is None
    assert await backend.read_index("a version of long ago") is None


async def test_what_was_written_is_read(backend, other):
    version = await backend.write_index(b"one", expected=None)
    for one in (backend, other):
        assert await one.read_index() == StoredIndex("index.json", b"one", version)
        assert await one.read_index(version) is UNCHANGED
        assert await one.read_index("another version") == StoredIndex("index.json", b"one", version)


async def test_each_write_makes_a_version(backend, other):
    versions: list[str | None] = [None]
    for content in (b"one", b"two", b"", b"one and more" * 100_000):
        versions.append(await backend.write_index(content, expected=versions[-1]))
        assert (await stored(other)).content == content
        assert await other.read_index(versions[-2]) == await stored(other)
        assert await other.read_index(versions[-1]) is UNCHANGED


@pytest.mark.parametrize("expected", [None, "a version of long ago", "the first"])
async def test_a_writer_that_did_not_see_the_last_one_is_refused(backend, other, expected):
    first = await backend.write_index(b"one", expected=None)
    second = await other.write_index(b"two", expected=first)
    with pytest.raises(IndexConflictError, match="run update_index again"):
        await backend.write_index(b"three", expected=first if expected == "the first" else expected)
    assert await backend.read_index() == StoredIndex("index.json", b"two", second)


async def test_a_writer_that_expects_one_where_there_is_none_is_refused(backend):
    with pytest.raises(IndexConflictError):
        await backend.write_index(b"one", expected="a version of long ago")
    assert await backend.read_index() is None


@pytest.mark.parametrize("is_first", [True, False])
async def test_of_concurrent_writers_one_wins(backend, other, is_first):
    expected = None if is_first else await backend.write_index(b"old", expected=None)
    writers = [(backend, other)[i % 2].write_index(b"%d" % i, expected=expected) for i in range(20)]
    results = await asyncio.gather(*writers, return_exceptions=True)
    won = [i for i, result in enumerate(results) if isinstance(result, str)]
    assert len(won) == 1, results
    assert all(isinstance(r, IndexConflictError) for i, r in enumerate(results) if i != won[0]), results
    assert await other.read_index() == StoredIndex("index.json", b"%d" % won[0], str(results[won[0]]))


async def test_a_reader_during_writes_gets_a_whole_index(backend, other):
    contents = [os.urandom(200_000 + 1000 * i) for i in range(20)]
    done = asyncio.Event()
    read: list[bytes] = []

    async def write() -> None:
        version: str | None = None
        for content in contents:
            version = await backend.write_index(content, expected=version)
        done.set()

    async def keep_reading() -> None:
        while not done.is_set():
            found = await other.read_index()
            if isinstance(found, StoredIndex):
                read.append(found.content)
            await asyncio.sleep(0)

    await asyncio.gather(write(), keep_reading())
    assert all(content in contents for content in read)
    assert (await stored(other)).content == contents[-1]


@pytest.mark.parametrize("opened", SHARED, indirect=True)
@pytest.mark.parametrize("written", ["index.toml", "index.json"])
async def test_either_codec_is_read(opened, written):
    writer, reader = opened(written), opened("index.json" if written == "index.toml" else "index.toml")
    version = await writer.write_index(b"one", expected=None)
    assert await reader.read_index() == StoredIndex(written, b"one", version)
    assert await reader.read_index(version) is UNCHANGED


@pytest.mark.parametrize("opened", SHARED, indirect=True)
async def test_another_codec_takes_the_place_of_the_one_before(opened):
    toml, json = opened("index.toml"), opened("index.json")
    old = await toml.write_index(b"old", expected=None)
    with pytest.raises(IndexConflictError):
        await json.write_index(b"new", expected=None)
    new = await json.write_index(b"new", expected=old)
    for one in (toml, json):
        assert await one.read_index(old) == StoredIndex("index.json", b"new", new)
    with pytest.raises(IndexConflictError):
        await toml.write_index(b"newer", expected=old)
    newer = await toml.write_index(b"newer", expected=new)
    for one in (toml, json):
        assert await one.read_index() == StoredIndex("index.toml", b"newer", newer)


@pytest.mark.parametrize("opened", SHARED, indirect=True)
async def test_indexes_of_other_names_are_others(opened):
    await opened("one.json").write_index(b"one", expected=None)
    assert await opened("two.json").read_index() is None
    await opened("two.json").write_index(b"two", expected=None)
    assert (await stored(opened("one.toml"))).content == b"one"
