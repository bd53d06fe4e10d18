"""Tests of a full or read-only disk: clear errors, no partial files, reads go on, and writes work again with room."""

import errno
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path

import pytest

from pywharf.backends.file_system.backend import FileSystemBackend
from pywharf.backends.file_system.journal import FileJournal
from pywharf.core.errors import BackendUnavailableError, PywharfError, StorageFullError
from pywharf.core.filenames import parse_upload_filename
from pywharf.core.model import File
from pywharf.core.names import normalize
from pywharf.index.follower import Follower
from pywharf.index.ports import JournalEntry
from pywharf.index.publish import publish
from pywharf.index.staging import StagedFile
from pywharf.index.update import Summary, update_index
from support.distributions.wheels import wheel
from support.parts import require
from support.server.index_client import IndexClient
from support.server.serving import PYWHARF, Server, running
from support.server.updating import finished
from support.server.updating import update_index as run_update_index
from support.storage.faults import Fault, injected
from support.storage.volumes import volume
from support.waiting import wait_for

MB = 1024 * 1024
CONFIG = """
[demo]
type = "file_system"
read_secret = "demo-read"
write_secret = "demo-write"
owner = "ml/demo"

[other]
type = "file_system"
read_secret = "other-read"
write_secret = "other-write"
"""


def repo_files(root: Path, name: str = "demo") -> set[str]:
    """Return the files in a repo's folder, except those that tests and the backend always keep there."""
    folder = root / "cache" / name
    kept = {"journal", "lock", "owner", "ballast"}
    return files_below(folder) - kept


def files_below(folder: Path) -> set[str]:
    """Return all files below a folder, except those in `claims`, which are empty, limited in number and permanent."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {str(path) for path in paths if path.parts[0] != "claims"}


def of(path: Path) -> set[str]:
    """Return the paths of the files that the storage holds for a published wheel."""
    return {f"storage/{path.name.partition('-')[0]}/{path.name}{suffix}" for suffix in ("", ".meta", ".metadata")}


def refused(server: Server, path: Path, status: int, reason: str) -> None:
    """Check that an upload gets this response and that nothing of it is kept."""
    before = repo_files(server.root)
    reply = IndexClient.of(server).upload(path)
    assert (reply.status, reason in str(reply)) == (status, True), str(reply)
    assert reply.json()["detail"].startswith(reply.reason[:20])
    staging = server.root / "cache" / "demo" / "staging"
    wait_for(lambda: not list(staging.iterdir()), "the staging folder is empty")
    assert repo_files(server.root) == before
    assert path.name not in IndexClient.of(server).files(path.name.partition("-")[0])


def test_a_full_volume(tmp_path):
    root = tmp_path / "root"
    one, large, small, other = (
        wheel(tmp_path, "one"),
        wheel(tmp_path, "large", payload=bytes(6 * MB)),
        wheel(tmp_path, "small"),
        wheel(tmp_path, "other"),
    )
    with volume(root / "cache" / "demo", 24) as disk, running(tmp_path, root=root, config=CONFIG) as server:
        client, neighbour = IndexClient.of(server), IndexClient.of(server, "other")
        assert client.upload(one).status == 200
        finished(run_update_index(root))
        for room in (2 * MB, 0):  # full in the middle of the file; full from the first byte
            disk.fill(leaving_bytes=room)
            refused(server, large, 507, "The disk is full")
            if not room:
                refused(server, small, 507, "full")
            assert client.everything() == {one.name: one.read_bytes()}
            disk.free()
        disk.fill()
        assert neighbour.upload(other).status == 200, "another repo's volume has room"
        index = root / "cache" / "demo" / "storage" / "index.toml"
        before = index.read_bytes()
        (index.parent / "one" / "unused").touch()
        run = run_update_index(root, "--index_filename=index.json")
        assert "The storage is full" in finished(run, status=1)
        assert index.read_bytes() == before
        assert repo_files(root) == {*of(one), "storage/index.toml", "storage/one/unused", "scan-cache"}
        disk.free()
        assert client.upload(large).status == 200
        assert client.upload(small).status == 200
        finished(run_update_index(root))
        expected = {path.name: path.read_bytes() for path in (one, large, small)}
        assert client.everything() == expected
        assert neighbour.everything() == {other.name: other.read_bytes()}
    assert server.text().count("Traceback") == 0


def test_a_limit_on_file_sizes(tmp_path):
    """The limit causes EFBIG, which can be tested without root. EDQUOT, from a quota, is handled the same way."""
    prlimit = require("prlimit", "apt-get install util-linux")
    one, large = wheel(tmp_path, "one"), wheel(tmp_path, "large", payload=bytes(6 * MB))
    with running(tmp_path, program=[str(prlimit), f"--fsize={2 * MB}", PYWHARF]) as server:
        client = IndexClient.of(server)
        assert client.upload(one).status == 200
        refused(server, large, 507, "The disk is full")
        assert client.everything() == {one.name: one.read_bytes()}


def test_a_read_only_volume(tmp_path):
    root = tmp_path / "root"
    one, two = wheel(tmp_path, "one"), wheel(tmp_path, "two")
    with volume(root / "cache" / "demo", 8) as disk:
        with running(tmp_path, root=root, config=CONFIG) as server:
            client = IndexClient.of(server)
            assert client.upload(one).status == 200
            disk.remount("ro")
            refused(server, two, 503, "Read-only file system")
            assert client.everything() == {one.name: one.read_bytes()}
            run = run_update_index(root)
            assert "Read-only file system" in finished(run, status=1)
            assert client.everything() == {one.name: one.read_bytes()}
        with running(tmp_path, root=root, config=CONFIG) as server:
            client = IndexClient.of(server)
            wait_for(lambda: client.get("").status == 200, "it starts on a read-only volume")
            assert client.everything() == {one.name: one.read_bytes()}
            refused(server, two, 503, "Read-only file system")
            disk.remount("rw")
            assert client.upload(two).status == 200
            assert client.everything() == {path.name: path.read_bytes() for path in (one, two)}


@asynccontextmanager
async def repo(folder: Path, *files: Path) -> AsyncIterator["Repo"]:
    made = Repo(folder)
    await made.follower.refresh()
    for path in files:
        await made.upload(path)
    yield made
    await made.backend.aclose()


class Repo:
    """A repo in this process, where faults can be injected."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.backend = FileSystemBackend(folder, "index.toml", None)
        self.follower = Follower("demo", self.backend)

    async def upload(self, path: Path) -> None:
        async with StagedFile(self.backend.staging_folder, 2**30) as staged:
            await staged.write(path.read_bytes())
            await publish(self.backend, self.follower, parse_upload_filename(path.name), {}, staged, slot=nullcontext())

    async def update(self) -> Summary:
        return await update_index(
            self.backend, backend_type="file_system", index_name="index.toml", progress=lambda _n, _what: None
        )

    async def listed(self) -> set[str]:
        """Return the file names that a newly started server lists."""
        fresh = Follower("demo", FileSystemBackend(self.folder, "index.toml", None))
        await fresh.refresh()
        names = fresh.catalog.names()
        return {f.filename for name in names for f in getattr(fresh.catalog.project(name), "files", ())}

    def files(self) -> set[str]:
        return files_below(self.folder) - {"journal", "lock"}


