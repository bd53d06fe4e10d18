"""Check the limits of a repo's texts, records, journal and index: only what exceeds a limit is refused."""

import contextlib
import os
import threading
import time
from collections.abc import Callable

import msgspec
import pytest

from pywharf.backends.file_system.backend import FileSystemBackend
from pywharf.backends.file_system.journal import FileJournal
from pywharf.backends.github.releases import decode_release, entry_of
from pywharf.core.errors import BackendUnavailableError, InvalidConfigError, TooLargeError
from pywharf.core.filenames import parse_upload_filename
from pywharf.core.model import File, Project
from pywharf.core.names import ProjectName
from pywharf.core.toml_text import dumps
from pywharf.index import index_json, limits
from pywharf.index import update as updating
from pywharf.index.codecs import decode_index, encode_index
from pywharf.index.follower import Follower
from pywharf.index.limits import fault_of, max_index_bytes
from pywharf.index.ports import JournalEntry, StoredIndex, Upload
from pywharf.index.publish import publish as publish_checked
from pywharf.index.sidecars import meta_of, parse_status
from pywharf.index.staging import StagedFile
from pywharf.index.update import update_index
from support.distributions.wheels import wheel
from support.storage.uploads import publish, scanned

FOO = ProjectName("foo")
GOOD = File(filename="foo-1.0.tar.gz", sha256="a" * 64, size=3, requires_python=">=3.8")
LONG = ">=1" + ".1" * 4_600_000
TOO_LONG = {
    "requires_python": LONG,
    "yanked": "x" * 5_000,
    "sha256": "a" * 100,
    "metadata_sha256": "b" * 100,
    "upload_time": "2" * 100,
    "stamp": "1" * 100,
    "location": "https://" + "x" * 3_000,
    "filename": "f" * 252 + ".zip",
}


def longer(field: str) -> File:
    return msgspec.structs.replace(GOOD, **{field: TOO_LONG[field]})


@pytest.fixture
def backend(tmp_path) -> FileSystemBackend:
    return FileSystemBackend(tmp_path / "repo", "index.json", None)


async def update(backend, name="index.json"):
    return await update_index(backend, backend_type="file_system", index_name=name, progress=lambda _n, _what: None)


@pytest.mark.parametrize("field", TOO_LONG)
def test_a_text_that_is_too_long_is_reported_with_its_number(field):
    assert fault_of(GOOD) is None
    said = fault_of(longer(field))
    assert said is not None
    assert f"has {len(TOO_LONG[field])} characters; at most" in said
    assert len(said) < 200


@pytest.mark.parametrize("field", TOO_LONG)
def test_a_too_long_stored_journal_line_is_ignored_and_the_rest_is_read(tmp_path, field):
    """This also holds for a line with another file name, with half a line after it, and when reading from a cursor."""
    path = tmp_path / "journal"
    journal = FileJournal(path)
    journal.append(JournalEntry(FOO, GOOD))
    cursor = journal.read(None).cursor
    with path.open("ab") as file:
        file.write(msgspec.json.encode(JournalEntry(FOO, longer(field))) + b"\n")
    last = msgspec.structs.replace(GOOD, filename="foo-2.0.tar.gz")
    journal.append(JournalEntry(FOO, last))
    assert [e.file for e in journal.read(None).entries] == [GOOD, last]
    read = journal.read(cursor)
    assert ([e.file for e in read.entries], read.restarted) == ([last], False)
    with path.open("ab") as file:
        file.write(b"x" * 200_000)
    assert journal.read(read.cursor).entries == ()
    journal.append(JournalEntry(FOO, GOOD))
    assert [e.file for e in journal.read(read.cursor).entries] == [GOOD]
    journal.fold(read.cursor)
    assert [e.file for e in journal.read(None).entries] == [GOOD]


def test_a_journal_takes_no_long_line_and_not_more_than_its_size(tmp_path, monkeypatch):
    journal = FileJournal(tmp_path / "journal")
    with pytest.raises(TooLargeError, match=r"has \d+ bytes; at most 65536 are allowed"):
        journal.append(JournalEntry(FOO, longer("requires_python")))
    monkeypatch.setattr("pywharf.backends.file_system.journal.MAX_JOURNAL_BYTES", 1_000)
    for _ in range(20):
        with contextlib.suppress(BackendUnavailableError):
            journal.append(JournalEntry(FOO, GOOD))
    with pytest.raises(BackendUnavailableError, match="of 1000 at most; run update_index"):
        journal.append(JournalEntry(FOO, GOOD))
    assert (tmp_path / "journal").stat().st_size <= 1_000
    journal.fold(journal.read(None).cursor)
    journal.append(JournalEntry(FOO, GOOD))


