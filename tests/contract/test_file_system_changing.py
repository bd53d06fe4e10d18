"""Changes in a folder: killed at each step, on a failing disk, and with records that somebody edited by hand."""

import asyncio
import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import msgspec
import pytest

from pywharf.core.errors import FileExistsInRepoError, NotFoundError, PywharfError
from pywharf.core.model import Deletion, File, Project, ProjectStatus
from pywharf.core.names import ProjectName
from pywharf.core.toml_text import dumps, loads
from pywharf.index.codecs import decode_index
from pywharf.index.ports import (
    Action,
    Backend,
    Change,
    Delete,
    JournalEntry,
    Probeable,
    SetStatus,
    SetYanked,
    StoredIndex,
)
from pywharf.index.update import Summary, update_index
from support.distributions.wheels import wheel
from support.storage.crashing import crashes
from support.storage.faults import CALLS, Fault, injected
from support.storage.storages import REPO, STORAGES
from support.storage.uploads import publish, scanned

FOO = ProjectName("foo")
NAME = "foo-1.0-py3-none-any.whl"
ACTIONS: Mapping[str, Action] = {
    "yank": SetYanked(NAME, "broken"),
    "delete": Delete(NAME),
    "archive": SetStatus("archived", "use bar"),
}


def open_(root: Path) -> Backend:
    return STORAGES["file_system"].make(root)("index.json")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def backend(root: Path) -> Backend:
    return open_(root)


@pytest.fixture
def folder(root: Path) -> Path:
    return root / "cache" / REPO / "storage" / "foo"


async def update(backend: Backend) -> Summary:
    return await update_index(
        backend, backend_type="file_system", index_name="index.json", progress=lambda _n, _w: None
    )


async def indexed(backend: Backend) -> Project | None:
    stored = await backend.read_index()
    assert isinstance(stored, StoredIndex), stored
    return decode_index(stored.content, stored.filename).project(FOO)


def _state(project: Project | None) -> tuple[object, ...]:
    assert project is not None
    return project.status, project.status_reason, [(f.filename, f.yanked, f.revision) for f in project.files]


OLD = ("active", None, [(NAME, None, 0)])
NEW = {
    "yank": ("active", None, [(NAME, "broken", 1)]),
    "delete": ("active", None, []),
    "archive": ("archived", "use bar", [(NAME, None, 0)]),
}


@pytest.mark.parametrize("operation", ACTIONS)
def test_killed_at_each_step(tmp_path, operation):
    """Whatever is left, both a repeat and a scan complete it; until then either the old or the new state shows."""
    folder = tmp_path / "crashes"
    (folder / "new").mkdir(parents=True)
    wheel(folder / "new", "foo", "2.0")

    async def begin() -> None:
        await publish(open_(folder / "start"), wheel(tmp_path, "foo"))
        await update(open_(folder / "start"))

    asyncio.run(begin())
    found = crashes(folder, operation)
    killed = [crash for crash in found if not crash.ended]
    assert len(killed) >= 6, [c.step for c in found]

    async def check(root: Path, *, is_done: bool) -> None:
        storage = root / "cache" / REPO / "storage" / "foo"
        before = _state(await open_(root).find_project(FOO))
        assert before in ((NEW[operation],) if is_done else (OLD, NEW[operation]))
        if before[2]:
            assert (storage / NAME).exists(), "a record without its file"
        # A scan completes it, or nothing of it was done.
        by_scan = root.with_name(f"{root.name}-scanned")
        shutil.copytree(root, by_scan)
        assert (await update(open_(by_scan))).problems == ()
        assert _state(await indexed(open_(by_scan))) == before
        if not before[2]:
            left = by_scan / "cache" / REPO / "storage" / "foo"
            assert not (left / NAME).exists()
            assert not (left / f"{NAME}.metadata").exists()
        # The client had no answer, so it repeats the change.
        for each in (root, by_scan):
            entry = await open_(each).change(Change(FOO, ACTIONS[operation]))
            assert entry in (await open_(each).read_journal()).entries
            assert (entry.changed or entry.status).revision == 1  # type: ignore[union-attr]
            assert (await update(open_(each))).problems == ()
            assert _state(await indexed(open_(each))) == NEW[operation]
            if operation == "delete":
                assert not (each / "cache" / REPO / "storage" / "foo" / NAME).exists()
                with pytest.raises(FileExistsInRepoError, match="was deleted"):
                    await publish(open_(each), tmp_path / NAME)

    for crash in [*killed, next(crash for crash in found if crash.ended)]:
        try:
            asyncio.run(check(crash.root, is_done=crash.ended))
        except BaseException as error:
            error.add_note(f"killed at {crash.step}")
            raise