UPLOAD_STEPS = {
    "staging: opening": Fault("file.open", r"staging/\w+\.tmp$"),
    "staging: writing": Fault("file.write", r"staging/\w+\.tmp$"),
    "staging: fsync": Fault("os.fsync", r"staging/\w+\.tmp$"),
    "the project's folder": Fault("os.mkdir", r"storage/two$"),
    "first sidecar: writing": Fault("file.write", r"storage/two/\.\w+\.tmp$", nth=1),
    "second sidecar: writing": Fault("file.write", r"storage/two/\.\w+\.tmp$", nth=2),
    "the link": Fault("os.link", r"two-1\.0"),
    "first sidecar: its place": Fault("os.replace", r"two-1\.0", nth=1),
    "second sidecar: its place": Fault("os.replace", r"two-1\.0", nth=2),
    "the folder's fsync": Fault("os.fsync", r"storage/two$"),
    "the storage's fsync": Fault("os.fsync", r"storage$"),
    "journal: writing": Fault("os.write", r"journal$"),
    "journal: writing half a line": Fault("os.write", r"journal$", "short ENOSPC"),
    "journal: fsync": Fault("os.fdatasync", r"journal$"),
}
UPDATE_STEPS = {
    "a record: writing": Fault("os.write", r"staging/\w+\.tmp$", nth=1),
    "another record: writing": Fault("os.write", r"staging/\w+\.tmp$", nth=2),
    "core metadata: their place": Fault("os.replace", r"storage/two/"),
    "a record: its place": Fault("os.link", r"storage/two/"),
    "index: writing": Fault("file.write", r"storage/\.\w+\.tmp$"),
    "index: fsync": Fault("os.fsync", r"storage/\.\w+\.tmp$"),
    "index: its place": Fault("os.replace", r"storage/index\.toml$"),
}
ERRORS: dict[str, type[PywharfError]] = {
    "ENOSPC": StorageFullError,
    "EDQUOT": StorageFullError,
    "EIO": BackendUnavailableError,
}


