"""Publishing: a name has one content for everyone, and a published file is complete everywhere.

The same bytes published again under the same name succeed and change nothing; other bytes are refused.
"""

import asyncio
import hashlib
import re
from collections.abc import Mapping

import pytest

from pywharf.core.errors import FileExistsInRepoError, NotFoundError
from pywharf.core.model import File, Project
from pywharf.core.names import ProjectName
from pywharf.index.ports import Backend, Upload
from pywharf.index.staging import StagedFile
from support.distributions.wheels import sdist, wheel
from support.storage.uploads import UPLOAD_TIME, bare, content, file_of, journal, publish, scanned

FOO = ProjectName("foo")


async def recorded(backend: Backend, name: ProjectName = FOO) -> dict[str, File]:
    project = await backend.find_project(name)
    return {f.filename: f for f in project.files} if project else {}


@pytest.mark.parametrize("make", [wheel, sdist])
async def test_what_was_published_is_found_by_everybody(backend, other, made, make):
    path = make(made, "foo")
    file = await publish(backend, path)
    for one in (backend, other):
        assert await recorded(one) == {path.name: file}
        assert await content(one, FOO, file) == path.read_bytes()
        assert (await journal(one))[path.name] == file
        projects, problems = await scanned(one)
        assert [(p.name, p.files) for p in projects] == [("foo", (file,))]
        assert problems == []
        if file.metadata_sha256 is not None:
            raw = await one.read_metadata(FOO, file)
            assert raw == file_of(path)[2]
            assert hashlib.sha256(raw).hexdigest() == file.metadata_sha256


async def test_files_of_one_project_lie_side_by_side(backend, made):
    paths = [wheel(made, "foo", "1.0"), wheel(made, "foo", "2.0"), sdist(made, "foo", "1.0"), wheel(made, "bar", "1.0")]
    files = [await publish(backend, path) for path in paths]
    assert await recorded(backend) == {f.filename: f for f in files[:3]}
    assert await recorded(backend, ProjectName("bar")) == {files[3].filename: files[3]}
    found = await backend.find_project(FOO)
    assert found is not None
    assert [f.filename for f in found.files] == sorted(f.filename for f in files[:3])
    for path, file in zip(paths, files, strict=True):
        assert await content(backend, ProjectName(file.filename[:3]), file) == path.read_bytes()


async def test_a_name_that_is_taken_stays_what_it_was(backend, other, made, tmp_path):
    path = wheel(made, "foo", payload=b"first")
    first = await publish(backend, path)
    before = (await recorded(backend), await journal(backend), await backend.read_metadata(FOO, first))
    again = wheel(tmp_path, "foo", payload=b"second, and longer", requires_python=">=3.12")
    for one, attempt in ((backend, again), (other, again), (backend, again)):
        with pytest.raises(FileExistsInRepoError, match=rf"^File already exists: {path.name}"):
            await publish(one, attempt)
        assert (await recorded(other), await journal(other), await other.read_metadata(FOO, first)) == before
        assert await content(other, FOO, first) == path.read_bytes()
    assert list(backend.staging_folder.iterdir()) == []


async def test_of_a_hundred_uploads_of_one_name_one_wins(backend, other, made):
    paths = []
    for i in range(100):
        folder = made / str(i)
        folder.mkdir()
        paths.append(wheel(folder, "foo", payload=b"%d" % i * (i + 1), requires_python=f">=3.{i}"))
    uploads = (publish((backend, other)[i % 2], path) for i, path in enumerate(paths))
    results = await asyncio.gather(*uploads, return_exceptions=True)
    won = [i for i, result in enumerate(results) if isinstance(result, File)]
    assert len(won) == 1, [repr(r) for r in results if not isinstance(r, FileExistsInRepoError)]
    assert sum(isinstance(r, FileExistsInRepoError) for r in results) == 99, {type(r) for r in results}
    (winner,) = (result for result in results if isinstance(result, File))
    metadata = file_of(paths[won[0]])[2]
    for one in (backend, other):
        assert await recorded(one) == {winner.filename: winner}
        assert await content(one, FOO, winner) == paths[won[0]].read_bytes()
        assert await one.read_metadata(FOO, winner) == metadata, "content of one upload, metadata of another"
        assert await journal(one) == {winner.filename: winner}
    assert list(backend.staging_folder.iterdir()) == []


