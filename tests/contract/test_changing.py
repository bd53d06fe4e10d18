"""Changes after publishing: yank, delete, and a project's status, on any storage.

A change is durable, has a revision, and is seen by every server; repeating it changes nothing.
"""

import asyncio
import hashlib
from pathlib import Path

import pytest

from pywharf.core.errors import FileExistsInRepoError, NotFoundError
from pywharf.core.model import Deletion, File, Project, ProjectStatus
from pywharf.core.names import ProjectName
from pywharf.index.codecs import decode_index
from pywharf.index.follower import Follower
from pywharf.index.ports import (
    Action,
    Backend,
    Change,
    Delete,
    JournalEntry,
    Reserve,
    ScannedProject,
    SetStatus,
    SetYanked,
    StoredIndex,
    Upload,
)
from pywharf.index.update import update_index
from support.distributions.wheels import sdist, wheel
from support.storage.storages import GITHUB, SHARED
from support.storage.uploads import UPLOAD_TIME, content, file_of, publish

FOO = ProjectName("foo")


async def change(
    backend: Backend, action: Action, name: ProjectName = FOO, known: Project | None = None
) -> JournalEntry:
    await backend.read_journal()  # as a server does before it accepts a change
    return await backend.change(Change(name, action, known=known))


async def update(backend: Backend) -> None:
    await update_index(backend, backend_type="test", index_name="index.json", progress=lambda _n, _what: None)


async def followed(backend: Backend, name: ProjectName = FOO) -> Project | None:
    """Return the project as a server that has just started shows it."""
    follower = Follower("team-a", backend)
    await follower.refresh()
    return follower.catalog.project(name)


async def indexed(backend: Backend, name: ProjectName = FOO) -> Project | None:
    stored = await backend.read_index()
    assert isinstance(stored, StoredIndex), stored
    return decode_index(stored.content, stored.filename).project(name)


async def scan_of(backend: Backend, name: ProjectName = FOO) -> ScannedProject | None:
    found = [one async for one in backend.scan(lambda _n, _what: None)]
    assert [problem for one in found for problem in one.problems] == []
    return next((one for one in found if one.project is not None and one.project.name == name), None)


async def filenames(backend: Backend) -> list[str]:
    """Return the names that the storage, a new server and a scan list, which must agree."""
    found, shown, scan = await backend.find_project(FOO), await followed(backend), await scan_of(backend)
    assert found is not None
    assert shown is not None
    assert scan is not None
    assert scan.project is not None
    names = [[file.filename for file in one.files] for one in (found, shown, scan.project)]
    assert names[0] == names[1] == names[2]
    return names[0]


# --- yank ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["", "broken on Windows", 'a "quoted"\nüñí \\x reason'])
async def test_a_yank_is_seen_by_everybody(backend, other, made, reason):
    file = await publish(backend, wheel(made, "foo"))
    entry = await change(other, SetYanked(file.filename, reason))
    assert entry.file is not None
    assert (entry.file.yanked, entry.file.revision, entry.file.sha256) == (reason, 1, file.sha256)
    assert entry.file.metadata_sha256 == file.metadata_sha256
    for one in (backend, other):
        assert entry in (await one.read_journal()).entries
        for project in (await one.find_project(FOO), await followed(one)):
            assert project is not None
            assert project.file(file.filename) == entry.file
        assert await content(one, FOO, entry.file)
    await update(backend)
    assert (await indexed(other)) == Project(name=FOO, files=(entry.file,))


async def test_yank_another_reason_and_unyank(backend, other, made):
    file = await publish(backend, wheel(made, "foo"))
    steps = [("first", 1), ("first", 1), ("second", 2), (None, 3), (None, 3), ("", 4)]
    for number, (reason, revision) in enumerate(steps):
        entry = await change((backend, other)[number % 2], SetYanked(file.filename, reason))
        assert entry.file is not None
        assert (entry.file.yanked, entry.file.revision) == (reason, revision)
        shown = await followed((other, backend)[number % 2])
        assert shown is not None
        assert shown.file(file.filename) == entry.file
        if number == 2:
            await update(other)