@pytest.mark.parametrize("operation", ACTIONS)
async def test_a_disk_that_fails_at_any_step(root, backend, made, operation):
    await publish(backend, wheel(made, "foo"))
    failed = 0
    for call, nth in ((call, nth) for call in CALLS for nth in range(1, 4)):
        copied = root.with_name(f"{call}-{nth}")
        shutil.copytree(root, copied)
        one = open_(copied)
        await one.read_journal()
        with injected(Fault(call, rf"/cache/{REPO}/", nth=nth)):
            try:
                await one.change(Change(FOO, ACTIONS[operation]))
            except PywharfError as raised:
                assert str(copied) not in str(raised), "clients see the message"  # noqa: PT017
                failed += 1
        assert _state(await one.find_project(FOO)) in (OLD, NEW[operation])
        entry = await one.change(Change(FOO, ACTIONS[operation]))
        assert (entry.changed or entry.status).revision == 1  # type: ignore[union-attr]
        assert (await one.read_journal()).entries[-1] == entry
        assert not list(copied.rglob("*.tmp"))
    assert failed >= 6


async def test_a_freed_name_whose_upload_fails_stays_free(backend, folder, made, tmp_path):
    path = wheel(made, "foo")
    await publish(backend, path)
    await backend.change(Change(FOO, Delete(NAME, frees_name=True)))
    for call, nth in (("os.link", 1), ("os.replace", 1), ("os.replace", 2), ("os.write", 1)):
        with injected(Fault(call, rf"/cache/{REPO}/", nth=nth)), pytest.raises(PywharfError):
            await publish(backend, path)
        assert sorted(one.name for one in folder.iterdir()) == [f"{NAME}.meta"]
        assert 'deleted = "' in (folder / f"{NAME}.meta").read_text()
    entry = (await backend.read_journal()).entries[-1]
    assert entry == JournalEntry(FOO, deletion=Deletion(NAME, 1))


# --- by hand -------------------------------------------------------------------------------------------------------


async def test_a_record_edited_by_hand(backend, folder, made):
    """The revision is lost, or the reason is new under the old one: what lies there counts after the next scan."""
    file = await publish(backend, wheel(made, "foo"))
    yanked = (await backend.change(Change(FOO, SetYanked(NAME, "first")))).file
    assert yanked is not None
    await update(backend)
    record = folder / f"{NAME}.meta"
    meta = {key: value for key, value in loads(record.read_text(), "").items() if key not in {"revision", "yanked"}}
    record.write_text(dumps({**meta, "by_hand": "kept"}))
    known = await indexed(backend)
    assert known is not None
    assert known.files == (yanked,)
    # By the record it is not yanked; for everybody who reads the index it is, so this is a change.
    entry = await backend.change(Change(FOO, SetYanked(NAME, None), known=known))
    assert entry.file is not None
    assert (entry.file.yanked, entry.file.revision) == (None, 2)
    assert "by_hand" in record.read_text()
    await update(backend)
    found = await indexed(backend)
    assert found is not None
    assert found.files == (msgspec.structs.replace(file, revision=2),)
    record.write_text(record.read_text() + 'yanked = "by hand"\n')
    await update(backend)
    found = await indexed(backend)
    assert found is not None
    assert found.files[0].yanked == "by hand"
    assert (await backend.change(Change(FOO, SetYanked(NAME, None), known=found))).file == msgspec.structs.replace(
        file, revision=3
    )


@pytest.mark.parametrize("text", ['status = "archived"', "nonsense", 'status = "active"\nrevision = -1'])
async def test_a_status_written_by_hand(backend, folder, made, text):
    await publish(backend, wheel(made, "foo"))
    await backend.change(Change(FOO, SetStatus("deprecated", "x")))
    await update(backend)
    (folder / ".status.toml").write_text(text)
    known = await indexed(backend)
    entry = await backend.change(Change(FOO, SetStatus("active"), known=known))
    assert entry.status == ProjectStatus("active", None, 2)
    assert (await update(backend)).problems == ()
    found = await indexed(backend)
    assert found is not None
    assert (found.status, found.status_revision) == ("active", 2)


