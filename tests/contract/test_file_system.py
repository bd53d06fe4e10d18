"""What only a folder has: crashes at each step, a full disk, files added by hand, volumes without hard links."""

import asyncio
import errno
import hashlib
import os
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pywharf.backends.opening import open_backend
from pywharf.backends.registration import OpenBackend
from pywharf.config.repo_config import FileSystemSpec
from pywharf.core.errors import (
    BackendUnavailableError,
    DataOwnedByOtherError,
    FileExistsInRepoError,
    PywharfError,
    StorageFullError,
)
from pywharf.core.model import File
from pywharf.core.names import ProjectName
from pywharf.core.toml_text import dumps
from pywharf.index.codecs import decode_index
from pywharf.index.ports import Backend, StoredIndex
from pywharf.index.update import Summary, update_index
from support.distributions.wheels import sdist, wheel
from support.storage.crashing import NEW_INDEX, Crash, crashes
from support.storage.faults import CALLS, Fault, injected
from support.storage.storages import REPO, STORAGES
from support.storage.uploads import bare, content, file_of, journal, publish, scanned

FOO = ProjectName("foo")
OLD_S = 25 * 3600


def open_(root: Path, index_name: str = "index.json") -> Backend:
    return STORAGES["file_system"].make(root)(index_name)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def backend(root: Path) -> Backend:
    return open_(root)


@pytest.fixture
def storage(root: Path) -> Path:
    folder = root / "cache" / REPO / "storage"
    (folder / "foo").mkdir(parents=True)
    return folder


async def update(backend: Backend, index_name: str = "index.json") -> Summary:
    return await update_index(backend, backend_type="file_system", index_name=index_name, progress=lambda _n, _w: None)


async def indexed(backend: Backend) -> dict[str, File]:
    stored = await backend.read_index()
    assert isinstance(stored, StoredIndex), stored
    index = decode_index(stored.content, stored.filename)
    return {f.filename: f for name in index if (p := index.project(name)) for f in p.files}


def temporary_files(root: Path) -> list[str]:
    return [p.name for p in root.rglob("*") if p.name.endswith(".tmp")]


# --- layout ------------------------------------------------------------------------------------------------------


async def test_the_layout_is_the_original_s(root, backend, made):
    path = wheel(made, "Foo.Bar")
    await publish(backend, path)
    folder = root / "cache" / REPO / "storage" / "foo-bar"
    assert (folder / path.name).read_bytes() == path.read_bytes()
    assert f'sha256 = "{hashlib.sha256(path.read_bytes()).hexdigest()}"' in (folder / f"{path.name}.meta").read_text()
    assert 'distrib = "foo-bar"' in (folder / f"{path.name}.meta").read_text()
    await update(open_(root, "index.toml"), "index.toml")
    index = (folder.parent / "index.toml").read_text()
    assert f'package_path = "{folder / path.name}"' in index
    assert 'type = "file_system"' in index


# --- crashes -----------------------------------------------------------------------------------------------------


@pytest.fixture
def start(tmp_path: Path) -> Path:
    """Create a folder with a ROOT that holds published wheels, and with one more wheel to publish."""
    folder = tmp_path / "crashes"
    (folder / "new").mkdir(parents=True)
    wheel(folder / "new", "foo", "2.0", payload=b"x" * 300_000)

    async def begin() -> None:
        backend = open_(folder / "start")
        await publish(backend, wheel(tmp_path, "foo"))
        await update(backend)
        await publish(backend, wheel(tmp_path, "foo", "1.1"))

    asyncio.run(begin())
    return folder


def _of_each_step(found: list[Crash], at_least: int) -> list[Crash]:
    killed = [crash for crash in found if not crash.ended]
    assert len(killed) >= at_least, [c.step for c in found]
    return [*killed, next(crash for crash in found if crash.ended)]