async def test_unyanking_what_is_not_yanked_changes_nothing(backend, made):
    file = await publish(backend, wheel(made, "foo"))
    entry = await change(backend, SetYanked(file.filename, None))
    assert entry.file == file


# --- delete --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("make", "is_indexed"), [(wheel, False), (sdist, True)])
async def test_a_deleted_file_is_gone_for_everybody(backend, other, made, make, is_indexed):
    path, kept = make(made, "foo"), wheel(made, "foo", "2.0")
    file, _ = await publish(backend, path), await publish(backend, kept)
    if is_indexed:
        await update(other)
    entry = await change(other, Delete(path.name))
    assert entry == JournalEntry(FOO, deletion=Deletion(path.name, 1))
    for one in (backend, other):
        assert await filenames(one) == [kept.name]
        scan = await scan_of(one)
        assert scan is not None
        assert scan.deleted == (path.name,)
        assert await one.find_project(FOO, path.name) in (None, Project(name=FOO)) or not [
            f for f in (await one.find_project(FOO, path.name)).files if f.filename == path.name
        ]
        with pytest.raises(NotFoundError):
            await content(one, FOO, file)
    await update(backend)
    assert await filenames(other) == [kept.name]
    again = await change(backend, Delete(path.name))
    assert again == entry
    assert await filenames(other) == [kept.name]


async def test_a_deleted_name_stays_taken(backend, other, made, tmp_path):
    path = wheel(made, "foo")
    await publish(backend, path)
    await publish(backend, wheel(made, "foo", "2.0"))
    await change(other, Delete(path.name))
    (tmp_path / "again").mkdir()
    other_bytes = wheel(tmp_path / "again", "foo", payload=b"other bytes")
    for is_folded in (False, True):
        if is_folded:
            await update(backend)
        for one, attempt in ((backend, path), (backend, other_bytes), (other, other_bytes)):
            with pytest.raises(FileExistsInRepoError, match=rf"^File already exists: {path.name} was deleted"):
                await publish(one, attempt)
        assert await filenames(other) == ["foo-2.0-py3-none-any.whl"]


SPELLINGS = ["Foo-1.0-py3-none-any.whl", "foo-1.0.0-py3-none-any.whl", "foo-1.0-py3.py3-none-any.whl"]


def upload_of(backend: Backend, filename: str, content_: bytes) -> Upload:
    """Prepare an upload with that name and content, which the backend does not parse."""
    digest = hashlib.sha256(content_).hexdigest()
    staged = backend.staging_folder / f"{filename}.{digest[:8]}"
    staged.write_bytes(content_)
    return Upload(FOO, File(filename=filename, sha256=digest, size=len(content_), upload_time=UPLOAD_TIME), staged, b"")


@pytest.mark.parametrize("is_folded", [False, True])
async def test_a_deleted_distribution_stays_taken_in_any_spelling(backend, other, is_folded):
    await backend.read_journal()
    await other.read_journal()
    await backend.publish(upload_of(backend, "foo-1.0-py3-none-any.whl", b"x"))
    await change(other, Delete("foo-1.0-py3-none-any.whl"))
    if is_folded:
        await update(backend)
    for number, name in enumerate(SPELLINGS):
        one = (backend, other)[number % 2]
        await one.read_journal()
        said = r"is the same distribution as foo-1.0-py3-none-any.whl, which was deleted"
        with pytest.raises(FileExistsInRepoError, match=said):
            await one.publish(upload_of(one, name, b"x"))
    assert await filenames(backend) == []


