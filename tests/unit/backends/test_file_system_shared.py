"""Check a file_system repo on a remote volume with several users: locks, lost answers, races."""

import errno
import fcntl
import os
from pathlib import Path

import pytest

from pywharf.backends.file_system.backend import FileSystemBackend
from pywharf.backends.file_system.journal import FileJournal
from pywharf.core.errors import BackendUnavailableError, FileExistsInRepoError
from pywharf.core.model import File
from pywharf.core.names import normalize
from pywharf.disk import durable
from pywharf.index.follower import Follower
from pywharf.index.ports import JournalEntry
from pywharf.index.update import update_index
from support.distributions.wheels import wheel
from support.storage.uploads import journal, publish, scanned

FOO = normalize("foo")
FILE = File(filename="foo-1.0.tar.gz", sha256="0" * 64, size=1)


@pytest.fixture
def backend(tmp_path) -> FileSystemBackend:
    return FileSystemBackend(tmp_path / "repo", "index.json", None)


def test_a_writer_that_stopped_with_the_lock_is_not_waited_for_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(durable, "LOCK_S", 0.2)
    written = FileJournal(tmp_path / "journal")
    written.append(JournalEntry(FOO, FILE))
    stopped = os.open(tmp_path / "journal", os.O_RDWR)
    try:
        fcntl.flock(stopped, fcntl.LOCK_EX)
        with pytest.raises(BackendUnavailableError, match="kept this repo's storage locked"):
            written.append(JournalEntry(FOO, FILE))
    finally:
        os.close(stopped)
    written.append(JournalEntry(FOO, FILE))
    assert len(written.read(None).entries) == 2


async def test_a_link_whose_answer_was_lost_is_an_upload_that_succeeded(tmp_path, backend, monkeypatch):
    """NFS then repeats the request, and the answer is that the file exists already."""
    link = os.link

    def answered_late(staged: Path, final: Path) -> None:
        link(staged, final)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))

    path = wheel(tmp_path, "foo")
    monkeypatch.setattr(os, "link", answered_late)
    file = await publish(backend, path)
    assert await journal(backend) == {file.filename: file}
    found, problems = await scanned(backend)
    assert ([project.files for project in found], problems) == ([(file,)], [])
    monkeypatch.undo()
    assert await publish(backend, path) == file, "the same bytes again change nothing"
    with pytest.raises(FileExistsInRepoError):
        await publish(backend, wheel(tmp_path, "foo", payload=b"other"))


async def test_a_note_that_comes_late_does_not_hide_what_the_index_says(tmp_path, backend):
    """Between an upload and its note, somebody may yank the file and update_index may run."""
    follower = Follower("foo", backend)
    file = await publish(backend, wheel(tmp_path, "foo"))
    sidecar = tmp_path / "repo/storage/foo" / f"{file.filename}.meta"
    sidecar.write_text(sidecar.read_text() + 'yanked = "broken"\n')
    await update_index(backend, backend_type="file_system", index_name="index.json", progress=lambda _n, _what: None)
    await follower.refresh()
    await follower.note(JournalEntry(FOO, file))
    project = follower.catalog.project(FOO)
    assert project is not None
    assert [f.yanked for f in project.files] == ["broken"]
    # Different content under the same name is newer than any index.
    other = File(filename=file.filename, sha256="1" * 64, size=1)
    await follower.note(JournalEntry(FOO, other))
    project = follower.catalog.project(FOO)
    assert project is not None
    assert project.files == (other,)
