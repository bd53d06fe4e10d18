"""Which files a request changes, what is refused, and what happens if one of several files fails."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from pywharf.backends.memory import MemoryBackend
from pywharf.core.errors import (
    BackendUnavailableError,
    ChangeIncompleteError,
    InvalidInputError,
    NotFoundError,
    RateLimitedError,
    TooLargeError,
)
from pywharf.core.model import File, Project
from pywharf.core.names import ProjectName
from pywharf.index import changes
from pywharf.index.changes import (
    Changed,
    DeleteRequest,
    FreeingDeleteRequest,
    StatusRequest,
    UnyankRequest,
    YankRequest,
    actions_of,
    change,
)
from pywharf.index.follower import Follower
from pywharf.index.ports import Change, Delete, JournalEntry, SetStatus, SetYanked, Upload

FOO = ProjectName("foo")
FILES = (
    "foo-1.0-cp312-cp312-linux_x86_64.whl",
    "foo-1.0-py3-none-any.whl",
    "foo-1.0.tar.gz",
    "foo-1.0.1.tar.gz",
    "foo-2.0.tar.gz",
    "odd.zip",
)


def project_of(*names: str) -> Project:
    return Project(name=FOO).with_files(File(filename=name, sha256="0" * 64) for name in names)


RELEASE = [name for name in FILES if name.startswith("foo-1.0-") or name == "foo-1.0.tar.gz"]


@pytest.mark.parametrize("version", ["1.0", "1", "1.0.0", "v1.0"])
def test_a_version_is_all_its_files_in_any_spelling(version):
    found = actions_of(YankRequest(version=version, reason="x"), FOO, project_of(*FILES))
    assert list(found) == [SetYanked(name, "x") for name in sorted(RELEASE)]


@pytest.mark.parametrize(
    ("request_", "actions"),
    [
        (YankRequest(filename="a.whl"), [SetYanked("a.whl", "")]),
        (YankRequest(filename="a.whl", reason="true"), [SetYanked("a.whl", "")]),
        (UnyankRequest(filename="a.whl"), [SetYanked("a.whl", None)]),
        (DeleteRequest(filename="a.whl"), [Delete("a.whl")]),
        (FreeingDeleteRequest(filename="a.whl", free_name=True), [Delete("a.whl", frees_name=True)]),
        (FreeingDeleteRequest(version="2.0"), [Delete("foo-2.0.tar.gz")]),
        (StatusRequest(status="archived", reason=""), [SetStatus("archived")]),
        (StatusRequest(status="active"), [SetStatus("active")]),
        (StatusRequest(status="deprecated", reason="use bär"), [SetStatus("deprecated", "use bär")]),
    ],
)
def test_actions(request_, actions):
    assert list(actions_of(request_, FOO, project_of(*FILES))) == actions


@pytest.mark.parametrize(
    ("request_", "kind", "said"),
    [
        (YankRequest(), InvalidInputError, "Give either the filename"),
        (DeleteRequest(filename="a.whl", version="1.0"), InvalidInputError, "Give either the filename"),
        (YankRequest(filename="../a.whl"), NotFoundError, "no file"),
        (YankRequest(filename="a\n"), NotFoundError, "no file"),
        (YankRequest(filename="x" * 300), NotFoundError, "no file"),
        (UnyankRequest(version="9.9"), NotFoundError, "no file of version '9.9'"),
        (UnyankRequest(version="no version"), InvalidInputError, "must be a version"),
        (UnyankRequest(version="1" * 5000), InvalidInputError, "must be a version"),
        (YankRequest(filename="a.whl", reason="x" * 4097), InvalidInputError, "4097 characters"),
        (YankRequest(filename="a.whl", reason="a\nb"), InvalidInputError, "printable"),
        (YankRequest(filename="a.whl", reason="\x1b[2J"), InvalidInputError, "printable"),
        (YankRequest(filename="a.whl", reason="\ud800"), InvalidInputError, "printable"),
        (StatusRequest(status="gone"), InvalidInputError, "must be one of active"),
        (StatusRequest(status="active", reason="\0"), InvalidInputError, "printable"),
    ],
)
def test_what_is_refused(request_, kind, said):
    with pytest.raises(kind, match=said):
        actions_of(request_, FOO, project_of(*FILES))


def test_a_release_with_too_many_files(monkeypatch):
    monkeypatch.setattr(changes, "MAX_RELEASE_FILES", 2)
    with pytest.raises(TooLargeError, match="has 3 files; at most 2"):
        actions_of(DeleteRequest(version="1.0"), FOO, project_of(*FILES))


class Failing(MemoryBackend):
    """A storage that fails at the changes of one file, and remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__("index.json")
        self.fails: dict[str, Exception] = {}
        self.asked: list[Change] = []

    async def change(self, change: Change) -> JournalEntry:
        self.asked.append(change)
        error = self.fails.get(getattr(change.action, "filename", ""))
        if error is not None:
            raise error
        return await super().change(change)