SPELLINGS = [
    # A wheel or an sdist, and other spellings of its name.
    (
        "foo_bar-1.0-py3-none-any.whl",
        "Foo_Bar-1.0-py3-none-any.whl",
        "FOO.BAR-1.0-py3-none-any.whl",
        "foo_bar-1.0.0-py3-none-any.whl",
        "foo_bar-1-py3-none-any.whl",
        "foo_bar-v1.0-py3-none-any.whl",
        "foo_bar-1.0-PY3-none-any.whl",
        "foo_bar-1.0-py3.py3-none-any.whl",
    ),
    ("foo_bar-2.0-1-py3-none-any.whl", "foo_bar-2.0-01-py3-none-any.whl", "foo_bar-2-001-py3-None-any.whl"),
    ("foo_bar-3.0-py2.py3-none-any.whl", "foo_bar-3.0-py3.py2-none-any.whl"),
    ("foo_bar-4.0+a.1-py3-none-any.whl", "foo_bar-4.0.0+A_01-py3-none-any.whl"),
    ("foo_bar-1.0.tar.gz", "foo_bar-1.0.zip", "Foo.Bar-1.0.0.tar.gz", "foo-bar-1.zip"),
]
FOO_BAR = ProjectName("foo-bar")


def upload_of(backend: Backend, filename: str, content: bytes, known: Project | None = None) -> Upload:
    """Prepare an upload with that name and content, which the backend does not parse."""
    staged = backend.staging_folder / f"{filename}.{hashlib.sha256(content).hexdigest()[:8]}"
    staged.write_bytes(content)
    file = File(
        filename=filename, sha256=hashlib.sha256(content).hexdigest(), size=len(content), upload_time=UPLOAD_TIME
    )
    return Upload(FOO_BAR, file, staged, b"", known=known)


@pytest.mark.parametrize("names", SPELLINGS, ids=[names[0] for names in SPELLINGS])
async def test_another_spelling_is_the_same_distribution(backend, other, names):
    await backend.read_journal()
    await other.read_journal()
    first = await backend.publish(upload_of(backend, names[0], b"first"))
    before = (bare_all(await recorded(backend, FOO_BAR)), bare_all(await journal(backend)))
    for number, name in enumerate(names[1:]):
        for content_ in (b"first", b"%d" % number):
            said = rf"^File already exists: {re.escape(name)} is the same distribution as {re.escape(names[0])}\."
            with pytest.raises(FileExistsInRepoError, match=said):
                await (backend, other)[number % 2].publish(upload_of(backend, name, content_))
    assert (bare_all(await recorded(other, FOO_BAR)), bare_all(await journal(other))) == before
    assert bare(await other.publish(upload_of(other, names[0], b"first"))) == bare(first)


def bare_all(files: Mapping[str, File]) -> dict[str, File]:
    return {name: bare(file) for name, file in files.items()}


OTHERS = [
    "foo_bar-1.0-py3-none-any.whl",
    "foo_bar-1.0.1-py3-none-any.whl",
    "foo_bar-1.0-1-py3-none-any.whl",
    "foo_bar-1.0-2-py3-none-any.whl",
    "foo_bar-1.0-py2-none-any.whl",
    "foo_bar-1.0-py2.py3-none-any.whl",
    "foo_bar-1.0-py3-none-win32.whl",
    "foo_bar-1.0+local-py3-none-any.whl",
    "foo_bar-1!1.0-py3-none-any.whl",
    "foo_bar-1.0.post1-py3-none-any.whl",
    "foo_bar-1.0.tar.gz",
    "foo_bar-1.0.1.zip",
]


async def test_other_builds_tags_and_versions_are_others(backend, other):
    await backend.read_journal()
    await other.read_journal()
    for number, name in enumerate(OTHERS):
        await (backend, other)[number % 2].publish(upload_of(backend, name, b"%d" % number))
    assert sorted(await recorded(backend, FOO_BAR)) == sorted(OTHERS)


@pytest.mark.parametrize("names", SPELLINGS[:1], ids=["spellings"])
async def test_of_concurrent_uploads_in_many_spellings_one_wins(backend, other, names):
    await backend.read_journal()
    await other.read_journal()
    uploads = [upload_of(backend, name, b"%d" % n) for n, name in enumerate(names)]
    results = await asyncio.gather(
        *((backend, other)[n % 2].publish(one) for n, one in enumerate(uploads)), return_exceptions=True
    )
    won = [one.filename for one in results if isinstance(one, File)]
    assert len(won) == 1, results
    assert all(isinstance(one, File | FileExistsInRepoError) for one in results), results
    for one in (backend, other):
        assert list(await recorded(one, FOO_BAR)) == won
        assert list(await journal(one)) == won