def test_publishing_killed_at_each_step(start, tmp_path):
    new = file_of(next((start / "new").iterdir()))[1]
    path = start / "new" / new.filename
    old = {file_of(tmp_path / f"foo-{v}-py3-none-any.whl")[1].filename for v in ("1.0", "1.1")}

    async def check(crash: Crash) -> None:
        backend = open_(crash.root)
        project = await backend.find_project(FOO)
        assert project is not None
        shown = {f.filename: f for f in project.files}
        assert old <= shown.keys() <= old | {new.filename}
        in_journal = await journal(backend)
        assert in_journal.keys() <= {"foo-1.1-py3-none-any.whl", new.filename}
        assert "foo-1.1-py3-none-any.whl" in in_journal
        if crash.ended:
            assert bare(in_journal[new.filename]) == new
        if new.filename in in_journal:
            assert bare(shown[new.filename]) == new
        if new.filename in shown:
            assert await content(backend, FOO, new) == path.read_bytes()
            assert hashlib.sha256(await backend.read_metadata(FOO, new)).hexdigest() == new.metadata_sha256
        # The upload was not acknowledged, so the client retries, which completes anything that is missing.
        stored = await publish(backend, path)
        assert (await journal(backend))[new.filename] == stored
        assert hashlib.sha256(await backend.read_metadata(FOO, stored)).hexdigest() == new.metadata_sha256
        summary = await update(backend)
        assert summary.problems == ()
        found = await indexed(backend)
        assert found.keys() == old | {new.filename}
        assert (found[new.filename].sha256, found[new.filename].size) == (new.sha256, new.size)
        assert found[new.filename].metadata_sha256 == new.metadata_sha256
        assert hashlib.sha256(await backend.read_metadata(FOO, new)).hexdigest() == new.metadata_sha256
        assert await content(backend, FOO, new) == path.read_bytes()
        assert await journal(backend) == {}
        _age(crash.root)
        await scanned(backend)
        assert temporary_files(crash.root) == []

    for crash in _of_each_step(crashes(start, "publish"), at_least=12):
        try:
            asyncio.run(check(crash))
        except Exception as error:
            error.add_note(f"killed at {crash.step}")
            raise


def _age(root: Path) -> None:
    for path in root.rglob("*.tmp"):
        os.utime(path, (time.time() - OLD_S,) * 2)


def test_writing_the_index_killed_at_each_step(start):
    async def check(crash: Crash, old: bytes) -> None:
        backend = open_(crash.root)
        stored = await backend.read_index()
        assert isinstance(stored, StoredIndex)
        assert stored.content == NEW_INDEX if crash.ended else stored.content in {old, NEW_INDEX}
        assert (await update(backend)).changed == (stored.content == NEW_INDEX or len(await indexed(backend)) == 2)
        assert len(await indexed(backend)) == 2

    old = (start / "start" / "cache" / REPO / "storage" / "index.json").read_bytes()
    for crash in _of_each_step(crashes(start, "write_index"), at_least=3):
        asyncio.run(check(crash, old))


def test_folding_killed_at_each_step(start, tmp_path):
    async def check(crash: Crash) -> None:
        backend = open_(crash.root)
        before = await backend.read_journal()
        assert [e.file.filename for e in before.entries if e.file] in ([], ["foo-1.1-py3-none-any.whl"])
        assert crash.ended <= (before.entries == ())
        later = await publish(backend, wheel(tmp_path, "foo", "3.0"))
        after = await backend.read_journal(before.cursor)
        assert [e.file for e in after.entries] == [later]

    for crash in _of_each_step(crashes(start, "fold"), at_least=3):
        asyncio.run(check(crash))