@pytest.fixture
async def backend() -> AsyncIterator[Failing]:
    made = Failing()
    for name in FILES[:5]:
        staged = made.staging_folder / name
        staged.write_bytes(name.encode())
        await made.publish(Upload(FOO, File(filename=name, sha256="0" * 64), staged, b""))
    yield made
    await made.aclose()


@pytest.fixture
async def follower(backend: Failing) -> Follower:
    made = Follower("team-a", backend)
    await made.refresh()
    return made


def yanked(follower: Follower) -> dict[str, Any]:
    project = follower.catalog.project(FOO)
    assert project is not None
    return {f.filename: f.yanked for f in project.files if f.yanked is not None}


async def test_a_change_shows_immediately_and_is_repeatable(backend, follower):
    for _ in range(2):
        done = await change(backend, follower, FOO, YankRequest(version="1.0", reason="x"), secret="s")
        assert done == Changed(project=FOO, files=tuple(sorted(RELEASE)))
        assert yanked(follower) == dict.fromkeys(RELEASE, "x")
    assert {one.secret for one in backend.asked} == {"s"}
    assert "'s'" not in repr(backend.asked)
    assert backend.asked[0].known is not None
    done = await change(backend, follower, FOO, StatusRequest(status="archived"))
    assert msgspec.json.decode(msgspec.json.encode(done)) == {"project": "foo", "status": "archived"}
    await change(backend, follower, FOO, DeleteRequest(version="1.0"))
    assert yanked(follower) == {}
    with pytest.raises(NotFoundError, match="no file of version"):
        await change(backend, follower, FOO, DeleteRequest(version="1.0"))


@pytest.mark.parametrize(
    ("error", "retry_after_s"), [(BackendUnavailableError("It is away."), 2), (RateLimitedError("Later.", 77), 77)]
)
async def test_if_one_fails_the_error_names_those_before_and_a_repeat_completes(
    backend, follower, error, retry_after_s
):
    first, *rest = sorted(RELEASE)
    backend.fails = {rest[0]: error}
    with pytest.raises(ChangeIncompleteError, match="1 files are changed, then this failed") as raised:
        await change(backend, follower, FOO, YankRequest(version="1.0"))
    assert raised.value.changed == (first,)
    assert raised.value.retry_after_s == retry_after_s
    assert str(error) in str(raised.value)
    assert yanked(follower) == {first: ""}
    backend.fails = {first: error}
    with pytest.raises(type(error)):
        await change(backend, follower, FOO, UnyankRequest(version="1.0"))
    backend.fails = {}
    done = await change(backend, follower, FOO, YankRequest(version="1.0"))
    assert list(done.files) == sorted(RELEASE)
    assert yanked(follower) == dict.fromkeys(RELEASE, "")


async def test_a_file_of_the_release_that_is_deleted_meanwhile_is_skipped(backend, follower):
    first, *rest = sorted(RELEASE)
    backend.fails = {first: NotFoundError("gone")}
    assert (await change(backend, follower, FOO, YankRequest(version="1.0"))).files == tuple(rest)
    with pytest.raises(NotFoundError):
        await change(backend, follower, FOO, YankRequest(filename=first))


async def test_a_file_that_another_server_just_accepted_belongs_to_the_release(backend, follower):
    late = "foo-1.0-py2-none-any.whl"
    staged = backend.staging_folder / late
    staged.write_bytes(b"late")
    await backend.publish(Upload(FOO, File(filename=late, sha256="0" * 64), staged, b""))
    assert late in (await change(backend, follower, FOO, DeleteRequest(version="1.0"))).files