@pytest.mark.parametrize("field", ["requires_python", "yanked"])
async def test_a_record_that_is_too_long_is_left_out_and_named(backend, tmp_path, field):
    kept = await publish(backend, wheel(tmp_path, "foo"))
    bad = await publish(backend, wheel(tmp_path, "foo", "2.0"))
    sidecar = tmp_path / "repo/storage/foo" / f"{bad.filename}.meta"
    sidecar.write_text(dumps(meta_of(FOO, msgspec.structs.replace(bad, **{field: TOO_LONG[field]}))))
    for _ in range(2):
        summary = await update(backend)
        (problem,) = summary.problems
        assert bad.filename in problem
        assert "at most" in problem
        assert summary.files == 1
        found = await backend.find_project(FOO)
        assert found is not None
        assert found.files == (kept,)


def test_a_status_reason_and_a_release_that_are_too_long():
    with pytest.raises(InvalidConfigError, match="its reason has 5000 characters; at most 4096"):
        parse_status(f'status = "archived"\nreason = "{"x" * 5_000}"', "foo/.status.toml")
    for body, said in (
        (dumps(meta_of(FOO, longer("yanked"))), "has 5000 characters; at most 4096"),
        ("x" * 3_000_000, "its text has over"),
    ):
        release = {"id": 1, "tag_name": GOOD.filename, "body": body, "assets": [{"name": GOOD.filename, "size": 3}]}
        with pytest.raises(InvalidConfigError, match=said):
            entry_of(decode_release(release))


@pytest.mark.parametrize("codec", ["index.json", "index.toml"])
def test_what_is_too_long_in_an_index_is_not_shown(codec):
    other = ProjectName("other")
    projects = [
        Project(name=FOO, files=(GOOD, msgspec.structs.replace(longer("yanked"), filename="foo-2.0.tar.gz"))),
        Project(name=other, files=(GOOD,), status="archived", status_reason="x" * 100_000),
    ]
    content = encode_index(codec, 1, projects, backend_type="file_system", location=lambda _n, _f: None)
    index = decode_index(content, codec)
    found = index.project(FOO)
    assert found is not None
    assert found.files == (GOOD,)
    found = index.project(other)
    assert found is not None
    assert found.status_reason == "x" * 4_096


# --- the size of an index ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["index.json", "index.toml"])
async def test_an_index_over_its_limit_is_not_read_and_is_written_anew(tmp_path, codec):
    backend = FileSystemBackend(tmp_path / "repo", codec, None)
    file = await publish(backend, wheel(tmp_path, "foo"))
    path = tmp_path / "repo/storage" / codec
    path.write_bytes(b"")
    os.truncate(path, max_index_bytes(codec) + 1)
    stored = await backend.read_index()
    assert isinstance(stored, StoredIndex)
    assert stored.content == b""
    follower = Follower("team-a", backend)
    with pytest.raises(BackendUnavailableError, match=f"over the {max_index_bytes(codec)} bytes"):
        await follower.refresh()
    assert (await update(backend, codec)).changed
    await follower.refresh()
    project = follower.catalog.project(FOO)
    assert project is not None
    assert project.files == (file,)


async def test_an_index_that_would_be_too_large_leaves_the_old_one(backend, tmp_path, monkeypatch):
    await publish(backend, wheel(tmp_path, "foo"))
    await update(backend)
    before = await backend.read_index()
    await publish(backend, wheel(tmp_path, "bar"))
    cases = (("MAX_PROJECTS", 1, "1 projects are allowed"), ("max_index_bytes", lambda _: 100, "at most 100 bytes"))
    for name, value, said in cases:
        with monkeypatch.context() as patched:
            patched.setattr(updating, name, value)
            with pytest.raises(TooLargeError, match=said):
                await update(backend)
        assert await backend.read_index() == before
        assert len((await backend.read_journal()).entries) == 1, "what it does not hold stays in the journal"
    assert (await update(backend)).projects == 2


def many(count: int) -> bytes:
    return b'{"format":1,"mtime":1,"projects":{' + b",".join(b'"p%d":{}' % n for n in range(count)) + b"}}"


def test_an_index_of_too_many_projects_is_refused_after_a_bounded_number():
    content = many(limits.MAX_PROJECTS + 10)
    assert len(content) < max_index_bytes("index.json")
    with pytest.raises(BackendUnavailableError, match="more than 200000 projects"):
        decode_index(content, "index.json")


