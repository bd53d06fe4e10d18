"""Check the workers of one server: after one answers an upload, the next page of every other shows it."""

import asyncio
import os

import pytest

from pywharf.core.errors import BackendUnavailableError
from pywharf.core.names import ProjectName
from pywharf.index.follower import Follower
from pywharf.index.generations import Generations
from pywharf.index.ports import Backend, JournalEntry, JournalRead
from support.distributions.wheels import wheel
from support.storage.storages import STORAGES
from support.storage.uploads import publish

FOO = ProjectName("foo")


@pytest.fixture
def backend(tmp_path) -> Backend:
    return STORAGES["file_system"].make(tmp_path / "root")("index.json")


def follower(backend: Backend, generations: Generations | None) -> Follower:
    return Follower("team-a", backend, generation=generations.of("team-a") if generations is not None else None)


def test_a_forked_process_renews_what_this_one_sees():
    generations = Generations()
    ours, another = generations.of("team-a"), generations.of("team-b")
    before = ours.current(), another.current()
    child = os.fork()
    if not child:
        generations.of("team-a").renew()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert ours.current() != before[0]
    assert another.current() == before[1]


async def test_a_page_reads_the_storage_where_another_worker_took_an_upload(backend, tmp_path):
    generations = Generations()
    taker, other, alone = (follower(backend, g) for g in (generations, generations, None))
    for one in (taker, other, alone):
        await one.refresh()
        assert (await one.latest()).project(FOO) is None
    file = await publish(backend, wheel(tmp_path, "foo"))
    await taker.note(JournalEntry(FOO, file))
    project = (await other.latest()).project(FOO)
    assert project is not None
    assert project.files == (file,)
    assert (await alone.latest()).project(FOO) is None


async def test_concurrent_pages_share_a_read_that_began_after_the_upload(backend, tmp_path, monkeypatch):
    generations = Generations()
    taker, other = follower(backend, generations), follower(backend, generations)
    await taker.refresh()
    await other.refresh()
    await other.latest()
    reads = 0
    read = backend.read_journal

    async def counted(cursor: str | None = None) -> JournalRead:
        nonlocal reads
        reads += 1
        found: JournalRead = await read(cursor)
        await asyncio.sleep(0.05)  # so that the next upload comes after the read but before the return
        return found

    for number in range(3):
        files = {f"foo-{n}.0-py3-none-any.whl" for n in range(number)}
        generations.of("team-a").renew()
        monkeypatch.setattr(backend, "read_journal", counted)
        early = asyncio.create_task(other.latest())
        await asyncio.sleep(0.02)  # it has read the journal
        monkeypatch.setattr(backend, "read_journal", read)
        file = await publish(backend, wheel(tmp_path, "foo", f"{number}.0"))
        await taker.note(JournalEntry(FOO, file))
        monkeypatch.setattr(backend, "read_journal", counted)
        reads = 0
        for catalog in await asyncio.gather(*(other.latest() for _ in range(50))):
            project = catalog.project(FOO)
            assert project is not None
            assert {f.filename for f in project.files} == files | {file.filename}
        assert reads <= 2
        await early
        monkeypatch.setattr(backend, "read_journal", read)


async def test_where_the_storage_fails_what_is_known_is_shown(backend, tmp_path, monkeypatch):
    generations = Generations()
    other = follower(backend, generations)
    file = await publish(backend, wheel(tmp_path, "foo"))
    await other.refresh()

    async def fails(cursor: str | None = None) -> JournalRead:
        raise BackendUnavailableError("gone")

    async def hangs(cursor: str | None = None) -> JournalRead:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr("pywharf.index.follower._CATCH_UP_S", 0.2)
    for broken in (fails, hangs):
        monkeypatch.setattr(backend, "read_journal", broken)
        generations.of("team-a").renew()
        for _ in range(2):
            project = (await other.latest()).project(FOO)
            assert project is not None
            assert project.files == (file,)
