"""The pull-through cache in a folder: volumes that are full or read-only, processes that are killed, torn files."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from pywharf.backends.file_system.cache_layout import path_of
from pywharf.backends.file_system.cache_locks import LONGEST_S
from pywharf.backends.file_system.cache_store import FileSystemCacheStore, open_folder
from pywharf.core.errors import BackendUnavailableError, InvalidConfigError, StorageFullError
from pywharf.core.names import ProjectName, RepoName
from pywharf.index.ports import LocalContent, Pin
from support.storage.caches import about, all_pins, content_of, digest_of, keep, kept, spooled
from support.storage.faults import Fault, injected
from support.storage.volumes import Volume, volume

TEAM = RepoName("team-a")
PIN = Pin(ProjectName("acme"), "acme-1.0.tar.gz", digest_of(b"kept"), 4)
NAME = digest_of(b"a name")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FileSystemCacheStore]:
    opened = FileSystemCacheStore(tmp_path / "cache")
    yield opened
    await opened.aclose()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Volume]:
    with volume(tmp_path / "volume", megabytes=4) as mounted:
        yield mounted


async def filled(folder: Path) -> FileSystemCacheStore:
    store = FileSystemCacheStore(folder)
    await keep(store, b"kept")
    await store.write_page(NAME, b"page")
    await store.pin(TEAM, PIN)
    return store


async def is_whole(store: FileSystemCacheStore) -> bool:
    """Return whether all that `filled` kept can be read."""
    assert await content_of(await store.open(digest_of(b"kept"))) == b"kept"
    assert set(await kept(store)) == {digest_of(b"kept")}
    assert await store.abouts([digest_of(b"kept")]) == {digest_of(b"kept"): about()}
    assert await store.read_page(NAME, 100) == b"page"
    return await all_pins(store) == {TEAM: (PIN,)}


async def test_a_full_volume_refuses_writes_and_reads_on(small):
    store = await filled(small.path / "cache")
    staged = await spooled(store, b"new")
    small.fill()
    with pytest.raises(StorageFullError, match="The pull-through cache is full"):
        await store.keep(digest_of(b"new"), staged, about())
    with pytest.raises(StorageFullError):
        await store.write_page(NAME, b"another page")
    with pytest.raises(StorageFullError):
        await store.lock(digest_of(b"lock"), 60)
    with pytest.raises(StorageFullError):
        await store.pin(TEAM, Pin(ProjectName("acme"), "x" * 3900, digest_of(b"x"), 1))
    await store.note_use(digest_of(b"kept"))
    assert await is_whole(store)
    small.free()
    await store.keep(digest_of(b"new"), staged, about())
    assert await content_of(await store.open(digest_of(b"new"))) == b"new"
    await store.aclose()


async def test_what_is_removed_makes_room_on_a_full_volume(small):
    store = await filled(small.path / "cache")
    digest = await keep(store, bytes(2 * 1024 * 1024))
    small.fill()
    await store.remove([digest])
    assert small.free_bytes >= 2 * 1024 * 1024
    assert await is_whole(store)
    assert (await store.free_bytes() or 0) >= 2 * 1024 * 1024
    await store.aclose()


async def test_a_read_only_volume_is_read(small, tmp_path):
    await (await filled(small.path / "cache")).aclose()
    (tmp_path / "new").write_bytes(b"new")
    small.remount("ro")
    store = FileSystemCacheStore(small.path / "cache")
    await store.note_use(digest_of(b"kept"))
    assert await is_whole(store)
    with pytest.raises(BackendUnavailableError, match="cannot be used now: Read-only file system"):
        await store.keep(digest_of(b"new"), tmp_path / "new", about())
    with pytest.raises(BackendUnavailableError):
        await store.lock(digest_of(b"lock"), 60)
    await store.aclose()
    small.remount("rw")


KEEPING = [
    Fault("os.link"),
    Fault("os.link", do="EIO"),
    Fault("os.fsync"),
    Fault("os.fsync", nth=1),
    Fault("os.mkdir", path="files"),
    Fault("file.open", path="spool"),
    Fault("file.write", path="spool"),
]


@pytest.mark.parametrize("fault", KEEPING, ids=lambda fault: f"{fault.call}-{fault.do}-{fault.nth}")
async def test_a_file_that_cannot_be_kept_leaves_nothing(store, fault):
    staged = await spooled(store, b"new")
    with injected(fault), pytest.raises((StorageFullError, BackendUnavailableError)):
        await store.keep(digest_of(b"new"), staged, about())
    assert staged.read_bytes() == b"new"
    await store.keep(digest_of(b"new"), staged, about())
    assert await content_of(await store.open(digest_of(b"new"))) == b"new"
    assert list(store.spool_folder.iterdir()) == []


async def test_a_volume_without_hard_links_keeps_files(store):
    with injected(Fault("os.link", do="EPERM")):
        digest = await keep(store, b"content")
        await keep(store, b"content")
    assert await content_of(await store.open(digest)) == b"content"


async def test_a_torn_file_is_replaced(store):
    digest = await keep(store, b"content")
    opened = await store.open(digest)
    assert opened is not None
    assert isinstance(opened[1], LocalContent)
    opened[1].path.write_bytes(b"con")
    await keep(store, b"content")
    assert await content_of(await store.open(digest)) == b"content"


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
async def test_what_is_no_regular_file_is_no_kept_file(store, tmp_path, kind):
    content = b"kept"
    digest = digest_of(content)
    path = tmp_path / "cache" / "files" / digest[:2] / digest
    path.parent.mkdir(parents=True)
    secret = tmp_path / "secret"
    secret.write_bytes(b"key!")
    match kind:
        case "link":
            path.symlink_to(secret)
        case "pipe":
            os.mkfifo(path)
        case _:
            path.mkdir()
    for _ in range(40):  # more than the calls that may run
        assert await store.open(digest) is None
    if kind == "folder":
        with pytest.raises(BackendUnavailableError):
            await keep(store, content)
    else:
        await keep(store, content)
        assert await content_of(await store.open(digest)) == content
    assert secret.read_bytes() == b"key!"


async def test_a_removed_file_is_read_by_those_who_have_it_open(store):
    digest = await keep(store, b"content")
    opened = await store.open(digest)
    assert opened is not None
    assert isinstance(opened[1], LocalContent)
    with opened[1].path.open("rb") as file:
        await store.remove([digest])
        assert file.read() == b"content"


@pytest.mark.parametrize("name", ["", "..", "../../owner", "a" * 63, "A" * 64, "a" * 65, "a" * 64 + "\n", "é" * 64])
async def test_what_is_no_digest_leads_nowhere(store, name):
    with pytest.raises(ValueError, match="no SHA-256"):
        path_of(Path("folder"), name)
    for call in (store.open(name), store.lock(name, 1), store.read_page(name, 1), store.remove([name])):
        with pytest.raises(ValueError, match="no SHA-256"):
            await call


async def test_files_of_others_are_no_kept_files(store, tmp_path):
    digest = await keep(store, b"content")
    folder = tmp_path / "cache" / "files" / digest[:2]
    (folder / "README").write_text("by hand")
    (folder / (digest[:2] + "f" * 62)).mkdir()
    (tmp_path / "cache" / "files" / "lost+found").mkdir()
    (tmp_path / "cache" / "pins" / "Not a repo.pins").parent.mkdir(exist_ok=True)
    (tmp_path / "cache" / "pins" / "Not a repo.pins").write_text("by hand")
    assert set(await kept(store)) == {digest}
    assert await all_pins(store) == {}


_KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from pywharf.backends.file_system.cache_store import FileSystemCacheStore

async def main():
    store = FileSystemCacheStore(Path(sys.argv[1]))
    await store.lock(sys.argv[2], float(sys.argv[3]))
    (store.spool_folder / "half.part").write_bytes(b"half")
    print(store.spool_folder, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_what_a_killed_process_left_is_removed_by_another(store, tmp_path):
    """A lock that it holds ends; its spool folder goes, and only when it is dead."""
    command = [sys.executable, "-c", _KILLED, str(tmp_path / "cache"), NAME, "3600"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            left = Path((await asyncio.to_thread(process.stdout.readline)).strip())
            await store.remove_leftovers()
            assert (left / "half.part").read_bytes() == b"half"
        finally:
            os.kill(process.pid, signal.SIGKILL)
    await store.remove_leftovers()
    assert not left.exists()
    assert [path.name for path in left.parent.iterdir() if left.name in path.name] == []
    assert not await store.lock(NAME, 60)


class Clock:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


async def test_ended_locks_are_removed_and_odd_ones_block_nobody(tmp_path):
    clock = Clock()
    store = FileSystemCacheStore(tmp_path, clock)
    assert await store.lock(NAME, 60)
    clock.now += 61
    assert await store.lock(NAME, 1e12)
    await store.remove_leftovers()
    assert path_of_lock(tmp_path).exists()
    clock.now -= 30 * LONGEST_S  # the other's clock was wrong: its lock would end in a month
    assert await store.lock(NAME, 60)
    path_of_lock(tmp_path).write_bytes(b"\0\0\0")  # a power cut
    assert await store.lock(NAME, 60)
    clock.now += 3 * 3600
    await store.remove_leftovers()
    assert not path_of_lock(tmp_path).exists()
    await store.aclose()


def path_of_lock(folder: Path) -> Path:
    return folder / "locks" / NAME


async def test_pins_survive_a_line_that_was_cut_off(store, tmp_path):
    await store.pin(TEAM, PIN)
    with (tmp_path / "cache" / "pins" / "team-a.pins").open("ab") as file:
        file.write(b'{"project":"acme","filena')
    assert await store.pins(TEAM) == (PIN,)
    other = Pin(ProjectName("acme"), "acme-2.0.tar.gz", digest_of(b"2"), 1)
    await store.pin(TEAM, other)
    assert await store.pins(TEAM) == (PIN, other)
    fresh = FileSystemCacheStore(tmp_path / "cache")
    assert await fresh.pins(TEAM) == (PIN, other)


async def test_pins_that_changed_often_take_little_room(store, tmp_path, monkeypatch):
    monkeypatch.setattr("pywharf.backends.file_system.cache_pins._SPARE_LINES", 8)
    reader = FileSystemCacheStore(tmp_path / "cache")
    for number in range(40):
        await store.pin(TEAM, Pin(PIN.project, PIN.filename, PIN.sha256, number))
        assert [pin.size for pin in await reader.pins(TEAM)] == [number]
    path = tmp_path / "cache" / "pins" / "team-a.pins"
    assert len(path.read_bytes().splitlines()) < 20


async def test_a_failed_pin_is_no_pin(store, tmp_path):
    await store.pin(TEAM, PIN)
    size = (tmp_path / "cache" / "pins" / "team-a.pins").stat().st_size
    with injected(Fault("os.fsync", path="team-a")), pytest.raises(StorageFullError):
        await store.unpin(TEAM, PIN.project, PIN.filename)
    assert (tmp_path / "cache" / "pins" / "team-a.pins").stat().st_size == size
    assert await store.pins(TEAM) == (PIN,)


async def test_a_volume_that_was_emptied_is_used_again(store, tmp_path):
    await keep(store, b"content")
    for path in sorted((tmp_path / "cache").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    digest = await keep(store, b"content")
    assert await content_of(await store.open(digest)) == b"content"


@pytest.mark.parametrize("folder", ["", "cache", "cache/team-a", "sessions", "..", "./cache/../cache/x"])
def test_the_cache_has_a_folder_of_its_own(tmp_path, folder):
    root = tmp_path / "root"
    with pytest.raises(InvalidConfigError, match="a folder of its own"):
        open_folder(str(root / folder), root)


@pytest.mark.parametrize("folder", [None, "kept", "../kept"])
def test_other_folders_are_taken(tmp_path, folder):
    root = tmp_path / "root"
    open_folder(None if folder is None else str(root / folder), root)


async def test_an_unknown_error_is_a_sentence(store):
    await keep(store, b"content")
    with injected(Fault("os.mkdir", do="EIO")), pytest.raises(BackendUnavailableError) as failed:
        await store.write_page(digest_of(b"new"), b"page")
    assert str(failed.value) == f"The pull-through cache cannot be used now: {os.strerror(errno.EIO)}."


@pytest.mark.parametrize(("folder", "says"), [("file", "a file"), ("file/sub", "a file"), ("a\0b", "no path")])
def test_what_can_be_no_folder_is_refused_when_it_is_opened(tmp_path, folder, says):
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidConfigError, match=says):
        open_folder(f"{tmp_path}/{folder}", tmp_path / "root")
