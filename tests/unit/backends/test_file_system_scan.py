"""Check what a scan of a file_system repo reads again, whatever its cache holds, and what survives a power cut."""

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pywharf.backends.file_system import scan_cache, unrecorded
from pywharf.backends.file_system.backend import FileSystemBackend
from pywharf.backends.file_system.journal import FileJournal
from pywharf.backends.file_system.project_folder import ProjectFolder
from pywharf.core.errors import BackendUnavailableError
from pywharf.core.model import File
from pywharf.core.names import normalize
from pywharf.index.ports import JournalEntry
from pywharf.index.update import Summary, update_index
from support.distributions.wheels import sdist, wheel
from support.storage.faults import Fault, injected
from support.storage.uploads import journal, publish, scanned
from support.waiting import wait_for

FOO = normalize("foo")


@pytest.fixture
def backend(tmp_path) -> FileSystemBackend:
    return FileSystemBackend(tmp_path / "repo", "index.json", None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "repo" / "storage" / "foo"


@pytest.fixture
def settled(monkeypatch) -> None:
    """Have a scan cache files that were written a moment ago, as if the test had waited."""
    monkeypatch.setattr(scan_cache, "_FRESH_NS", -(10**12))


@pytest.fixture
def read(monkeypatch) -> list[str]:
    """Return the list of the files whose records are read from now on."""
    names: list[str] = []
    recorded = ProjectFolder.recorded

    def noted(self: ProjectFolder, filename: str) -> File:
        names.append(filename)
        return recorded(self, filename)

    monkeypatch.setattr(ProjectFolder, "recorded", noted)
    return names


async def update(backend: FileSystemBackend) -> Summary:
    return await update_index(
        backend, backend_type="file_system", index_name="index.json", progress=lambda _n, _what: None
    )


# --- the cache -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("settled")
async def test_files_that_are_as_they_were_are_not_read_again(tmp_path, backend, folder, read):
    await publish(backend, wheel(tmp_path, "foo"))
    shutil.copy(sdist(tmp_path, "foo", "2.0"), folder)
    shutil.copy(wheel(tmp_path, "foo", "3.0"), folder)
    first = await update(backend)
    assert (first.files, first.problems) == (3, ())
    read.clear()
    before = (tmp_path / "repo" / "scan-cache").stat()
    second = await update(backend)
    assert (second.changed, second.files, second.bytes, read) == (False, 3, first.bytes, [])
    assert os.path.samestat((tmp_path / "repo" / "scan-cache").stat(), before), "the cache is not written again"


async def test_a_file_written_a_moment_ago_is_read_again(tmp_path, backend, folder, read):
    """Where the file system's clock is coarse, another change may leave the same times."""
    await publish(backend, wheel(tmp_path, "foo"))
    for _ in range(2):
        read.clear()
        await update(backend)
        assert read == ["foo-1.0-py3-none-any.whl"]


def _append(path: Path) -> None:
    with path.open("a") as opened:
        opened.write('yanked = "broken"\n')


def _replace(path: Path) -> None:
    """Replace a file by another one of the same size and times."""
    before = path.stat()
    other = path.with_name("other")
    other.write_bytes(bytes(before.st_size))
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)


def _same_size(path: Path) -> None:
    path.write_text(path.read_text().replace("2126-01-02", "2125-01-02"))