@pytest.mark.parametrize("when", ["with it", "later"])
async def test_a_freed_name_is_published_again(backend, other, made, tmp_path, when):
    path = wheel(made, "foo")
    await publish(backend, path)
    await update(backend)
    entry = await change(other, Delete(path.name, frees_name=when == "with it"))
    if when == "later":
        assert await change(backend, Delete(path.name, frees_name=True)) == entry
    scan = await scan_of(backend)
    assert scan is None or scan.deleted == ()
    (tmp_path / "again").mkdir()
    again = wheel(tmp_path / "again", "foo", payload=b"other bytes")
    _, file, _ = file_of(again)
    stored = await publish_again(other, again)
    assert (stored.sha256, stored.revision) == (file.sha256, 2)
    for one in (backend, other):
        assert await filenames(one) == [path.name]
        shown = await followed(one)
        assert shown is not None
        assert shown.files[0].sha256 == file.sha256
        assert await content(one, FOO, shown.files[0]) == again.read_bytes()
    await update(backend)
    assert await filenames(other) == [path.name]
    assert (await change(other, Delete(path.name))).deletion == Deletion(path.name, 3)
    assert await filenames(backend) == []


@pytest.mark.parametrize("is_known", [False, True], ids=["a new project", "a known project"])
async def test_a_name_that_was_never_there_is_reserved(backend, other, made, is_known):
    if is_known:
        await publish(backend, wheel(made, "foo", "2.0"))
    path = wheel(made, "foo", "1.0")
    for each in (backend, other, backend):
        entry = await change(each, Reserve(path.name))
        assert entry.deletion is not None
        assert entry.deletion.filename == path.name
    found = await scan_of(other)
    assert found is not None
    assert found.deleted == (path.name,)
    assert found.project is not None
    assert len(found.project.files) == is_known
    assert await journal_of_deletions(other) == []
    for name in (path.name, "foo-1.0.0-py3-none-any.whl"):
        again = made / name
        again.write_bytes(path.read_bytes())
        with pytest.raises(FileExistsInRepoError, match="deleted"):
            await publish(other, again)
    await update(other)
    shown = await followed(backend)
    assert shown is not None
    assert len(shown.files) == is_known
    assert await scan_of(backend) == found


async def journal_of_deletions(backend: Backend) -> list[Deletion]:
    return [entry.deletion for entry in (await backend.read_journal()).entries if entry.deletion is not None]


@pytest.mark.parametrize("was_deleted", [False, True])
async def test_a_reserved_name_can_be_freed_and_is_then_reserved_again(backend, other, made, was_deleted):
    path = wheel(made, "foo")
    if was_deleted:
        await publish(backend, path)
        await change(backend, Delete(path.name))
    await change(backend, Reserve(path.name))
    await change(other, Delete(path.name, frees_name=True))
    await change(other, Reserve(path.name))
    with pytest.raises(FileExistsInRepoError, match="deleted"):
        await publish(other, path)
    await change(other, Delete(path.name, frees_name=True))
    stored = await publish_again(backend, path)
    for is_folded in (False, True):
        if is_folded:
            await update(other)
        shown = await followed(other)
        assert shown is not None
        assert [(file.filename, file.sha256) for file in shown.files] == [(path.name, stored.sha256)]


async def publish_again(backend: Backend, path: Path) -> File:
    """Publish a file whose name was freed; returns its record, whose revision goes on."""
    project, file, metadata = file_of(path)
    await backend.read_journal()
    staged = backend.staging_folder / "staged"
    staged.write_bytes(path.read_bytes())
    return await backend.publish(Upload(project, file, staged, metadata))


@pytest.mark.parametrize("is_free", [False, True])
async def test_another_spelling_of_a_deleted_name_is_reserved(backend, other, made, is_free):
    path = wheel(made, "foo", "1.0")
    await publish(backend, path)
    await change(backend, Delete(path.name, is_free))
    await change(other, Reserve("foo-1.0.0-py3-none-any.whl"))
    with pytest.raises(FileExistsInRepoError, match="deleted"):
        await publish(other, path)
    found = await scan_of(backend)
    assert found is not None
    assert "foo-1.0.0-py3-none-any.whl" in found.deleted


async def test_the_name_of_a_file_that_is_there_cannot_be_reserved(backend, other, made):
    path = wheel(made, "foo", "1.0")
    stored = await publish(backend, path)
    for name in (path.name, "foo-1.0.0-py3-none-any.whl"):
        with pytest.raises(FileExistsInRepoError):
            await change(other, Reserve(name))
    found = await scan_of(other)
    assert found is not None
    assert (found.deleted, found.project) == ((), Project(name=FOO, files=(stored,)))


