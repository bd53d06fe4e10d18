"""Changes of GitHub releases: of old ones, killed between their steps, with a client's token, and what they cost."""

import base64
import json

import msgspec
import pytest

from pywharf.core.errors import (
    BackendUnavailableError,
    FileExistsInRepoError,
    ForbiddenError,
    PywharfError,
    RateLimitedError,
)
from pywharf.core.model import Deletion, Project, ProjectStatus
from pywharf.core.names import ProjectName
from pywharf.core.toml_text import dumps, loads
from pywharf.index.codecs import decode_index
from pywharf.index.follower import Follower
from pywharf.index.ports import Action, Backend, Change, Delete, JournalEntry, SetStatus, SetYanked
from pywharf.index.update import Summary, update_index
from support.distributions.wheels import wheel
from support.github.faults import Fault, secondary_limit
from support.github.repository import BRANCH, TestRepository, asked
from support.storage.uploads import publish

FOO, OLD = ProjectName("foo"), ProjectName("old")
NAME, OLD_NAME = "foo-1.0-py3-none-any.whl", "old-0.0.tar.gz"
CHANGES = "index-changes.json"


async def update(backend: Backend) -> Summary:
    return await update_index(backend, backend_type="github", index_name="index.toml", progress=lambda _n, _what: None)


def release(repository: TestRepository, tag: str):
    return next(one for one in repository.kept.releases.all.values() if one.tag == tag)


def seed(repository: TestRepository, count: int) -> None:
    """Add releases that are older than any index, as a server would. All but the newest hundred are on later pages."""
    for number in range(count):
        tag = f"old-{number}.0.tar.gz"
        digest = "cd2eb0837c9b4c962c22d2ff8b5441b7b45805887f051d39bf133b583baf6860"
        body = dumps({"distrib": "old", "sha256": digest, "summary": "kept"})
        repository.kept.releases.committed_at = f"2026-01-01T00:{number // 60:02}:{number % 60:02}Z"
        made = repository.kept.releases.add({"tag_name": tag, "body": body})
        made.published_at = "2026-01-01T00:00:00Z"
        repository.kept.releases.attach(made.id, tag, b"xxx")


def changes(repository: TestRepository) -> dict[str, object]:
    content = repository.index(CHANGES)
    return {} if content is None else json.loads(content)


async def followed(follower: Follower, name: ProjectName) -> Project:
    await follower.refresh()
    project = follower.catalog.project(name)
    assert project is not None
    return project


async def test_a_change_of_an_old_release_shows_with_the_next_poll(repository, open_):
    seed(repository, 130)
    await update(open_(is_job=True))
    follower, changer = Follower("team-a", open_()), open_()
    known = await followed(follower, OLD)
    assert len(known.files) == 130
    await changer.change(Change(OLD, SetYanked(OLD_NAME, "broken"), known=known))
    yanked = (await followed(follower, OLD)).file(OLD_NAME)
    assert yanked is not None
    assert (yanked.yanked, yanked.revision) == ("broken", 1)
    assert yanked.location, "it is downloaded as before"
    assert loads(release(repository, OLD_NAME).body, "")["summary"] == "kept"
    await changer.change(Change(OLD, Delete(OLD_NAME)))
    await changer.change(Change(OLD, SetStatus("deprecated", "x")))
    project = await followed(follower, OLD)
    assert (len(project.files), project.status) == (129, "deprecated")
    assert release(repository, OLD_NAME).assets == {}
    # update_index folds the journal. The statuses and the taken names stay.
    assert (await update(open_(is_job=True))).problems == ()
    assert changes(repository) == {
        "format": 1,
        "statuses": {"old": {"status": "deprecated", "reason": "x", "revision": 1}},
        "deleted": {"old": [OLD_NAME]},
        "journal": [],
    }
    assert len((await followed(follower, OLD)).files) == 129


async def test_an_idle_poll_costs_nothing_with_changes_either(repository, open_, made):
    backend = open_()
    await publish(backend, wheel(made, "foo"))
    await backend.change(Change(FOO, SetYanked(NAME, "x")))
    await update(open_(is_job=True))
    follower = Follower("team-a", backend)
    for _ in range(2):
        await follower.refresh()
    before = len(repository.calls)
    for _ in range(5):
        await follower.refresh()
    calls = repository.calls[before:]
    assert len(calls) == 10
    assert [call for call in calls if call.costs or not call.is_conditional] == []


FAULTS = {
    "cut before the file of changes": (Fault("PUT", rf"/contents/{CHANGES}"), BackendUnavailableError),
    "cut after the file of changes": (Fault("PUT", rf"/contents/{CHANGES}", when="after"), BackendUnavailableError),
    "cut before the release": (Fault("PATCH", r"/releases/\d+"), BackendUnavailableError),
    "cut after the release": (Fault("PATCH", r"/releases/\d+", when="after"), BackendUnavailableError),
    "a limit": (secondary_limit("PATCH", r"/releases/\d+", 77), RateLimitedError),
    "an error": (Fault("PATCH", r"/releases/\d+", 422, body={"message": "body is long"}), BackendUnavailableError),
}
DELETING = FAULTS | {"cut before the asset": (Fault("DELETE", r"/releases/assets/\d+"), BackendUnavailableError)}
CASES = [
    *((SetYanked(NAME, "x"), fault, False) for fault in FAULTS),
    *((Delete(NAME), fault, number % 2 == 0) for number, fault in enumerate(DELETING)),
]


