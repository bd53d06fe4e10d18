"""The journal: each reader reads each upload once, until it is folded into the index."""

import asyncio
import random

import pytest

from pywharf.core.model import File
from pywharf.index.ports import Backend
from support.distributions.wheels import wheel
from support.storage.storages import FOLDING, SHARED
from support.storage.uploads import publish


async def published(backend: Backend, made, *versions: str) -> list[File]:
    return [await publish(backend, wheel(made, "foo", version)) for version in versions]


async def test_an_empty_one_is_read_from_its_beginning(backend, other):
    first = await backend.read_journal()
    assert (first.entries, first.restarted) == ((), True)
    for one in (backend, other):
        again = await one.read_journal(first.cursor)
        assert (again.entries, again.restarted, again.cursor) == ((), False, first.cursor)


async def test_each_upload_is_read_once_and_in_order(backend, other, made):
    cursor = (await other.read_journal()).cursor
    seen: list[str] = []
    for versions in (["1.0"], ["2.0", "3.0"], [], ["4.0"]):
        files = await published(backend, made, *versions)
        read = await other.read_journal(cursor)
        assert [e.file for e in read.entries] == files
        assert all(e.project == "foo" for e in read.entries)
        seen += [e.file.filename for e in read.entries]
        cursor = read.cursor
    whole = await other.read_journal()
    assert [e.file.filename for e in whole.entries] == seen
    assert (whole.restarted, whole.cursor) == (True, cursor)


@pytest.mark.parametrize("opened", FOLDING, indirect=True)
async def test_what_is_folded_is_forgotten_and_every_reader_reads_anew(backend, other, made):
    await published(backend, made, "1.0", "2.0")
    folded = await backend.read_journal()
    behind = await other.read_journal()
    later = await published(backend, made, "3.0")
    ahead = await other.read_journal()
    await backend.fold_journal(folded.cursor)
    for cursor in (None, behind.cursor, ahead.cursor, folded.cursor):
        read = await other.read_journal(cursor)
        assert ([e.file for e in read.entries], read.restarted) == (later, True)
    read = await other.read_journal(read.cursor)
    assert (read.entries, read.restarted) == ((), False)


@pytest.mark.parametrize("opened", FOLDING, indirect=True)
async def test_folding_all_leaves_nothing(backend, other, made):
    await published(backend, made, "1.0")
    reader = await other.read_journal()
    await backend.fold_journal(reader.cursor)
    read = await other.read_journal(reader.cursor)
    assert (read.entries, read.restarted) == ((), True)
    more = await published(backend, made, "2.0")
    read = await other.read_journal(read.cursor)
    assert ([e.file for e in read.entries], read.restarted) == (more, False)


@pytest.mark.parametrize("opened", FOLDING, indirect=True)
async def test_of_two_folds_the_later_one_drops_nothing_it_did_not_read(backend, other, made):
    await published(backend, made, "1.0")
    first = await backend.read_journal()
    await published(backend, made, "2.0")
    second = await other.read_journal()
    (third,) = await published(backend, made, "3.0")
    await backend.fold_journal(first.cursor)
    await other.fold_journal(second.cursor)  # the second fold's positions are from before the first fold
    assert third in [e.file for e in (await other.read_journal()).entries]
    whole = await backend.read_journal()
    await backend.fold_journal(whole.cursor)
    await backend.fold_journal(whole.cursor)
    assert (await other.read_journal()).entries == ()


async def test_folding_nothing_disturbs_nobody(backend, other, made):
    await backend.fold_journal((await backend.read_journal()).cursor)
    empty = await backend.read_journal()
    files = await published(backend, made, "1.0")
    reader = await other.read_journal()
    await backend.fold_journal(empty.cursor)
    read = await other.read_journal(reader.cursor)
    assert (read.entries, read.restarted) == ((), False)
    assert [e.file for e in (await other.read_journal()).entries] == files


@pytest.mark.parametrize("opened", FOLDING, indirect=True)
async def test_concurrent_uploads_reads_and_folds_lose_and_double_nothing(backend, other, made):
    paths = [wheel(made, "foo", f"{i}.0") for i in range(40)]
    done = asyncio.Event()
    folded: list[str] = []
    followed: dict[str, None] = {}

    async def upload(part: int) -> None:
        for path in paths[part::4]:
            await publish((backend, other)[part % 2], path)
            await asyncio.sleep(random.random() / 500)

    async def fold() -> None:
        while not done.is_set():
            read = await backend.read_journal()
            await asyncio.sleep(0.003)
            await backend.fold_journal(read.cursor)
            folded.extend(e.file.filename for e in read.entries)

    async def follow() -> None:
        """Follow the journal as a server does: entries read after a restart are kept beside those folded before."""
        cursor = None
        while not done.is_set():
            read = await other.read_journal(cursor)
            names = [e.file.filename for e in read.entries]
            assert len(set(names)) == len(names)
            if not read.restarted:
                assert not followed.keys() & set(names), "an upload was read twice"
            followed.update(dict.fromkeys(names))
            cursor = read.cursor
            await asyncio.sleep(0)

    helpers = [asyncio.create_task(fold()), asyncio.create_task(follow())]
    await asyncio.gather(*(upload(part) for part in range(4)))
    done.set()
    await asyncio.gather(*helpers)
    left = [e.file.filename for e in (await backend.read_journal()).entries]
    assert sorted(folded + left) == sorted(path.name for path in paths)


@pytest.mark.parametrize("opened", SHARED, indirect=True)
async def test_who_opens_it_later_reads_it_all(opened, made):
    files = await published(opened("index.json"), made, "1.0", "2.0")
    read = await opened("index.json").read_journal()
    assert ([e.file for e in read.entries], read.restarted) == (files, True)