async def test_the_same_bytes_again_change_nothing(backend, other, made):
    path = wheel(made, "foo")
    file = await publish(backend, path)
    for one in (backend, other, backend):
        assert await publish(one, path) == file
        assert await journal(one) == {path.name: file}
        assert len((await one.read_journal()).entries) == 1
        assert await content(one, FOO, file) == path.read_bytes()


async def test_concurrent_uploads_of_the_same_bytes_all_succeed(backend, other, made):
    path = wheel(made, "foo")
    files = await asyncio.gather(*(publish((backend, other)[n % 2], path) for n in range(12)))
    assert {bare(file) for file in files} == {bare(files[0])}
    assert [e.file.filename for e in (await other.read_journal()).entries] == [path.name]
    assert list(backend.staging_folder.iterdir()) == []


async def test_concurrent_uploads_of_many_names_all_win(backend, other, made):
    paths = [wheel(made, name, f"{i}.0") for i in range(10) for name in ("foo", "bar", "baz")]
    files = await asyncio.gather(*(publish((backend, other)[i % 2], path) for i, path in enumerate(paths)))
    expected = {f.filename: f for f in files}
    assert await journal(other) == expected
    projects, problems = await scanned(other)
    assert {f.filename: f for p in projects for f in p.files} == expected
    assert problems == []


@pytest.mark.parametrize(
    ("first", "last"), [(0, 0), (0, 99), (100, 199), (5, 70_000), (199_999, 199_999), (0, 199_999)]
)
async def test_ranges(backend, made, first, last):
    path = wheel(made, "foo", payload=bytes(i % 251 for i in range(200_000)))
    file = await publish(backend, path)
    assert await content(backend, FOO, file, first, last) == path.read_bytes()[first : last + 1]


async def test_what_is_not_there(backend, made):
    assert await backend.find_project(FOO) is None
    missing = file_of(wheel(made, "foo"))[1]
    for other_files in ([wheel(made, "foo", "2.0")], []):
        with pytest.raises(NotFoundError):
            await content(backend, FOO, missing)
        with pytest.raises(NotFoundError):
            await backend.read_metadata(FOO, missing)
        for path in other_files:
            await publish(backend, path)
    assert await backend.find_project(ProjectName("bar")) is None
    assert await scanned(backend) == ([await backend.find_project(FOO)], [])


@pytest.mark.parametrize("filename", ["../../secret", "..", ".owner", "a/b", "foo-1.0.zip/x"])
async def test_no_name_leads_out_of_the_storage(backend, made, filename):
    file = await publish(backend, wheel(made, "foo"))
    hostile = File(filename=filename, sha256=file.sha256)
    with pytest.raises(NotFoundError):
        await content(backend, FOO, hostile)
    with pytest.raises(NotFoundError):
        await backend.read_metadata(FOO, hostile)


async def test_an_upload_that_is_given_up_leaves_nothing(backend):
    async def give_up() -> None:
        async with StagedFile(backend.staging_folder, 10**7) as staged:
            await staged.write(bytes(3 * 10**6))
            assert staged.path.stat().st_size > 0
            raise RuntimeError

    await backend.read_journal()
    with pytest.raises(RuntimeError):
        await give_up()
    assert list(backend.staging_folder.iterdir()) == []
    assert await backend.find_project(FOO) is None


async def test_a_scan_reports_its_progress(backend, made):
    for name in ("a", "b", "c"):
        await publish(backend, wheel(made, name))
        await publish(backend, wheel(made, name, "2.0"))
    reported: list[tuple[int, str]] = []
    names = [s.project.name async for s in backend.scan(lambda n, what: reported.append((n, what))) if s.project]
    assert names == ["a", "b", "c"]
    assert [one for one in reported if one[1] in names] == [(0, "a"), (2, "b"), (4, "c")]


async def test_a_scan_during_uploads_has_all_that_were_done_before(backend, other, made):
    before = [await publish(backend, wheel(made, "foo", f"{i}.0")) for i in range(5)]
    more = [wheel(made, "foo", f"{i}.0") for i in range(5, 25)]

    async def upload() -> None:
        for path in more:
            await publish(other, path)

    uploading = asyncio.create_task(upload())
    while not uploading.done():
        projects, problems = await scanned(backend)
        names = {f.filename: f for p in projects for f in p.files}
        assert all(names.get(f.filename) == f for f in before)
        assert problems == []
        await asyncio.sleep(0)
    await uploading
    projects, _ = await scanned(backend)
    assert len(projects[0].files) == 25


async def test_polling_is_cheap_enough_for_the_promise(backend):
    """The promise: an upload shows on other servers within two seconds."""
    assert 0 < backend.poll_interval_s <= 1
