"""Check uploads before they are published: form, digests and content must agree with the file's name."""

import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest

from pywharf.core.errors import (
    FileExistsInRepoError,
    ForbiddenError,
    IndexNotLoadedError,
    InvalidDistributionError,
    InvalidUploadError,
    PywharfError,
    TooLargeError,
)
from pywharf.core.filenames import parse_upload_filename
from pywharf.core.model import File, Project
from pywharf.core.names import ProjectName
from pywharf.index.codecs import encode_index
from pywharf.index.follower import Follower
from pywharf.index.ports import Backend
from pywharf.index.publish import check_form, publish
from pywharf.index.staging import StagedFile
from support.distributions.wheels import sdist, wheel
from support.storage.storages import STORAGES

FOO = ProjectName("foo")
FORM = {":action": "file_upload", "protocol_version": "1", "name": "Foo", "version": "1.0"}


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[Backend]:
    opened = STORAGES["memory"].make(tmp_path)("index.json")
    yield opened
    await opened.aclose()


async def upload(
    backend: Backend, path: Path, form: Mapping[str, str], *, name: str = "", follower: Follower | None = None
) -> tuple[File, Follower]:
    """Stage a file in pieces, check it and publish it, as the server does. `name` replaces the path's name."""
    if follower is None:
        follower = Follower("team-a", backend)
        await follower.refresh()
    content = path.read_bytes()
    async with StagedFile(backend.staging_folder, 10**8) as staged:
        for start in range(0, len(content), 1000):
            await staged.write(content[start : start + 1000])
        file = await publish(
            backend,
            follower,
            parse_upload_filename(name or path.name),
            form,
            staged,
            slot=contextlib.nullcontext(),
        )
    return file, follower


@pytest.mark.parametrize(
    ("make", "filetype", "requires_python"), [(wheel, "bdist_wheel", ">=3.8"), (sdist, "sdist", ">=3.8")]
)
async def test_a_published_file_has_everything_and_shows_immediately(
    backend, tmp_path, make, filetype, requires_python
):
    path = make(tmp_path, "foo")
    content = path.read_bytes()
    digests = {
        "md5_digest": hashlib.md5(content, usedforsecurity=False).hexdigest(),
        "sha256_digest": hashlib.sha256(content).hexdigest().upper(),
        "blake2_256_digest": hashlib.blake2b(content, digest_size=32).hexdigest(),
    }
    file, follower = await upload(backend, path, FORM | digests | {"filetype": filetype})
    assert (file.filename, file.size, file.requires_python) == (path.name, len(content), requires_python)
    assert file.sha256 == hashlib.sha256(content).hexdigest()
    assert (file.metadata_sha256 is None) is (filetype == "sdist")
    assert file.upload_time is not None
    assert file.upload_time.endswith("Z")
    assert len(file.upload_time) == len("2026-01-02T03:04:05.000006Z")
    assert follower.catalog.project(FOO) == Project(name=FOO, files=(file,))
    assert await backend.find_project(FOO) == Project(name=FOO, files=(file,))
    assert list(backend.staging_folder.iterdir()) == []


GOOD_FORMS: list[dict[str, str]] = [
    {},
    FORM,
    {"name": "FOO", "version": "v1.0.0", "filetype": "bdist_wheel", "comment": "", "unknown": "x"},
    {"md5_digest": "", "sha256_digest": "", "blake2_256_digest": ""},
]


@pytest.mark.parametrize("form", GOOD_FORMS)
async def test_a_form_may_say_less(backend, tmp_path, form):
    file, _ = await upload(backend, wheel(tmp_path, "foo"), form)
    assert file.filename == "foo-1.0-py3-none-any.whl"