@pytest.mark.parametrize("cut", range(1, 60, 7))
async def test_a_journal_that_ends_in_the_middle_of_a_line(root, backend, made, cut):
    """A crash leaves such a journal. The partial line is never shown and does not corrupt the next one."""
    first = await publish(backend, wheel(made, "foo", "1.0"))
    reader = await backend.read_journal()
    await publish(backend, wheel(made, "foo", "2.0"))
    path = root / "cache" / REPO / "journal"
    os.truncate(path, path.stat().st_size - cut)
    read = await backend.read_journal(reader.cursor)
    assert (read.entries, read.restarted) == ((), False)
    third = await publish(backend, wheel(made, "foo", "3.0"))
    read = await backend.read_journal(read.cursor)
    assert [e.file for e in read.entries] == [third]
    assert (await journal(backend)).keys() == {first.filename, third.filename}


async def test_a_journal_that_lost_what_was_read_of_it(root, backend, made):
    """Another machine has read a line that a crash of the file server then reverted."""
    first = await publish(backend, wheel(made, "foo", "1.0"))
    path = root / "cache" / REPO / "journal"
    size = path.stat().st_size
    await publish(backend, wheel(made, "foo", "2.0"))
    ahead = (await backend.read_journal()).cursor
    os.truncate(path, size)
    read = await backend.read_journal(ahead)
    assert ([e.file for e in read.entries], read.restarted) == ([first], True)


@pytest.mark.parametrize("damage", [b"", b"nonsense", b"nonsense\n", b"\0" * 200, b'{"generation":"x"}\n'])
async def test_a_journal_that_is_none_is_begun_anew(root, backend, made, damage):
    await publish(backend, wheel(made, "foo", "1.0"))
    known = (await backend.read_journal()).cursor
    (root / "cache" / REPO / "journal").write_bytes(damage)
    assert (await backend.read_journal(known)).entries == ()
    second = await publish(backend, wheel(made, "foo", "2.0"))
    read = await backend.read_journal(known)
    assert ([e.file for e in read.entries], read.restarted) == ([second], True)
    await update(backend)
    assert len(await indexed(backend)) == 2, "update_index finds what the journal lost"


# --- a full disk -------------------------------------------------------------------------------------------------

FULL = [(call, nth) for call in CALLS if call != "os.rename" for nth in range(1, 6)]


@pytest.mark.parametrize("error", ["ENOSPC", "EDQUOT", "EIO"])
async def test_a_disk_that_fails_at_any_step_keeps_nothing(root, backend, made, error):
    """Each system call fails once: the error is reported, and no partial file remains."""
    kept = await publish(backend, wheel(made, "foo"))
    path = wheel(made, "foo", "2.0", payload=b"x" * 100_000)
    wanted = StorageFullError if error in {"ENOSPC", "EDQUOT"} else BackendUnavailableError
    failed = 0
    for call, nth in FULL:
        before = await journal(backend)
        try:
            with injected(Fault(call, rf"/cache/{REPO}/", do=error, nth=nth)):
                await publish(backend, path)
        except PywharfError as raised:
            assert isinstance(raised, wanted), (call, nth, raised)  # noqa: PT017
            assert str(root) not in str(raised), "clients see the message"  # noqa: PT017
            failed += 1
        else:
            break_off = root / "cache" / REPO / "storage" / "foo"
            for part in break_off.glob("foo-2.0*"):
                part.unlink()
            await update(backend)
            continue
        project = await backend.find_project(FOO)
        assert project is not None
        assert project.files == (kept,), (call, nth)
        assert await journal(backend) == before, (call, nth)
        assert temporary_files(root) == [], (call, nth)
        assert [p.name for p in (root / "cache" / REPO / "storage" / "foo").glob("foo-2.0*")] == [], (call, nth)
    assert failed >= 8, "not many steps were tried"
    assert (await publish(backend, path)).filename == path.name


@pytest.mark.parametrize("call", ["file.write", "os.fsync", "os.replace"])
async def test_a_full_disk_leaves_the_old_index(root, backend, call):
    version = await backend.write_index(b"old", expected=None)
    with injected(Fault(call, r"/storage/", do="ENOSPC")), pytest.raises(StorageFullError, match="is full"):
        await backend.write_index(b"new", expected=version)
    assert await backend.read_index() == StoredIndex("index.json", b"old", version)
    assert temporary_files(root) == []
    await backend.write_index(b"new", expected=version)