@pytest.mark.parametrize("count", [1, 2, 3, 50])
def test_a_large_index_is_split_where_its_projects_end(monkeypatch, count):
    """The result is the same as in one call, whatever the texts hold."""
    odd = 'x"},"foo":{"files":[]},{\\"},"y":'
    projects = [
        Project(
            name=ProjectName(f"p-{n:02}"),
            files=(msgspec.structs.replace(GOOD, yanked=odd),) * (n % 3),
            status="archived" if n % 2 else "active",
            status_reason=odd if n % 2 else None,
        )
        for n in range(count)
    ]
    content = encode_index("index.json", 1, projects, backend_type="file_system", location=lambda _n, _f: None)
    whole = decode_index(content, "index.json")
    monkeypatch.setattr(index_json, "_IN_ONE_GO", 10)
    split = decode_index(content, "index.json")
    assert list(split) == list(whole) == [p.name for p in projects]
    assert [split.project(name) for name in split] == projects
    assert [split.source(name) for name in split] == [whole.source(name) for name in whole]


def longest_pause(work: Callable[[], object]) -> float:
    """Return the longest time in which no other thread ran, as a fraction of the time that the work took."""
    longest = 0.0
    stop = threading.Event()

    def tick() -> None:
        nonlocal longest
        last = time.perf_counter()
        while not stop.wait(0.001):
            now = time.perf_counter()
            last, longest = now, max(longest, now - last)

    ticking = threading.Thread(target=tick)
    ticking.start()
    began = time.perf_counter()
    work()
    took = time.perf_counter() - began
    stop.set()
    ticking.join()
    return longest / took


def test_others_run_while_a_large_index_is_decoded():
    """If it were decoded in one call, no other thread would run for half of the time. A busy machine may pause, too."""
    content = many(limits.MAX_PROJECTS)
    pauses: list[float] = []
    while not pauses or (pauses[-1] > 1 / 4 and len(pauses) < 5):
        pauses.append(longest_pause(lambda: decode_index(content, "index.json")))
    assert pauses[-1] <= 1 / 4, pauses


# --- a project ---------------------------------------------------------------------------------------------------


async def test_a_project_with_as_many_files_as_a_page_lists(backend, tmp_path, monkeypatch):
    monkeypatch.setattr("pywharf.index.publish.MAX_PROJECT_FILES", 2)
    follower = Follower("team-a", backend)
    await follower.refresh()

    async def upload(version: str, payload: bytes = b"") -> None:
        path = wheel(tmp_path, "foo", version, payload=payload)
        async with StagedFile(backend.staging_folder, 10**8) as staged:
            await staged.write(path.read_bytes())
            filename = parse_upload_filename(path.name)
            await publish_checked(backend, follower, filename, {}, staged, slot=contextlib.nullcontext())

    await upload("1.0")
    await upload("2.0")
    with pytest.raises(TooLargeError, match="has 2 files; at most 2 are allowed"):
        await upload("3.0")
    await upload("2.0")  # the same bytes again
    monkeypatch.setattr(updating, "MAX_PROJECT_FILES", 1)
    summary = await update(backend)
    assert summary.files == 1
    assert summary.problems[0].startswith("foo has 2 files; at most 1 are allowed. Those from 'foo-2.0-")
    assert len((await scanned(backend))[0][0].files) == 2, "nothing is removed"


async def test_doubles_that_lie_there_are_served_and_named(backend, tmp_path):
    """Older versions accepted them."""
    folder = tmp_path / "repo/storage/foo"
    await publish(backend, wheel(tmp_path, "foo"))
    content = (folder / "foo-1.0-py3-none-any.whl").read_bytes()
    for name in ("Foo-1.0-py3-none-any.whl", "foo-1.0-py3-none-any.whl"):
        (folder / name).write_bytes(content)
    summary = await update(backend)
    (problem,) = summary.problems
    names = ("Foo-1.0-py3-none-any.whl", "foo-1.0-py3-none-any.whl")
    assert problem.startswith(f"foo: {names[0]!r} and {names[1]!r} are the same distribution")
    assert summary.files == 2
    same = await backend.find_project(FOO)
    assert same is not None
    assert len(same.files) == 2
    # Uploading the same bytes again succeeds, although a double exists.
    (tmp_path / "foo-1.0-py3-none-any.whl").write_bytes(content)
    await publish(backend, tmp_path / "foo-1.0-py3-none-any.whl")


async def test_a_core_metadata_file_of_any_size_costs_no_memory(backend, tmp_path):
    file = await publish(backend, wheel(tmp_path, "foo"))
    os.truncate(tmp_path / "repo/storage/foo" / f"{file.filename}.metadata", 2**40)
    with pytest.raises(BackendUnavailableError, match="has more than 10485760 bytes"):
        await backend.read_metadata(FOO, file)


def test_an_upload_names_what_is_shown():
    upload = Upload(FOO, GOOD, None, b"", known=Project(name=FOO, files=(GOOD,)))  # type: ignore[arg-type]
    assert upload.is_shown(GOOD.sha256)
    assert not upload.is_shown("b" * 64)