@pytest.mark.parametrize("opened", [name for name in SHARED if name != GITHUB], indirect=True)
async def test_of_an_upload_and_a_reserve_of_one_name_one_goes_on(backend, other, made):
    path = wheel(made, "foo")
    uploaded, reserved = await asyncio.gather(
        publish(backend, path), change(other, Reserve(path.name)), return_exceptions=True
    )
    found = await scan_of(other)
    assert found is not None
    assert found.project is not None
    if isinstance(reserved, JournalEntry):
        assert isinstance(uploaded, FileExistsInRepoError)
        assert (found.deleted, found.project.files, found.problems) == ((path.name,), (), ())
    else:
        assert isinstance(reserved, FileExistsInRepoError)
        assert (found.deleted, found.project.files) == ((), (uploaded,))


async def test_a_project_without_files_keeps_its_name(backend, other, made):
    file = await publish(backend, wheel(made, "foo"))
    await change(other, Delete(file.filename))
    for is_folded in (False, True):
        if is_folded:
            await update(other)
            await update(backend)
        for one in (backend, other):
            assert await one.find_project(FOO) == Project(name=FOO), "otherwise the name is looked up elsewhere"
            follower = Follower("team-a", one)
            await follower.refresh()
            assert follower.catalog.names() == ("foo",)
            assert follower.catalog.project(FOO) == Project(name=FOO)


# --- status --------------------------------------------------------------------------------------------------------


async def test_each_status_is_seen_by_everybody(backend, other, made):
    file = await publish(backend, wheel(made, "foo"))
    steps = [
        ("archived", "use bar"),
        ("archived", "use bar"),
        ("quarantined", None),
        ("deprecated", "x\ny"),
        ("active", None),
    ]
    revisions = [1, 1, 2, 3, 4]
    for number, ((status, reason), revision) in enumerate(zip(steps, revisions, strict=True)):
        entry = await change((backend, other)[number % 2], SetStatus(status, reason))
        assert entry == JournalEntry(FOO, status=ProjectStatus(status, reason, revision))
        if number % 2:
            await update(backend)
        one = (other, backend)[number % 2]
        for project in (await one.find_project(FOO), await followed(one)):
            assert project is not None
            assert (project.status, project.status_reason) == (status, reason)
            assert project.status_revision == revision
            assert project.files == (file,)
    await update(other)
    assert await indexed(backend) == Project(name=FOO, files=(file,), status_revision=4)


async def test_a_status_of_a_project_without_files(backend, other, made):
    file = await publish(backend, wheel(made, "foo"))
    await change(backend, Delete(file.filename))
    await change(other, SetStatus("archived", "gone"))
    await update(backend)
    for one in (backend, other):
        shown = await followed(one)
        assert shown is not None
        assert (shown.files, shown.status, shown.status_reason) == ((), "archived", "gone")


# --- what is missing -----------------------------------------------------------------------------------------------


MISSING = ["foo-9.0-py3-none-any.whl", "../foo-1.0-py3-none-any.whl", "", ".", "x" * 300 + ".whl", "a\0.whl", "\ud800"]


async def test_a_missing_file_cannot_be_changed(backend, made):
    file = await publish(backend, wheel(made, "foo"))
    before = (await backend.read_journal()).entries
    for name, filename in [*((FOO, one) for one in MISSING), (ProjectName("bar"), file.filename)]:
        for action in (SetYanked(filename, "x"), Delete(filename), Delete(filename, frees_name=True)):
            with pytest.raises(NotFoundError):
                await backend.change(Change(name, action))
    assert (await backend.read_journal()).entries == before


async def test_a_missing_project_has_no_status(backend, made):
    await publish(backend, wheel(made, "foo"))
    with pytest.raises(NotFoundError):
        await change(backend, SetStatus("archived"), ProjectName("bar"))
    assert await backend.find_project(ProjectName("bar")) is None