# --- volumes without hard links ----------------------------------------------------------------------------------


@pytest.mark.parametrize("error", ["EPERM", "EOPNOTSUPP", "ENOSYS", "EMLINK"])
async def test_without_hard_links_one_of_many_still_wins(root, backend, made, error):
    paths = []
    for i in range(20):
        (made / str(i)).mkdir()
        paths.append(wheel(made / str(i), "foo", payload=b"%d" % i * 1000))
    with injected(Fault("os.link", do=error)):
        results = await asyncio.gather(
            *((publish((backend, open_(root))[i % 2], path)) for i, path in enumerate(paths)), return_exceptions=True
        )
    won = [i for i, result in enumerate(results) if isinstance(result, File)]
    assert len(won) == 1, results
    assert all(isinstance(r, File | FileExistsInRepoError) for r in results), results
    file = file_of(paths[won[0]])[1]
    assert await content(backend, FOO, file) == paths[won[0]].read_bytes()
    assert {name: bare(one) for name, one in (await journal(backend)).items()} == {file.filename: file}
    assert temporary_files(root) == []


# --- added by hand -----------------------------------------------------------------------------------------------


async def test_files_without_a_record_are_adopted(storage, backend, made):
    made_files = [wheel(made, "foo"), sdist(made, "foo")]
    for path in made_files:
        shutil.copy(path, storage / "foo")
        os.utime(storage / "foo" / path.name, (1_700_000_000,) * 2)
    found = await backend.find_project(FOO)
    assert found is not None, "the name is the repo's from the moment a file lies there"
    assert found.files == ()
    summary = await update(backend)
    assert (summary.files, summary.problems, summary.changed) == (2, (), True)
    for path in made_files:
        expected = file_of(path)[1]
        file = (await indexed(backend))[path.name]
        assert file.upload_time == "2023-11-14T22:13:20.000000Z"
        assert (file.sha256, file.size, file.requires_python, file.metadata_sha256) == (
            expected.sha256,
            expected.size,
            expected.requires_python,
            expected.metadata_sha256,
        )
        assert (storage / "foo" / f"{path.name}.meta").exists()
    found = await backend.find_project(FOO)
    assert found is not None
    assert {f.filename: f for f in found.files} == await indexed(backend)
    assert (await update(backend)).changed is False


