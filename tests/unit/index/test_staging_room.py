"""The room on disk that uploads share: bounded, fair to repos, and given back."""

from pathlib import Path

import pytest

from pywharf.core.errors import BusyError, TooLargeError
from pywharf.index.staging import StagedFile
from pywharf.index.staging_room import StagingRoom


def test_one_repo_gets_half():
    room = StagingRoom(100)
    room.take("a", 30)
    room.take("a", 20)
    with pytest.raises(BusyError, match="take 50 of the 100 bytes that the server keeps for them, 50 of them yours"):
        room.take("a", 1)
    room.take("b", 25)
    room.give_back("a", 20)
    room.take("b", 10)


def test_a_repo_without_uploads_still_gets_some():
    room = StagingRoom(1000)
    for repo in "abcdefgh":
        room.take(repo, 1)
    held = dict.fromkeys("abcdefgh", 1)
    for repo in "abcdefgh":
        while True:
            try:
                room.take(repo, 1)
            except BusyError:
                break
            held[repo] += 1
    assert sum(held.values()) < 1000
    room.take("late", 1)


def test_without_a_bound():
    room = StagingRoom()
    room.take("a", 2**60)
    room.take("b", 2**60)


def test_a_file_that_never_fits():
    room = StagingRoom(100)
    share = room.share_of("a")
    share.take(50)
    with pytest.raises(TooLargeError, match="over 50 bytes, and the server has no room to receive a larger one"):
        share.take(1)
    share.close()
    room.take("a", 50)


async def test_an_upload_gives_its_room_back(tmp_path: Path):
    room = StagingRoom(100)
    for _ in range(2):
        async with StagedFile(tmp_path, 1000, room.share_of("a")) as staged:
            await staged.write(b"x" * 50)
            with pytest.raises(TooLargeError):
                await staged.write(b"x")
    room.take("a", 50)
    assert list(tmp_path.iterdir()) == []