BAD_FORMS = [
    ({":action": "submit"}, ":action is 'submit'; this index understands 'file_upload'."),
    ({"protocol_version": "2"}, "protocol_version is '2'; this index understands '1'."),
    ({"filetype": "sdist"}, "filetype is 'sdist'; for 'foo-1.0-py3-none-any.whl' it must be 'bdist_wheel'."),
    ({"filetype": "bdist_egg"}, "filetype is 'bdist_egg'; for"),
    ({"name": "bar"}, "name is 'bar'; the file name says 'foo'."),
    ({"name": ""}, "name is ''; the file name says 'foo'."),
    ({"version": "1.1"}, "version is '1.1'; the file name says '1.0'."),
    ({"version": "one"}, "version is 'one'; the file name says '1.0'."),
    ({"name": "x" * 10_000}, "name is 'xxxx"),
]


@pytest.mark.parametrize(("form", "reason"), BAD_FORMS, ids=[reason[:30] for _, reason in BAD_FORMS])
async def test_a_form_that_says_something_else_is_refused(backend, tmp_path, form, reason):
    path = wheel(tmp_path, "foo")
    with pytest.raises(InvalidUploadError) as raised:
        check_form(FORM | form, parse_upload_filename(path.name))
    assert str(raised.value).startswith(reason)
    assert len(str(raised.value)) < 300
    with pytest.raises(InvalidUploadError):
        await upload(backend, path, FORM | form)
    await _nothing_is_kept(backend)


@pytest.mark.parametrize("field", ["md5_digest", "sha256_digest", "blake2_256_digest"])
@pytest.mark.parametrize("value", ["0" * 64, "nonsense", "x" * 10_000])
async def test_another_digest_is_refused(backend, tmp_path, field, value):
    with pytest.raises(InvalidUploadError, match=rf"^{field} is .*, but the content that arrived has") as raised:
        await upload(backend, wheel(tmp_path, "foo"), FORM | {field: value})
    assert len(str(raised.value)) < 400
    await _nothing_is_kept(backend)


async def _nothing_is_kept(backend: Backend) -> None:
    assert await backend.find_project(FOO) is None
    assert (await backend.read_journal()).entries == ()
    assert list(backend.staging_folder.iterdir()) == []


def _text(folder: Path) -> Path:
    path = folder / "foo-1.0-py3-none-any.whl"
    path.write_text("no zip")
    return path


BAD_CONTENTS: dict[str, tuple[Callable[[Path], Path], str, str]] = {
    "text": (_text, "", "is not a readable zip archive"),
    "another project": (
        lambda folder: wheel(folder, "bar"),
        "foo-1.0-py3-none-any.whl",
        "must hold exactly one folder",
    ),
    "another version": (
        lambda folder: wheel(folder, "foo"),
        "foo-2.0-py3-none-any.whl",
        "must hold exactly one folder",
    ),
    "an sdist of another version": (lambda folder: sdist(folder, "foo"), "foo-2.0.tar.gz", "has the version '1.0'"),
    "an sdist of another project": (lambda folder: sdist(folder, "bar"), "foo-1.0.tar.gz", "names the project 'bar'"),
    "a wheel as sdist": (lambda folder: wheel(folder, "foo"), "foo-1.0.tar.gz", "is not a readable tar.gz archive"),
    "a wheel as zip sdist": (lambda folder: wheel(folder, "foo"), "foo-1.0.zip", "everything must lie in one folder"),
    "no specifier": (
        lambda folder: wheel(folder, "foo", requires_python="three"),
        "",
        "which is not a version specifier",
    ),
}


@pytest.mark.parametrize(("make", "name", "reason"), BAD_CONTENTS.values(), ids=BAD_CONTENTS)
async def test_content_that_is_not_what_its_name_says_is_refused(backend, tmp_path, make, name, reason):
    with pytest.raises(InvalidDistributionError) as raised:
        await upload(backend, make(tmp_path), {}, name=name)
    assert reason in str(raised.value)
    await _nothing_is_kept(backend)


