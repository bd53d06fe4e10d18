"""Check what readers of a growing file get, and when: bytes as they come, the end only once it is verified."""

import asyncio
import hashlib
from pathlib import Path

import pytest

from pywharf.core.errors import StorageFullError, UpstreamError, WrongContentError
from pywharf.index.upstream import spool_room
from pywharf.index.upstream.spool import WITHHELD, Spool
from pywharf.index.upstream.spool_room import SpoolRoom

CONTENT = bytes(range(256)) * 1024
DIGEST = hashlib.sha256(CONTENT).hexdigest()
SIZE = len(CONTENT)
HALF = SIZE // 2
GB = 1024**3


async def grown(folder: Path, count: int = HALF, size: int | None = SIZE) -> Spool:
    spool = Spool(folder, size)
    await spool.create()
    await spool.write(CONTENT[:count])
    return spool


def is_waiting(task: asyncio.Task[int]) -> bool:
    return not task.done()


@pytest.mark.parametrize(
    ("count", "size", "end", "expected"),
    [
        (HALF, SIZE, None, HALF),
        (HALF, SIZE, SIZE, HALF),
        (SIZE, SIZE, None, SIZE - WITHHELD),
        (SIZE, SIZE, HALF, HALF - WITHHELD),
        (HALF, None, None, HALF - WITHHELD),
    ],
)
async def test_the_end_of_what_is_sent_is_withheld(tmp_path, count, size, end, expected):
    spool = await grown(tmp_path, count, size)
    assert await spool.ready(0, end) == expected
    waiting = asyncio.create_task(spool.ready(expected, end))
    await asyncio.sleep(0)
    assert is_waiting(waiting)
    await spool.write(CONTENT[count:])
    assert spool.complete(DIGEST) == DIGEST
    assert await waiting in {SIZE - WITHHELD, SIZE, end}
    until = SIZE if end is None else end
    assert await spool.ready(0, end) == until
    assert await spool.ready(until, end) == until, "the end comes back as it is"
    await spool.remove()


async def test_readers_wake_for_new_bytes_and_for_the_failure(tmp_path):
    spool = await grown(tmp_path)
    waiting = asyncio.create_task(spool.ready(HALF, None))
    await spool.write(CONTENT[HALF : HALF + 10])
    assert await waiting == HALF + 10
    readers = [asyncio.create_task(spool.ready(HALF + 10, None)) for _ in range(3)]
    await asyncio.sleep(0)
    spool.fail(UpstreamError("it is gone"))
    for reader in readers:
        with pytest.raises(UpstreamError, match="it is gone"):
            await reader
    assert await spool.ready(0, None) == HALF + 10, "what came may be sent; the end never comes"
    await spool.remove()


@pytest.mark.parametrize(
    ("count", "size", "digest", "expected"),
    [
        (SIZE, SIZE, "0" * 64, "digest differs"),
        (SIZE, None, "0" * 64, "digest differs"),
        (HALF, SIZE, DIGEST, f"sent {HALF} of the {SIZE} bytes"),
    ],
)
async def test_wrong_content_is_never_complete(tmp_path, count, size, digest, expected):
    spool = await grown(tmp_path, count, size)
    with pytest.raises(WrongContentError, match=expected):
        spool.complete(digest)
    assert await spool.ready(0, None) < SIZE
    await spool.remove()
    assert not list(tmp_path.iterdir())


async def test_more_bytes_than_announced_are_refused_before_they_are_written(tmp_path):
    spool = await grown(tmp_path, SIZE)
    with pytest.raises(WrongContentError, match=f"more than the {SIZE} bytes"):
        await spool.write(b"x")
    assert spool.path.stat().st_size == SIZE
    await spool.remove()


async def test_an_open_file_stays_readable_when_it_is_moved_or_removed(tmp_path):
    spool = await grown(tmp_path, SIZE)
    with await spool.open() as opened:
        await spool.remove()
        assert opened.read() == CONTENT
    with pytest.raises(FileNotFoundError):
        await spool.open()


async def test_removing_waits_for_those_that_are_opening(tmp_path):
    spool = await grown(tmp_path, SIZE)
    opening = asyncio.create_task(spool.open())
    await asyncio.sleep(0)
    await spool.remove()
    (await opening).close()


async def test_a_cancelled_writer_leaves_a_file_that_is_removed(tmp_path):
    spool = await grown(tmp_path)
    writing = asyncio.create_task(spool.write(CONTENT[HALF:]))
    await asyncio.sleep(0)
    writing.cancel()
    removing = asyncio.create_task(spool.remove())
    await asyncio.sleep(0)
    await removing
    assert not list(tmp_path.iterdir())


async def test_files_together_take_bounded_room(tmp_path):
    room = SpoolRoom(100)
    async with room.share(tmp_path, 60) as share:
        with pytest.raises(StorageFullError):
            async with room.share(tmp_path, 41):
                pass
        share.take(60)
        async with room.share(tmp_path, None) as other:
            other.take(40)
            with pytest.raises(StorageFullError):
                other.take(1)
            with pytest.raises(StorageFullError):
                share.take(1)
    async with room.share(tmp_path, 100):
        pass


async def test_no_file_is_begun_for_which_the_disk_has_no_room(tmp_path, monkeypatch):
    free = GB

    async def some_free(_folder: Path) -> int:
        return free

    monkeypatch.setattr(spool_room, "_free", some_free)
    room = SpoolRoom(10 * GB)
    with pytest.raises(StorageFullError):
        async with room.share(tmp_path, GB):
            pass
    async with room.share(tmp_path, GB // 2) as first:
        with pytest.raises(StorageFullError):
            async with room.share(tmp_path, GB // 2):
                pass
        first.take(GB // 2)
        free -= GB // 2  # it is written, so what is free says it
        async with room.share(tmp_path, GB // 4):
            pass