@pytest.mark.parametrize(("action", "fault", "by_scan"), CASES)
async def test_killed_between_the_steps(repository, open_, made, action, fault, by_scan):
    """A repeat completes the change, and so does a scan once the file of changes has it."""
    await publish(open_(), wheel(made, "foo"))
    kind, expected = DELETING[fault]
    repository.fail(copy_of(kind))
    with pytest.raises(expected):
        await open_().change(Change(FOO, action))
    repository.mend()
    if by_scan and fault != "cut before the file of changes":
        assert (await update(open_(is_job=True))).problems == ()
    else:
        entry = await open_().change(Change(FOO, action))
        assert entry.changed is not None
        assert entry.changed.revision == 1
        await update(open_(is_job=True))
    index = repository.index()
    assert index is not None
    project = decode_index(index, "index.toml").project(FOO)
    body = loads(release(repository, NAME).body, "")
    assert body["revision"] == "1"
    assert project is not None
    if isinstance(action, Delete):
        assert project.files == ()
        assert release(repository, NAME).assets == {}
        with pytest.raises(FileExistsInRepoError, match="was deleted"):
            await publish(open_(), made / NAME)
    else:
        assert [file.yanked for file in project.files] == ["x"]
    assert changes(repository)["journal"] == []


def copy_of(fault: Fault) -> Fault:
    """Return a copy, because a fault that happened is used up."""
    return Fault(**vars(fault))


@pytest.mark.parametrize("action", [SetYanked(NAME, "x"), Delete(NAME), SetStatus("archived")])
async def test_a_client_s_own_token_writes(repository, open_, made, action: Action):
    backend = open_()
    await publish(backend, wheel(made, "foo"))
    reading, writing = repository.token_of("read"), repository.token_of("write")
    with pytest.raises(ForbiddenError):
        await backend.change(Change(FOO, action, reading))
    assert changes(repository) == {}
    before = len(repository.calls)
    await backend.change(Change(FOO, action, writing))
    written = [call for call in repository.calls[before:] if call.verb != "GET"]
    assert written
    assert {call.token for call in written} == {writing}
    assert writing not in repr(Change(FOO, action, writing))


def put(repository: TestRepository, content: bytes) -> None:
    url = f"{repository.github.url}/repos/{repository.full_name}/contents/"
    status, listed = asked(f"{url}?ref={BRANCH}", repository.admin)
    assert status == 200, listed
    data = {"message": "by hand", "branch": BRANCH, "content": base64.b64encode(content).decode()}
    data |= next(({"sha": one["sha"]} for one in listed if one["name"] == CHANGES), {})
    status, said = asked(url + CHANGES, repository.admin, "PUT", data)
    assert status in {200, 201}, said


@pytest.mark.parametrize(
    "content", [b"", b"no json", b'{"format":9}', b'{"format":1,"journal":{}}', b"[" * 100_000, b"\xff"]
)
async def test_a_damaged_file_of_changes_is_not_ignored(repository, open_, made, content):
    backend = open_()
    await publish(backend, wheel(made, "foo"))
    put(repository, content)
    for call in (
        backend.read_journal(),
        backend.change(Change(FOO, SetStatus("archived"))),
        update(open_(is_job=True)),
    ):
        with pytest.raises(PywharfError, match=f"The file {CHANGES} in the branch '{BRANCH}' cannot be read"):
            await call


async def test_what_a_newer_version_wrote_is_kept(repository, open_, made, caplog):
    backend = open_()
    await publish(backend, wheel(made, "foo"))
    newer = {"project": "foo", "tombola": {"x": [1, "{}"]}}
    known = {"project": "foo", "deletion": {"filename": "foo-0.1.zip", "revision": 3}}
    put(repository, json.dumps({"format": 1, "journal": [newer, known], "later": 1}).encode())
    entries = (await backend.read_journal()).entries
    assert entries[-1] == JournalEntry(FOO, deletion=Deletion("foo-0.1.zip", 3))
    assert "does not know" in caplog.text
    await backend.change(Change(FOO, SetStatus("archived")))
    assert changes(repository)["journal"] == [
        newer,
        known,
        {"project": "foo", "status": {"status": "archived", "revision": 1}},
    ]


async def test_a_full_file_of_changes_is_refused_until_update_index_has_run(repository, open_, made, monkeypatch):
    monkeypatch.setattr("pywharf.backends.github.changes_file._MAX_ENTRIES", 2)
    backend = open_()
    await publish(backend, wheel(made, "foo"))
    for number in range(2):
        await backend.change(Change(FOO, SetYanked(NAME, f"{number}")))
    with pytest.raises(BackendUnavailableError, match="Run update_index"):
        await backend.change(Change(FOO, SetYanked(NAME, "3")))
    await update(open_(is_job=True))
    entry = await backend.change(Change(FOO, SetYanked(NAME, "3")))
    assert entry.file is not None
    assert entry.file.revision == 3


async def test_a_status_of_an_old_project_by_the_caller_s_word(repository, open_):
    seed(repository, 130)
    await update(open_(is_job=True))
    follower = Follower("team-a", open_())
    known = await followed(follower, OLD)
    entry = await open_().change(Change(OLD, SetStatus("archived"), known=known))
    assert entry.status == ProjectStatus("archived", None, 1)
    assert msgspec.structs.replace(await followed(follower, OLD), status="active", status_revision=0) == known