def with_error(fault: Fault, error: str) -> Fault:
    return Fault(fault.call, fault.path, fault.do.replace("ENOSPC", error), fault.nth, fault.when)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("step", UPLOAD_STEPS)
async def test_an_upload_that_fails_at_a_step_leaves_nothing(tmp_path, step, error):
    one, two, three = wheel(tmp_path, "one"), wheel(tmp_path, "two"), wheel(tmp_path, "three")
    async with repo(tmp_path / "demo", one) as made:
        before, journal = made.files(), (tmp_path / "demo" / "journal").stat().st_size
        with injected(with_error(UPLOAD_STEPS[step], error)), pytest.raises(ERRORS[error]) as raised:
            await made.upload(two)
        assert str(tmp_path) not in str(raised.value), f"a path of the server is shown: {raised.value}"
        assert made.files() == before
        assert (tmp_path / "demo" / "journal").stat().st_size == journal
        assert await made.listed() == {one.name}
        await made.follower.refresh()
        await made.upload(two)
        await made.upload(three)
        await made.follower.refresh()
        assert set(made.follower.catalog.names()) == {"one", "two", "three"}
        assert await made.listed() == {one.name, two.name, three.name}


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("step", UPDATE_STEPS)
async def test_an_index_run_that_fails_at_a_step_leaves_the_old_index(tmp_path, step, error, caplog):
    one, two = wheel(tmp_path, "one"), wheel(tmp_path, "two")
    caplog.set_level(logging.WARNING)
    async with repo(tmp_path / "demo", one) as made:
        await made.update()
        storage = tmp_path / "demo" / "storage"
        (storage / "two").mkdir()
        two.rename(storage / "two" / two.name)
        index, before = (storage / "index.toml").read_bytes(), made.files()
        with injected(with_error(UPDATE_STEPS[step], error)), pytest.raises(ERRORS[error]):
            await made.update()
        assert (storage / "index.toml").read_bytes() == index
        assert before <= made.files()
        assert not list((tmp_path / "demo").rglob("*.tmp"))
        assert await made.listed() == {one.name}
        summary = await made.update()
        assert (summary.files, summary.problems) == (2, ())
        assert await made.listed() == {one.name, two.name}


@pytest.mark.parametrize("next_project", ["a", "gone", "a-longer-name"])
def test_a_reader_that_saw_a_line_which_then_failed_starts_again(tmp_path, monkeypatch, next_project):
    """Its position in the journal is then at the end of the next line, inside it, or past the end of the file."""
    journal, reader = FileJournal(tmp_path / "journal"), FileJournal(tmp_path / "journal")

    def entry(project: str) -> JournalEntry:
        return JournalEntry(normalize(project), File(filename=f"{project}-1.tar.gz", sha256="0" * 64, size=1))

    journal.append(entry("first"))
    start = reader.read(None)
    seen = []

    def fsync(_: int) -> None:
        seen.append(reader.read(start.cursor))
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", fsync)
        with pytest.raises(OSError, match="full"):
            journal.append(entry("gone"))
    assert [e.project for e in seen[0].entries] == ["gone"]
    journal.append(entry(next_project))
    after = reader.read(seen[0].cursor)
    assert ([e.project for e in after.entries], after.restarted) == (["first", next_project], True)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b'{"generation"',
        b'{"generation":"short"}\n',
        b"\0" * 100,
        b"no header\nno entry\n",
        b'{"project":1}\n',
    ],
    ids=repr,
)
def test_a_journal_without_a_header_is_begun_anew(tmp_path, content):
    """A power failure or an edit may leave it so. The files are in the storage, where update_index finds them."""
    path = tmp_path / "journal"
    path.write_bytes(content)
    journal = FileJournal(path)
    assert journal.read(None).entries == ()
    journal.fold(journal.read(None).cursor)
    entry = JournalEntry(normalize("one"), File(filename="one-1.tar.gz", sha256="0" * 64, size=1))
    journal.append(entry)
    assert journal.read(None).entries == (entry,)
    journal.append(entry)
    assert journal.read(None).entries == (entry, entry)