WHEEL, META = "foo-1.0-py3-none-any.whl", "foo-1.0-py3-none-any.whl.meta"
CHANGES: dict[str, tuple[Callable[[Path], object], tuple[int, int]]] = {
    "a record edited in place": (lambda f: _append(f / META), (2, 0)),
    "a record of the same size": (lambda f: _same_size(f / META), (2, 0)),
    "a broken record": (lambda f: (f / META).write_text("x"), (1, 1)),
    "another file of the same size and times": (lambda f: _replace(f / WHEEL), (1, 1)),
    "a file written over": (lambda f: (f / WHEEL).write_bytes(bytes((f / WHEEL).stat().st_size)), (1, 1)),
    "a file that is gone": (lambda f: (f / WHEEL).unlink(), (1, 0)),
    "a record that is gone": (lambda f: (f / META).unlink(), (2, 0)),
    "a status": (lambda f: (f / ".status.toml").write_text('status = "archived"'), (2, 0)),
}


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize(("change", "expected"), CHANGES.values(), ids=CHANGES)
async def test_what_somebody_changes_is_noticed(tmp_path, backend, folder, change, expected):
    await publish(backend, wheel(tmp_path, "foo"))
    await publish(backend, wheel(tmp_path, "foo", "2.0"))
    await update(backend)
    assert (await update(backend)).changed is False
    change(folder)
    summary = await update(backend)
    assert (summary.files, len(summary.problems)) == expected
    assert summary.changed
    (tmp_path / "repo" / "scan-cache").unlink()
    again = await update(backend)
    assert (again.changed, again.files, again.problems) == (False, summary.files, summary.problems)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut in a frame": lambda content: content[:-20],
    "cut in a head": lambda content: content[:30],
    "a changed bit": lambda content: content.replace(b"foo-1.0", b"foo-1.1", 1),
    "something else": lambda _: b"\0" * 1000,
    "a huge size": lambda content: content[:21] + b"\xff" * 4 + content[25:],
    "doubled": lambda content: content + content[21:],
}


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
async def test_a_damaged_cache_costs_only_time(tmp_path, backend, damage):
    for name in ("bar", "foo", "zoo"):
        await publish(backend, wheel(tmp_path, name))
    await update(backend)
    expected = await scanned(backend)
    cache = tmp_path / "repo" / "scan-cache"
    cache.write_bytes(damage(cache.read_bytes()))
    assert await scanned(backend) == expected
    assert (await update(backend)).changed is False


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("changed", ["a", "c", "e"])
@pytest.mark.parametrize("removed", ["b", "d", "f"])
async def test_a_cache_with_a_change_holds_the_rest(tmp_path, backend, read, changed, removed):
    """What is before the first difference is copied, not written again."""
    storage = tmp_path / "repo" / "storage"
    for name in "abcdef":
        await publish(backend, wheel(tmp_path, name))
    await update(backend)
    _append(storage / changed / f"{changed}-1.0-py3-none-any.whl.meta")
    shutil.rmtree(storage / removed)
    read.clear()
    assert (await update(backend)).files == 5
    assert read == [f"{changed}-1.0-py3-none-any.whl"]
    read.clear()
    assert (await update(backend)).changed is False
    assert read == []


@pytest.mark.usefixtures("settled")
async def test_doubles_are_named_by_each_run(tmp_path, backend, folder):
    await publish(backend, wheel(tmp_path, "foo"))
    shutil.copy(folder / WHEEL, folder / "foo-1.0.0-py3-none-any.whl")
    for _ in range(3):
        (problem,) = (await update(backend)).problems
        assert "are the same distribution" in problem


@pytest.mark.usefixtures("settled")
async def test_the_core_metadata_of_an_old_record_is_looked_at(tmp_path, backend, folder):
    """The original did not record their digest, so the file beside the wheel counts."""
    await publish(backend, wheel(tmp_path, "foo"))
    record = folder / META
    record.write_text("".join(line for line in record.read_text().splitlines(True) if "metadata_sha256" not in line))
    await update(backend)
    assert (await update(backend)).changed is False
    (folder / f"{WHEEL}.metadata").write_text("other")
    assert (await update(backend)).changed is True


# --- new files -----------------------------------------------------------------------------------------------------


async def test_many_new_files_are_read_by_processes(tmp_path, backend, folder, monkeypatch):
    monkeypatch.setattr(unrecorded, "_MANY", 3)
    folder.mkdir(parents=True)
    for number in range(6):
        shutil.copy(wheel(tmp_path, "foo", f"1.{number}"), folder)
    (folder / "foo-9.0-py3-none-any.whl").write_bytes(b"no zip")
    summary = await update(backend)
    assert (summary.files, len(summary.problems)) == (6, 1)
    assert [path.name for path in (tmp_path / "repo" / "staging").iterdir()] == []


async def test_a_record_that_an_upload_wrote_meanwhile_stays(tmp_path, backend, folder):
    """A scan that finds a file before its record must not write over the upload's, or a later yank's."""
    file = await publish(backend, wheel(tmp_path, "foo"))
    record = folder / META
    kept = record.rename(tmp_path / "kept")
    place = os.link

    def late(source: Path, target: Path) -> None:
        if str(target).endswith(META):
            shutil.copy(kept, record)
        place(source, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "link", late)
        (tmp_path / "repo" / "journal").unlink()
        found, problems = await scanned(backend)
    assert ([project.files for project in found], problems) == ([(file,)], [])
    assert record.read_bytes() == kept.read_bytes()