async def test_a_deleted_file_cannot_be_yanked(backend, other, made):
    file = await publish(backend, wheel(made, "foo"))
    await change(backend, Delete(file.filename))
    for one in (backend, other):
        with pytest.raises(NotFoundError):
            await change(one, SetYanked(file.filename, "x"))


# --- many at the same time -----------------------------------------------------------------------------------------


async def test_concurrent_changes_of_one_file_have_one_revision_each(backend, other, made):
    file = await publish(backend, wheel(made, "foo"))
    await other.read_journal()
    entries = await asyncio.gather(
        *((backend, other)[n % 2].change(Change(FOO, SetYanked(file.filename, f"reason {n}"))) for n in range(8))
    )
    assert sorted(entry.file.revision for entry in entries if entry.file is not None) == list(range(1, 9))
    last = next(entry.file for entry in entries if entry.file is not None and entry.file.revision == 8)
    for one in (backend, other):
        shown = await followed(one)
        assert shown is not None
        assert shown.file(file.filename) == last
    await update(backend)
    assert await indexed(other) == Project(name=FOO, files=(last,))


async def test_concurrent_deletions_are_one(backend, other, made):
    file = await publish(backend, wheel(made, "foo"))
    await other.read_journal()
    actions = [Delete(file.filename)] * 6
    entries = await asyncio.gather(
        *((backend, other)[n % 2].change(Change(FOO, action)) for n, action in enumerate(actions))
    )
    assert entries == [JournalEntry(FOO, deletion=Deletion(file.filename, 1))] * 6
    assert await filenames(other) == []


async def test_no_change_is_lost_while_update_index_runs(backend, other, made):
    files = [await publish(backend, wheel(made, "foo", f"{n}.0")) for n in range(6)]
    done = asyncio.Event()

    async def loop() -> None:
        while not done.is_set():
            await update(other)

    looping = asyncio.create_task(loop())
    try:
        for n, file in enumerate(files):
            action = (SetYanked(file.filename, f"r{n}"), Delete(file.filename), SetStatus("deprecated", f"s{n}"))[n % 3]
            await change(backend, action)
            shown = await followed(backend)
            assert shown is not None
            if n % 3 == 0:
                assert f"r{n}" in {f.yanked for f in shown.files if f.filename == file.filename}
            if n % 3 == 1:
                assert shown.file(file.filename) is None
            if n % 3 == 2:
                assert shown.status_reason == f"s{n}"
    finally:
        done.set()
        await looping
    await update(backend)
    for project in (await indexed(backend), await followed(other)):
        assert project is not None
        assert {f.filename: f.yanked for f in project.files} == {
            file.filename: f"r{n}" if n % 3 == 0 else None for n, file in enumerate(files) if n % 3 != 1
        }
        assert project.status_reason == "s5"


async def test_a_change_between_the_scan_and_the_index_is_shown(backend, other, made):
    files = [await publish(backend, wheel(made, "foo", f"{n}.0")) for n in range(2)]

    class Busy:
        """A storage that somebody changes between the scan and the write."""

        def __getattr__(self, name: str) -> object:
            return getattr(backend, name)

        async def write_index(self, content_: bytes, *, expected: str | None) -> str:
            if not changed:
                changed.append(await change(other, SetYanked(files[0].filename, "x")))
                changed.append(await change(other, Delete(files[1].filename)))
                changed.append(await change(other, SetStatus("archived")))
            return str(await backend.write_index(content_, expected=expected))

    changed: list[JournalEntry] = []
    await update(Busy())  # type: ignore[arg-type]
    for one in (backend, other):
        shown = await followed(one)
        assert shown is not None
        assert (shown.status, [(f.filename, f.yanked) for f in shown.files]) == ("archived", [(files[0].filename, "x")])
    await update(other)
    shown = await indexed(backend)
    assert shown is not None
    assert (shown.status, [(f.filename, f.yanked) for f in shown.files]) == ("archived", [(files[0].filename, "x")])