@pytest.mark.parametrize(
    ("status", "takes"), [("active", True), ("deprecated", True), ("archived", False), ("quarantined", False)]
)
async def test_whether_a_project_takes_uploads(backend, tmp_path, status, takes):
    index = encode_index(
        "index.json", 1, [Project(name=FOO, status=status)], backend_type="memory", location=lambda _n, _f: None
    )
    await backend.write_index(index, expected=None)
    path = wheel(tmp_path, "foo")
    if takes:
        await upload(backend, path, FORM)
    else:
        with pytest.raises(ForbiddenError, match=rf"The project 'foo' is {status} and takes no uploads"):
            await upload(backend, path, FORM)
        await _nothing_is_kept(backend)


async def test_a_text_longer_than_pages_show_is_refused(backend, tmp_path):
    path = wheel(tmp_path, "foo", requires_python=">=1" + ".1" * 3_000)
    # Either limit may refuse it: that of the archive's metadata, or that of a stored record.
    with pytest.raises((TooLargeError, InvalidDistributionError), match=r"has \d+ characters; at most"):
        await upload(backend, path, FORM)
    await _nothing_is_kept(backend)


async def test_before_the_index_is_loaded_nothing_is_taken(backend, tmp_path):
    with pytest.raises(IndexNotLoadedError):
        await upload(backend, wheel(tmp_path, "foo"), FORM, follower=Follower("team-a", backend))
    await _nothing_is_kept(backend)


async def test_the_second_upload_of_a_name_is_refused_and_shows_nothing(backend, tmp_path):
    path = wheel(tmp_path, "foo")
    first, follower = await upload(backend, path, FORM)
    assert (await upload(backend, path, FORM, follower=follower))[0] == first, "the same bytes again change nothing"
    other = wheel(tmp_path, "foo", payload=b"other")
    for _ in range(2):
        with pytest.raises(FileExistsInRepoError):
            await upload(backend, other, FORM, follower=follower)
        assert follower.catalog.project(FOO) == Project(name=FOO, files=(first,))


# --- the staged file ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 1024 * 1024 - 1, 1024 * 1024, 3 * 1024 * 1024 + 1])
@pytest.mark.parametrize("piece", [700_000, 10**8])
async def test_what_is_staged_is_what_came(tmp_path, size, piece):
    content = bytes(i % 251 for i in range(1000)) * (size // 1000 + 1)
    content = content[:size]
    async with StagedFile(tmp_path, size) as staged:
        for start in range(0, size, piece):
            await staged.write(content[start : start + piece])
        assert await staged.finish() == hashlib.sha256(content).hexdigest()
        assert staged.md5() == hashlib.md5(content, usedforsecurity=False).hexdigest()
        assert staged.blake2_256() == hashlib.blake2b(content, digest_size=32).hexdigest()
        assert (staged.size, staged.path.read_bytes()) == (size, content)
    assert list(tmp_path.iterdir()) == []


async def test_one_byte_too_many(tmp_path):
    async with StagedFile(tmp_path, 10) as staged:
        await staged.write(b"x" * 10)
        with pytest.raises(TooLargeError, match="over this repo's limit of 10 bytes"):
            await staged.write(b"x")
    assert list(tmp_path.iterdir()) == []


async def test_what_a_backend_took_away_is_not_missed(tmp_path):
    async with StagedFile(tmp_path, 10) as staged:
        await staged.write(b"x")
        await staged.finish()
        staged.path.rename(tmp_path / "taken")
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


@pytest.mark.parametrize("size", [10, 2 * 1024 * 1024], ids=["small", "large"])
async def test_a_file_that_its_backend_discarded_is_left_alone(tmp_path, size):
    async with StagedFile(tmp_path, size) as staged:
        await staged.write(bytes(size))
        await staged.finish()
        assert staged.path.stat().st_size == size
        staged.discard()
        assert not staged.path.exists()
        staged.path.write_bytes(b"of another upload")
    assert staged.path.read_bytes() == b"of another upload"


async def test_no_folder_to_stage_in(tmp_path):
    with pytest.raises(PywharfError, match="cannot be stored now: No such file or directory") as raised:
        await StagedFile(tmp_path / "missing", 10).finish()
    assert str(tmp_path) not in str(raised.value)