# --- a power cut ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("left", [b"", b"\0" * 300, None])
async def test_what_a_power_cut_leaves_of_the_records_is_restored(tmp_path, backend, folder, left):
    """An upload syncs its content, its name and the journal's entry, but not its small records."""
    file = await publish(backend, wheel(tmp_path, "foo"))
    metadata = await backend.read_metadata(FOO, file)
    for suffix in (".meta", ".metadata"):
        path = folder / f"{WHEEL}{suffix}"
        path.unlink() if left is None else path.write_bytes(left)
    assert await journal(backend) == {file.filename: file}
    assert await backend.read_metadata(FOO, file) == metadata
    assert (folder / f"{WHEEL}.metadata").read_bytes() == metadata
    summary = await update(backend)
    assert (summary.files, summary.problems) == (1, ())
    found, _ = await scanned(backend)
    assert [project.files for project in found] == [(file,)], "with the time of its upload"
    assert await journal(backend) == {}


async def test_a_fold_first_makes_the_records_durable(tmp_path, backend, monkeypatch):
    await publish(backend, wheel(tmp_path, "foo"))
    steps: list[int] = []
    monkeypatch.setattr(
        "pywharf.backends.file_system.backend.sync_group",
        lambda _folder, paths: steps.append(len(list(paths)) + len(backend._journal.read(None).entries)),  # noqa: SLF001
    )
    await update(backend)
    assert steps == [2], "once, for one record, while the journal still had its entry"


# --- the journal ---------------------------------------------------------------------------------------------------


def _entry(number: int) -> JournalEntry:
    return JournalEntry(FOO, File(filename=f"foo-{number}.zip", sha256="0" * 64))


def test_appends_under_way_share_a_sync(tmp_path, monkeypatch):
    written = FileJournal(tmp_path / "journal")
    written.append(_entry(0))
    first, go = threading.Event(), threading.Event()
    syncs: list[int] = []
    sync = os.fdatasync

    def slow(fd: int) -> None:
        syncs.append(fd)
        first.set()
        assert go.wait(20)
        sync(fd)

    monkeypatch.setattr(os, "fdatasync", slow)
    threads = [threading.Thread(target=written.append, args=(_entry(number),)) for number in range(1, 9)]
    threads[0].start()
    assert first.wait(20)
    for thread in threads[1:]:
        thread.start()
    wait_for(lambda: len(written.read(None).entries) == 9, "all have written their lines")
    go.set()
    for thread in threads:
        thread.join()
    assert len(syncs) <= 3, "the first one's, and one that the others share"


def test_an_append_whose_sync_fails_withdraws_its_line_alone(tmp_path):
    written = FileJournal(tmp_path / "journal")
    written.append(_entry(1))
    cursor = written.read(None).cursor
    with injected(Fault("os.fdatasync", do="EIO", nth=1)), pytest.raises(OSError, match="Input/output"):
        written.append(_entry(2))
    assert written.read(None).entries == (_entry(1),)
    assert written.read(cursor).restarted, "a reader may have seen the line"
    written.append(_entry(3))
    assert written.read(None).entries == (_entry(1), _entry(3))


def test_a_line_with_others_after_it_is_withdrawn(tmp_path, monkeypatch):
    written, other = FileJournal(tmp_path / "journal"), FileJournal(tmp_path / "journal")
    written.append(_entry(1))

    def fails(_: int) -> None:
        monkeypatch.undo()
        other.append(_entry(3))
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fails)
    with pytest.raises(OSError, match="Input/output"):
        written.append(_entry(2))
    assert written.read(None).entries == (_entry(1), _entry(3))


def test_a_writer_that_waits_for_a_sync_does_not_keep_the_lock(tmp_path, monkeypatch):
    written, other = FileJournal(tmp_path / "journal"), FileJournal(tmp_path / "journal")
    sync = os.fdatasync

    def nested(fd: int) -> None:
        monkeypatch.undo()
        try:
            other.append(_entry(2))
        except BackendUnavailableError:
            pytest.fail("the lock is kept")
        sync(fd)

    monkeypatch.setattr(os, "fdatasync", nested)
    written.append(_entry(1))
    assert written.read(None).entries == (_entry(1), _entry(2))