async def test_the_original_s_records_are_taken_and_not_rewritten(storage, backend, made):
    path = Path(shutil.copy(wheel(made, "foo"), storage / "foo"))
    os.utime(path, (1_600_000_000,) * 2)
    form = {
        ":action": "file_upload",
        "name": "Foo",
        "version": "1.0",
        "filetype": "bdist_wheel",
        "metadata_version": "2.1",
        "summary": 'C:\\xampp "quoted"\n\x7f',
        "requires_python": ">=3.6",
        "description": "",
        "distrib": "foo",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    record = path.with_name(f"{path.name}.meta")
    record.write_text(dumps(form))
    before = (record.read_bytes(), record.stat().st_mtime_ns)
    summary = await update(backend)
    assert (summary.files, summary.problems) == (1, ())
    assert (record.read_bytes(), record.stat().st_mtime_ns) == before
    file = (await indexed(backend))[path.name]
    assert (file.size, file.upload_time, file.requires_python) == (
        path.stat().st_size,
        "2020-09-13T12:26:40.000000Z",
        ">=3.6",
    )
    assert file.metadata_sha256 == hashlib.sha256(await backend.read_metadata(FOO, file)).hexdigest()
    assert (await update(backend)).changed is False


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        cwd = Path.cwd()
        os.chdir(path.parent)  # its path may exceed the length of a socket address
        try:
            listening.bind(path.name)
        finally:
            os.chdir(cwd)


NO_FILES: dict[str, Callable[[Path], object]] = {"folder": Path.mkdir, "pipe": _fifo, "socket": _socket}


@pytest.mark.parametrize("make", NO_FILES.values(), ids=NO_FILES)
@pytest.mark.parametrize("has_record", [False, True])
async def test_what_is_no_file_is_reported_and_stops_nothing(storage, backend, made, make, has_record):
    good = await publish(backend, wheel(made, "foo"))
    odd = storage / "foo" / "foo-2.0-py3-none-any.whl"
    make(odd)
    if has_record:
        odd.with_name(f"{odd.name}.meta").write_text(dumps({"distrib": "foo", "sha256": "a" * 64}))
    async with asyncio.timeout(20):
        summary = await update(backend)
        assert (await indexed(backend)).keys() == {good.filename}
        found = await backend.find_project(FOO)
    assert found is not None
    assert found.files == (good,)
    assert [p for p in summary.problems if odd.name in p and "it is no regular file" in p] == list(summary.problems)
    assert len(summary.problems) == 1


async def test_problems_are_listed_and_the_rest_is_indexed(storage, backend, made):
    good = await publish(backend, wheel(made, "foo"))
    sound = wheel(made, "foo", "2.0").read_bytes()
    size = dumps({"distrib": "foo", "sha256": "a" * 64, "size": "5"})
    cases = {
        "foo-2.1-py3-none-any.whl": (b"no zip", None, "is not a readable zip archive"),
        "foo-2.2-py3-none-any.whl": (sound, None, "must hold exactly one folder foo-2.2.dist-info"),
        "foo-2.3-py3-none-any.whl": (sound, "distrib = 'foo'", "'sha256' is missing"),
        "foo-2.4-py3-none-any.whl": (sound, "= =", "is not valid TOML"),
        "foo-2.5-py3-none-any.whl": (sound, dumps({"distrib": "foo", "sha256": "x"}), "must be 64 hexadecimal digits"),
        "foo-2.6-py3-none-any.whl": (sound, size, f"it has {len(sound)} bytes, its record says 5"),
        "foo-2.7-py3-none-any.whl": (sound, b"\xff\xfe", "can't decode byte"),
        "bar-1.0-py3-none-any.whl": (sound, None, "it belongs into the folder 'bar'"),
        "foo-<b>.zip": (sound, None, "is not the file name of a distribution"),
    }
    for name, (data, record, _) in cases.items():
        (storage / "foo" / name).write_bytes(data)
        if record is not None:
            raw = record if isinstance(record, bytes) else record.encode()
            (storage / "foo" / f"{name}.meta").write_bytes(raw)
    for folder in ("Not_Normal", "no name", ".hidden"):
        (storage / folder).mkdir()
    summary = await update(backend)
    assert (await indexed(backend)).keys() == {good.filename}
    reported = list(summary.problems)
    for name, (_, _, reason) in cases.items():
        (one,) = [p for p in reported if name in p and reason in p] or [f"{name}: {reason} is not reported: {reported}"]
        assert one in reported, one
        reported.remove(one)
    assert [p.partition(" is left out: ")[0] for p in reported] == ["The folder 'Not_Normal'", "The folder 'no name'"]
    assert "belong into 'not-normal'" in reported[0]
    assert all(p.isprintable() for p in summary.problems)


@pytest.mark.parametrize(
    ("text", "status", "problem"),
    [
        ('status = "archived"', "archived", None),
        ('status = "quarantined"\nreason = "malware"', "quarantined", None),
        ('status = "gone"', "quarantined", "status must be one of"),
        ("nonsense", "quarantined", "is not valid TOML"),
    ],
)
async def test_status_file(storage, backend, made, text, status, problem):
    await publish(backend, wheel(made, "foo"))
    (storage / "foo" / ".status.toml").write_text(text)
    projects, problems = await scanned(backend)
    assert [p.status for p in projects] == [status]
    found = await backend.find_project(FOO)
    assert found is not None
    assert found.status == status
    assert len(problems) == (problem is not None)
    assert problem is None or problem in problems[0]


async def test_a_yanked_file(storage, backend, made):
    file = await publish(backend, wheel(made, "foo"))
    record = storage / "foo" / f"{file.filename}.meta"
    await update(backend)
    for written, yanked in (("broken on Windows", "broken on Windows"), ("true", ""), (None, None)):
        lines = [line for line in record.read_text().splitlines() if not line.startswith("yanked")]
        record.write_text("\n".join([*lines, *([f'yanked = "{written}"'] if written else []), ""]))
        assert (await update(backend)).changed
        assert (await indexed(backend))[file.filename].yanked == yanked


# --- leftovers ---------------------------------------------------------------------------------------------------


async def test_what_crashes_left_is_removed_once_it_is_old(root, storage, backend, made):
    file = await publish(backend, wheel(made, "foo"))
    folder = root / "cache" / REPO
    old = [folder / "staging" / "a.tmp", folder / ".b.tmp", storage / ".c.tmp", storage / "foo" / ".d.tmp"]
    young = [path.with_name(path.name.replace(".tmp", "2.tmp")) for path in old]
    mine = [storage / "foo" / "notes.tmp", storage / "foo" / ".keep", storage / ".notes"]
    for path in [*old, *young, *mine]:
        path.write_bytes(b"x")
    for path in [*old, *mine]:
        os.utime(path, (time.time() - OLD_S,) * 2)
    await update(backend)
    assert [p for p in old if p.exists()] == []
    assert [p for p in [*young, *mine] if not p.exists()] == []
    assert (await indexed(backend)).keys() == {file.filename}
    assert await content(backend, FOO, file)


# --- owner -------------------------------------------------------------------------------------------------------


def owned(root: Path, owner: str | None) -> Backend:
    return open_backend(OpenBackend(FileSystemSpec(owner=owner), REPO, root, None))


async def test_another_owner_is_refused_until_the_file_is_gone(root, made):
    await publish(owned(root, "ml/team-a"), wheel(made, "foo"))
    for allowed in ("ml/team-a", None):
        found = await owned(root, allowed).find_project(FOO)
        assert found is not None
        assert len(found.files) == 1
    thief = owned(root, "evil/team-a")
    for call in (
        thief.read_index(),
        thief.read_journal(),
        thief.find_project(FOO),
        thief.write_index(b"", expected=None),
        publish(thief, wheel(made, "foo", "2.0")),
        scanned(thief),
    ):
        with pytest.raises(DataOwnedByOtherError, match="belong to another owner, not to 'evil/team-a'"):
            await call
    (root / "cache" / REPO / "owner").unlink()
    assert await thief.find_project(FOO) is not None
    with pytest.raises(DataOwnedByOtherError):
        await owned(root, "ml/team-a").read_index()


async def test_of_concurrent_owners_one_gets_it(root):
    claims = [owned(root, f"ns-{i}/team-a").read_index() for i in range(20)]
    results = await asyncio.gather(*claims, return_exceptions=True)
    assert sum(result is None for result in results) == 1, results
    assert sum(isinstance(result, DataOwnedByOtherError) for result in results) == 19


# --- faults of the volume ----------------------------------------------------------------------------------------


async def test_a_root_that_is_no_folder(tmp_path):
    (tmp_path / "root").write_text("a file")
    with pytest.raises(BackendUnavailableError, match="cannot be used now") as raised:
        await open_(tmp_path / "root").read_index()
    assert str(tmp_path) not in str(raised.value)
    assert isinstance(raised.value.__cause__, OSError)
    assert raised.value.__cause__.errno in {errno.ENOTDIR, errno.EEXIST}