async def test_the_original_s_record_is_changed_and_keeps_what_else_it_holds(backend, folder, made):
    path = wheel(made, "foo")
    folder.mkdir(parents=True)
    shutil.copy(path, folder)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    record = folder / f"{NAME}.meta"
    record.write_text(dumps({"distrib": "Foo", "sha256": digest, "summary": "C:\\x \x7f", "name": "Foo"}))
    await update(backend)
    known = await indexed(backend)
    entry = await backend.change(Change(FOO, SetYanked(NAME, "broken"), known=known))
    assert entry.file is not None
    assert known is not None
    assert entry.file == msgspec.structs.replace(known.files[0], yanked="broken", revision=1)
    assert "summary" in record.read_text()
    await update(backend)
    assert await indexed(backend) == Project(name=FOO, files=(entry.file,))


async def test_a_file_put_over_a_deleted_name_is_reported(backend, folder, made, tmp_path):
    path = wheel(made, "foo")
    await publish(backend, path)
    await backend.change(Change(FOO, Delete(NAME)))
    (tmp_path / "again").mkdir()
    shutil.copy(wheel(tmp_path / "again", "foo", payload=b"other"), folder / NAME)
    found = await backend.find_project(FOO)
    assert found == Project(name=FOO)
    summary = await update(backend)
    assert len(summary.problems) == 1
    assert "a file of this name was deleted, and another one was put there" in summary.problems[0]
    assert (folder / NAME).exists()
    with pytest.raises(FileExistsInRepoError, match="was deleted"):
        await publish(backend, path)
    (folder / f"{NAME}.meta").unlink()
    assert (await update(backend)).problems == ()
    found = await indexed(backend)
    assert found is not None
    assert [f.filename for f in found.files] == [NAME]


async def test_a_restored_file_of_a_deleted_name_is_removed(backend, folder, made):
    """A backup was taken in the middle of the deletion: the content has another stamp than the tombstone says."""
    path = wheel(made, "foo")
    await publish(backend, path)
    await backend.change(Change(FOO, Delete(NAME)))
    shutil.copy(path, folder / NAME)
    assert (await update(backend)).problems == ()
    assert not (folder / NAME).exists()


async def test_a_file_without_a_record_is_not_changed(backend, folder, made):
    folder.mkdir(parents=True)
    shutil.copy(wheel(made, "foo"), folder)
    for action in (SetYanked(NAME, "x"), Delete(NAME)):
        with pytest.raises(NotFoundError, match="no recorded file"):
            await backend.change(Change(FOO, action))
    await update(backend)
    assert (await backend.change(Change(FOO, SetYanked(NAME, "x")))).file is not None


# --- the journal ---------------------------------------------------------------------------------------------------


async def test_entries_of_newer_versions_are_ignored_with_a_warning(root, backend, made, caplog):
    file = await publish(backend, wheel(made, "foo"))
    lines = [
        {"project": "foo", "tombola": {"x": 1}},
        {"project": "foo", "status": {"status": "haunted", "revision": 1}},
        {"project": "foo", "status": {"status": "archived", "reason": "x" * 5000, "revision": 1}},
        {"project": "foo", "deletion": {"filename": "x" * 300, "revision": 1}},
        {"project": "foo", "deletion": 3},
        {"project": "foo", "deletion": {"filename": file.filename, "revision": 1, "why": "newer"}, "also": 1},
    ]
    with (root / "cache" / REPO / "journal").open("ab") as journal:
        journal.writelines(msgspec.json.encode(line) + b"\n" for line in lines)
    read = await backend.read_journal()
    assert read.entries == (JournalEntry(FOO, file), JournalEntry(FOO, deletion=Deletion(file.filename, 1)))
    assert len([r for r in caplog.records if r.levelname == "WARNING"]) == 5
    assert "does not know" in caplog.text


async def test_an_upload_s_line_is_the_same_as_before(root, backend, made):
    """Older versions read the same journal."""
    file = await publish(backend, wheel(made, "foo"))
    line = (root / "cache" / REPO / "journal").read_bytes().splitlines()[-1]
    assert msgspec.json.decode(line).keys() == {"project", "file"}
    assert msgspec.convert(msgspec.json.decode(line)["file"], File) == file


async def test_the_probe_sees_each_change(backend, made):
    await publish(backend, wheel(made, "foo"))
    probeable = cast("Probeable", backend)
    for operation in ("yank", "archive", "delete"):
        before = probeable.probe()
        assert probeable.probe() == before
        await backend.change(Change(FOO, ACTIONS[operation]))
        assert probeable.probe() != before
    projects, problems = await scanned(backend)
    assert (len(projects), problems) == (1, [])
