"""The GitHub backend and GitHub's behaviour: limits, broken connections, wrong responses, any number of releases."""

import asyncio
import contextlib
import dataclasses
import hashlib
import itertools
import re
import time
from typing import cast

import msgspec
import pytest

from pywharf.backends.github.listing import Listing
from pywharf.backends.github.refusals import limited
from pywharf.core.access.permission import Permission
from pywharf.core.errors import (
    BackendUnavailableError,
    FileExistsInRepoError,
    ForbiddenError,
    IndexConflictError,
    InvalidConfigError,
    NotFoundError,
    RateLimitedError,
    UnauthenticatedError,
)
from pywharf.core.names import ProjectName
from pywharf.core.toml_text import dumps
from pywharf.index.codecs import decode_index
from pywharf.index.follower import Follower
from pywharf.index.ports import RateLimit, RateLimited, RedirectContent, StreamContent, Upload
from pywharf.index.update import update_index
from support.distributions.wheels import wheel
from support.github.faults import PRIMARY, Fault, secondary_limit
from support.github.repository import OWNER
from support.storage.uploads import content, file_of, journal, publish, scanned

FOO = ProjectName("foo")
WHEEL = "foo-1.0-py3-none-any.whl"
ASSETS = r"/releases/\d+/assets"
ONE = r"/releases/\d+"
ASSET = r"/releases/assets/\d+"


@pytest.fixture
def backend(open_):
    return open_()


async def update(backend, name="index.toml"):
    return await update_index(backend, backend_type="github", index_name=name, progress=lambda _n, _what: None)


async def published_with(backend, path, secret):
    project, file, metadata = file_of(path)
    staged = backend.staging_folder / "staged"
    staged.write_bytes(path.read_bytes())
    await backend.publish(Upload(project, file, staged, metadata, secret))


# A fault during a publish: the error that the client gets, and whether others then see the file.
FAULTS = {
    "a secondary limit at the draft": (secondary_limit("POST", "/releases", 77, 9), RateLimitedError, False),
    "a secondary limit in the middle": (secondary_limit("POST", ASSETS, 77, 9), RateLimitedError, False),
    "the limit of content in an hour": (
        Fault("POST", "/releases", 403, {"Retry-After": "1800"}, {"message": "was submitted too quickly"}, 9),
        RateLimitedError,
        False,
    ),
    "the primary limit": (
        Fault("POST", ASSETS, 403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "99999999999"}, PRIMARY, 9),
        RateLimitedError,
        False,
    ),
    "cut before the draft": (Fault("POST", "/releases"), BackendUnavailableError, False),
    "cut after the draft": (Fault("POST", "/releases", when="after"), BackendUnavailableError, False),
    "cut before the asset": (Fault("POST", ASSETS), BackendUnavailableError, False),
    "cut after the asset": (Fault("POST", ASSETS, when="after"), BackendUnavailableError, False),
    "502 on publish, not done": (Fault("PATCH", ONE, 502), BackendUnavailableError, False),
    "502 on publish, but done": (Fault("PATCH", ONE, 502, when="after"), None, True),
    "cut on publish, not done": (Fault("PATCH", ONE), BackendUnavailableError, False),
    "cut on publish, but done": (Fault("PATCH", ONE, when="after"), None, True),
    "the asset's size is another": (
        Fault("POST", ASSETS, 201, body={"size": 1}, when="after"),  # type: ignore[dict-item]
        BackendUnavailableError,
        False,
    ),
    "500 at first, then not": (Fault("GET", r"/releases/tags/.*", 500, times=2), None, True),
    "late": (Fault("POST", ASSETS, delay_s=1.5, is_only_late=True), None, True),
    "a short limit": (secondary_limit("POST", ASSETS, 1), None, True),
}


@pytest.mark.parametrize("what", FAULTS)
async def test_a_fault_while_publishing_leaves_no_half_of_a_release(what, repository, backend, made, open_):
    given, error, is_visible = FAULTS[what]
    fault = repository.fail(msgspec_copy(given))
    path = wheel(made, "foo")
    if error is None:
        await publish(backend, path)
    else:
        with pytest.raises(error) as raised:
            await published_with(backend, path, None)
        if isinstance(raised.value, RateLimitedError):
            assert raised.value.retry_after_s > 10
            assert f"{raised.value.retry_after_s} seconds" in str(raised.value)
    assert fault.times < given.times, "the fault did not happen"
    assert repository.visible() == ([WHEEL] if is_visible else [])
    repository.mend()
    other = open_()
    if is_visible:
        assert await content(other, FOO, (await journal(other))[WHEEL]) == path.read_bytes()
    else:
        await publish(other, path)  # leftovers block nobody
    assert repository.visible() == [WHEEL]


def msgspec_copy(fault):
    return Fault(**vars(fault))


async def test_what_a_fault_left_is_removed_once_no_upload_can_be_running(repository, backend, made):
    repository.fail(Fault("DELETE", ONE, 500, times=9))
    repository.fail(Fault("POST", ASSETS))
    with pytest.raises(BackendUnavailableError):
        await published_with(backend, wheel(made, "foo"), None)
    repository.mend()
    assert repository.drafts() == [WHEEL]
    await update(backend)
    assert repository.drafts() == [WHEEL], "an upload may still be running"
    (draft,) = repository.kept.releases.all.values()
    draft.body = re.sub(r'(?<=upload_time = ")\d{4}', "2020", draft.body)
    repository.kept.releases.add({"tag_name": "v2", "draft": True, "body": "What is new: something"})
    await update(backend)
    assert repository.drafts() == ["v2"], "a draft that somebody writes is nobody else's"


async def test_what_somebody_withdraws_is_kept(repository, backend, made):
    """A release that was once published has a tag. A draft that was never published has none."""
    await published_with(backend, wheel(made, "foo"), None)
    (release,) = repository.kept.releases.all.values()
    release.draft, release.body = True, release.body.replace("2126-", "2026-")
    tag = Fault("GET", f"/git/ref/tags/{WHEEL}", 200, {}, {"ref": f"refs/tags/{WHEEL}"})
    repository.fail(tag)
    await update(backend)
    assert tag.times == 0
    assert repository.drafts() == [WHEEL]


async def test_two_concurrent_uploads_of_one_name(repository, open_, made):
    """GitHub assigns a tag only once. Uploads with other bytes are refused, and all their drafts are deleted."""
    paths = [wheel(folder(made, n), "foo", payload=b"%d" % n) for n in range(5)]
    results = await asyncio.gather(*(published_with(open_(), path, None) for path in paths), return_exceptions=True)
    assert sorted(str(type(one).__name__) for one in results) == ["FileExistsInRepoError"] * 4 + ["NoneType"]
    assert (repository.visible(), repository.drafts()) == ([WHEEL], [])


def folder(within, name):
    made = within / str(name)
    made.mkdir()
    return made


def respelled(within):
    path = wheel(within, "foo")
    return path.rename(path.with_name(path.name.replace("foo", "Foo")))


async def test_a_spelling_published_in_the_same_moment_is_withdrawn(repository, open_, made):
    """All are published before any of them checks for the others. Neither index nor list showed them earlier."""
    paths = [respelled(made), wheel(made, "foo", "1.0.0"), wheel(made, "foo")]
    results = await asyncio.gather(*(published_with(open_(), path, None) for path in paths), return_exceptions=True)
    failures = [type(one).__name__ for one in results if one is not None]
    assert failures == ["FileExistsInRepoError"] * 2, results
    won = paths[results.index(None)].name
    assert (repository.visible(), repository.drafts()) == ([won], [])


async def test_a_spelling_that_came_a_second_later_is_withdrawn(repository, open_, made):
    first, second = open_(), open_()
    await second.read_journal()
    await publish(first, wheel(made, "foo"))
    (kept,) = repository.kept.releases.all.values()
    kept.published_at = "2026-01-01T00:00:00Z"
    with pytest.raises(FileExistsInRepoError, match=f"^File already exists: Foo-.* same distribution as {WHEEL}"):
        await published_with(second, respelled(made), None)
    assert (repository.visible(), repository.drafts()) == ([WHEEL], [])


async def test_a_double_that_somebody_deleted_is_in_nobodys_way(repository, open_, made):
    backend = open_()
    await publish(backend, wheel(made, "foo"))
    assert FOO in {entry.project for entry in (await backend.read_journal()).entries}
    repository.kept.releases.all.clear()
    await published_with(backend, respelled(made), None)
    assert repository.visible() == ["Foo-1.0-py3-none-any.whl"]


KILLED_AT = {
    "after the draft": Fault("POST", "/releases", when="after", times=9),
    "before the asset": Fault("POST", ASSETS, times=9),
    "after the asset": Fault("POST", ASSETS, when="after", times=9),
    "before it is published": Fault("PATCH", ONE, times=9),
    "after it is published": Fault("PATCH", ONE, when="after", times=9),
}


@pytest.mark.parametrize("step", KILLED_AT)
async def test_a_server_killed_at_a_step_of_an_upload(repository, open_, made, step):
    """The dead server cleans up nothing. A retry at another server succeeds, and one release remains."""
    path = wheel(made, "foo")
    repository.fail(msgspec_copy(KILLED_AT[step]))
    for verb, what in (("GET", ONE), ("DELETE", ONE)):
        repository.fail(Fault(verb, what, times=9))
    with pytest.raises(BackendUnavailableError):
        await published_with(open_(), path, None)
    repository.mend()
    other = open_()
    for _ in range(2):
        await publish(other, path)
        assert repository.visible() == [WHEEL]
    assert await content(other, FOO, (await journal(other))[WHEEL]) == path.read_bytes()
    with pytest.raises(FileExistsInRepoError):
        await published_with(other, wheel(folder(made, "other"), "foo", payload=b"other"), None)


def break_off(release):
    for asset in release.assets.values():
        asset.state = "starter"


LEFT = {
    "no asset": lambda release: release.assets.clear(),
    "an asset that broke off": break_off,
    "no text": lambda release: setattr(release, "body", ""),
    "the text of another file": lambda release: setattr(release, "body", release.body.replace("sha256", "sha255")),
}


@pytest.mark.parametrize("what", LEFT)
async def test_a_published_release_that_lacks_something_is_completed(repository, open_, made, what):
    """The original pywharf left such releases, because it published a release before its asset."""
    path = wheel(made, "foo")
    await publish(open_(), path)
    (release,) = repository.kept.releases.all.values()
    LEFT[what](release)
    backend = open_()
    assert (await scanned(backend))[0] == []
    file = await publish(backend, path)
    projects, problems = await scanned(open_())
    assert ([p.files for p in projects], problems) == ([(file,)], [])
    assert hashlib.sha256(await backend.read_metadata(FOO, file)).hexdigest() == file.metadata_sha256
    assert await content(backend, FOO, file) == path.read_bytes()


async def test_an_asset_that_was_replaced_by_hand_is_left_out_and_named(repository, open_, made):
    path = wheel(made, "foo")
    await publish(open_(), path)
    (release,) = repository.kept.releases.all.values()
    asset = next(a for a in release.assets.values() if a.name == WHEEL)
    asset.content = bytes(len(asset.content))
    projects, (problem,) = await scanned(open_())
    assert projects == []
    assert "another file was put in its place" in problem


async def test_an_upload_makes_at_most_six_calls(repository, backend, made):
    await backend.read_journal()
    before = len(repository.calls)
    await published_with(backend, wheel(made, "foo"), None)
    made_calls = repository.calls[before:]
    assert len(made_calls) <= 6, made_calls


@pytest.mark.parametrize(
    ("level", "permission"),
    [("admin", Permission.WRITE), ("write", Permission.WRITE), ("read", Permission.READ), ("none", Permission.NONE)],
)
async def test_a_client_s_token_may_do_what_github_says(repository, backend, level, permission):
    assert await backend.permission_of(repository.token_of(level)) is permission


@pytest.mark.parametrize("level", ["write", "read"])
async def test_a_token_that_may_not_read_contents_reads_nothing(repository, backend, level):
    """Even where GitHub reports that the token's owner may read."""
    token = repository.token_of(level)
    repository.blind(token)
    assert await backend.permission_of(token) is Permission.NONE


async def test_a_token_that_is_unknown_revoked_or_none(repository, backend):
    token = repository.token_of("write")
    assert await backend.permission_of(token) is Permission.WRITE
    repository.revoke(token)
    assert await backend.permission_of(token) is Permission.NONE
    for other in ("ghp_unknown", "not a token", "x/../y"):
        assert await backend.permission_of(other) is Permission.NONE


@pytest.mark.parametrize(
    "fault", [Fault("GET", "", 502, times=9), Fault("GET", "", times=9), secondary_limit("GET", "", 60, 9)]
)
async def test_where_github_is_down_nobody_is_let_in_by_it(repository, backend, fault):
    token = repository.token_of("write")
    repository.fail(msgspec_copy(fault))
    with pytest.raises(BackendUnavailableError):
        await backend.permission_of(token)


async def test_a_client_publishes_with_its_own_token(repository, open_, made):
    """The server's token therefore needs no write access. GitHub refuses what the client may not do."""
    backend = open_(repository.token_of("read"))
    with pytest.raises(BackendUnavailableError, match="server's token"):
        await published_with(backend, wheel(made, "foo"), None)
    for level, error in (("read", ForbiddenError), ("none", ForbiddenError)):
        with pytest.raises(error):
            await published_with(backend, wheel(made, "foo"), repository.token_of(level))
    with pytest.raises(UnauthenticatedError):
        await published_with(backend, wheel(made, "foo"), "ghp_unknown")
    assert repository.visible() == []
    token = repository.token_of("write")
    await published_with(backend, wheel(made, "foo"), token)
    posts = {call.token for call in repository.calls if call.verb == "POST" and call.status == 201}
    assert posts == {token}


async def test_the_server_s_token_is_revoked(repository, open_, made):
    """Known files are still served. The log and the metric say why no new ones appear."""
    token = repository.token_of("write")
    backend = open_(token)
    await publish(backend, wheel(made, "foo"))
    follower = Follower("team-a", backend)
    await follower.refresh()
    repository.revoke(token)
    with pytest.raises(BackendUnavailableError, match="wrong, expired or revoked"):
        await follower.refresh()
    assert follower.catalog.project(FOO) is not None


@pytest.mark.parametrize(
    ("fields", "said"), [({"repo": "other"}, "shows no repository acme/other"), ({"owner": "nobody"}, "no repository")]
)
async def test_a_repository_that_is_not_there(open_, fields, said):
    with pytest.raises(BackendUnavailableError, match=said):
        await open_(**fields).read_journal()


@pytest.mark.parametrize(
    ("status", "message"),
    [(409, "Repository rule violations found\n\nChanges must be made through a pull request."), (422, "Rule.")],
)
async def test_a_branch_that_is_protected(repository, backend, status, message):
    """GitHub answers as for a concurrent writer, but the index is as it was read, so a retry does not help."""
    version = await backend.write_index(b"one", expected=None)
    repository.fail(Fault("PUT", "/contents/index[.].*", status, {}, {"message": message}))
    with pytest.raises(BackendUnavailableError, match="Where a rule protects the branch"):
        await backend.write_index(b"two", expected=version)
    for race in ("is at 1a2b but expected 3c4d", "index.json does not match 1a2b"):
        repository.fail(Fault("PUT", "/contents/index[.].*", 409, {}, {"message": race}))
        with pytest.raises(IndexConflictError):
            await backend.write_index(b"two", expected=version)
    assert await backend.write_index(b"two", expected=version)


async def test_a_repository_that_was_renamed(repository, backend, made):
    """GitHub's redirects are not followed, because PyGithub would drop the query and with it page and branch."""
    moved = {"Location": f"{repository.github.api.url}/repositories/1/releases?per_page=100&page=1"}
    for read in (backend.read_journal, backend.read_index, lambda: scanned(backend)):
        repository.fail(Fault("GET", "/(releases|contents/).*", 301, moved, {}, times=3))
        with pytest.raises(BackendUnavailableError, match="has another name now"):
            await read()
        repository.mend()
    repository.fail(Fault("POST", "/releases", 307, moved, {}))
    with pytest.raises(BackendUnavailableError, match="has another name now"):
        await publish(backend, wheel(made, "foo"))
    assert repository.visible() == []


async def test_redirects_lead_to_a_signed_address_for_less_than_its_life(repository, backend, made, monkeypatch):
    file = await publish(backend, wheel(made, "foo"))
    first = await backend.open_file(FOO, file)
    assert isinstance(first, RedirectContent)
    assert "/signed/" in first.url
    assert "ghp_" not in first.url
    assert await backend.open_file(FOO, file) == first
    assert signed(repository) == 1
    later = time.monotonic() + 241  # the last 60 of its 300 seconds are left to the client
    monkeypatch.setattr("pywharf.backends.github.assets.time.monotonic", lambda: later)
    await backend.open_file(FOO, file)
    assert signed(repository) == 2
    repository.github.api.signed_s = 30  # too short to be cached
    later += 300
    for _ in range(2):
        await backend.open_file(FOO, file)
    assert signed(repository) == 4


def signed(repository):
    return sum(call.path.endswith("/releases/assets/N") for call in repository.calls)


async def test_streams_go_on_when_an_address_has_expired(repository, open_, made):
    backend = open_(download="stream")
    path = wheel(made, "foo", payload=bytes(i % 251 for i in range(900_000)))
    file = await publish(backend, path)
    for first, last in ((0, path.stat().st_size - 1), (7, 7), (100, 700_000)):
        assert await content(backend, FOO, file, first, last) == path.read_bytes()[first : last + 1]
    found = await backend.open_file(FOO, file)
    assert isinstance(found, StreamContent)
    kept = backend._assets._kept  # noqa: SLF001 - its clock is GitHub's
    number, location = next(iter(kept.items()))
    kept[number] = msgspec.structs.replace(location, url=location.url.replace("se=2", "se=1"))
    assert await content(backend, FOO, file) == path.read_bytes()


@pytest.mark.parametrize("gives", ["in ranges", "whole"])
@pytest.mark.parametrize("download", ["redirect", "stream"])
async def test_files_that_github_gives_itself_pass_through(repository, open_, made, download, gives):
    """GitHub documents that it answers with 200 or 302. A request that follows the redirect carries no token."""
    backend = open_(download=download)
    path = wheel(made, "foo", payload=bytes(i % 251 for i in range(900_000)))
    file = await publish(backend, path)
    repository.kept.gives_files = gives
    found = await backend.open_file(FOO, file)
    assert isinstance(found, StreamContent)
    assert found.size == path.stat().st_size
    for first, last in ((0, path.stat().st_size - 1), (7, 7), (500_000, 700_000)):
        assert await content(backend, FOO, file, first, last) == path.read_bytes()[first : last + 1]
    assert b"Name: foo" in await open_().read_metadata(FOO, file)
    repository.kept.gives_files = "elsewhere"  # changes between two calls
    assert await content(backend, FOO, file, 3, 9) == path.read_bytes()[3:10]
    assert all(call.token == "" for call in repository.calls if call.path.startswith("/signed/"))


# GitHub's response to the request for a file's address, and what the client then receives.
ASKED = {
    "a secondary limit": (Fault("GET", ASSET, 403, {"Retry-After": "77"}, {}), RateLimitedError, "77 seconds"),
    "a renamed repository": (
        Fault("GET", ASSET, 301, {"Location": "/x"}, {}, times=3),
        BackendUnavailableError,
        "another name",
    ),
    "no leave": (Fault("GET", ASSET, 403, {}, {"message": "not yours"}, times=3), BackendUnavailableError, "not yours"),
    "an odd answer": (Fault("GET", ASSET, 422, {}, {}), BackendUnavailableError, "status 422"),
    "gone": (Fault("GET", ASSET, 404, {}, {}), NotFoundError, "no longer in the storage"),
    "errors": (Fault("GET", ASSET, 502, {}, {}, times=3), BackendUnavailableError, "502"),
    "an error": (Fault("GET", ASSET, 502, {}, {}), None, ""),
    # The HTTP client itself repeats a request whose connection turns out to be closed.
    "cut": (Fault("GET", ASSET, times=6), BackendUnavailableError, "broke off"),
    "cut once": (Fault("GET", ASSET), None, ""),
}


@pytest.mark.parametrize("case", ASKED)
async def test_what_github_says_when_asked_where_a_file_is(repository, backend, made, case):
    fault, error, says = ASKED[case]
    file = await publish(backend, wheel(made, "foo"))
    repository.fail(dataclasses.replace(fault))
    if error is None:
        assert isinstance(await backend.open_file(FOO, file), RedirectContent)
        return
    with pytest.raises(error, match=says):
        await backend.open_file(FOO, file)
    if error is RateLimitedError:  # until then nothing else is requested
        before = len(repository.calls)
        with pytest.raises(RateLimitedError):
            await backend.find_project(FOO)
        assert len(repository.calls) == before


async def test_an_index_leads_nowhere_but_to_this_repository_s_assets(repository, backend, made):
    file = await publish(backend, wheel(made, "foo"))
    for location in ("http://127.0.0.1:9/x", "file:///etc/passwd", f"{repository.github.url}/repos/a/b/releases"):
        with pytest.raises(NotFoundError):
            await backend.open_file(FOO, msgspec.structs.replace(file, location=location))
    number = str(file.location).rpartition("/")[2]
    elsewhere = msgspec.structs.replace(file, location=f"http://127.0.0.1:9/releases/assets/{number}")
    found = await backend.open_file(FOO, elsewhere)
    assert found.url.startswith(f"{repository.github.url}/signed/{OWNER}/{repository.name}/")


async def test_a_file_that_is_gone(repository, backend, made):
    file = await publish(backend, wheel(made, "foo"))
    repository.kept.releases.all.clear()
    with pytest.raises(NotFoundError):
        await backend.open_file(FOO, file)
    with pytest.raises(NotFoundError):
        await backend.read_metadata(FOO, file)


async def test_metadata_costs_two_calls_once_and_no_wheel(repository, backend, made):
    path = wheel(made, "foo")
    file = await publish(backend, path)
    before = len(repository.github.api.calls)
    for _ in range(3):
        raw = await backend.read_metadata(FOO, file)
        assert hashlib.sha256(raw).hexdigest() == file.metadata_sha256
    calls = repository.github.api.calls[before:]
    assert [call.path.rpartition("/")[2] for call in calls] == ["TAG", "N", "ASSET"]
    (release,) = repository.kept.releases.all.values()
    for asset in release.assets.values():
        asset.content = b"another's" if asset.name.endswith(".metadata") else asset.content
    with pytest.raises(BackendUnavailableError, match="not what the index says"):
        await (type(backend)).read_metadata(backend, FOO, msgspec.structs.replace(file, metadata_sha256="0" * 64))


async def test_an_idle_server_costs_nothing(repository, open_, made):
    """Ten polls, as in ten minutes: each request is conditional and answered by 304."""
    backend = open_()
    await publish(backend, wheel(made, "foo"))
    await update(open_(is_job=True))
    follower = Follower("team-a", backend)
    for _ in range(2):
        await follower.refresh()
    before = len(repository.calls)
    for _ in range(10):
        await follower.refresh()
    calls = repository.calls[before:]
    assert len(calls) == 20
    assert [call for call in calls if call.costs or not call.is_conditional] == []


async def test_an_upload_shows_elsewhere_with_the_next_poll_before_any_update(repository, open_, made):
    follower = Follower("team-a", open_())
    await follower.refresh()
    await publish(open_(), wheel(made, "foo"))
    await follower.refresh()
    assert follower.catalog.project(FOO) is not None
    repository.kept.releases.all.clear()
    await follower.refresh()
    assert follower.catalog.project(FOO) is None


SEEDED = hashlib.sha256(b"xxx").hexdigest()


def seed(repository, count, start=0):
    """Add `count` releases as a server would, without its API calls. A release's tag is its filename."""
    for number in range(start, start + count):
        tag = f"p{number % 40}-{number}.0.tar.gz"
        body = dumps({"distrib": f"p{number % 40}", "sha256": SEEDED, "upload_time": "2026-01-01T00:00:00Z"})
        release = repository.kept.releases.add({"tag_name": tag, "body": body})
        release.published_at = "2026-01-01T00:00:00Z"
        repository.kept.releases.attach(release.id, tag, b"xxx")


@pytest.mark.parametrize("cap", [10_000, 1_000])
async def test_past_what_rest_lists(repository, open_, cap):
    """GraphQL lists the releases past the limit of REST. Those that the index knows are not requested again."""
    seed(repository, 1_350)
    repository.github.api.list_cap = cap
    summary = await update(open_(is_job=True))
    assert (summary.files, summary.problems) == (1_350, ())
    index = decode_index(repository.index(), "index.toml")
    files = [file for name in index if (project := index.project(name)) for file in project.files]
    assert len(files) == 1_350
    assert all(file.location for file in files)
    before = len(repository.calls)
    assert (await update(open_(is_job=True))).changed is False
    assert len(repository.calls) - before <= 1_350 / 100 + 5 + (14 if cap == 1_000 else 0)


async def test_few_calls_for_many_releases(repository, open_):
    seed(repository, 2_000)
    await update(open_(is_job=True))
    assert len(repository.calls) <= 2_000 / 100 + 5
    before = len(repository.calls)
    seed(repository, 1, start=2_000)
    assert (await update(open_(is_job=True))).changed
    assert len(repository.calls) - before <= 2_001 / 100 + 6, "the page that the new one begins, besides"


@contextlib.contextmanager
def between_pages(repository, happens):
    """Call `happens` before each page is listed, with the number of the page request, from 1."""
    api = repository.github.api
    original, routes = api._releases, api._ROUTES  # noqa: SLF001 - the moment between two pages
    asked = itertools.count(1)

    async def releases(_self, *request):
        happens(next(asked))
        return await original(*request)

    api._ROUTES = ((routes[0][0], releases), *routes[1:])  # noqa: SLF001
    try:
        yield
    finally:
        del api._ROUTES  # noqa: SLF001


@pytest.mark.parametrize("comes_at", [None, 3, 4])
async def test_a_release_that_is_deleted_while_they_are_listed_hides_no_other(repository, open_, comes_at):
    """The deletion moves a release to the previous page, already read. A new release restores the old count."""
    seed(repository, 450)
    listed = repository.kept.releases.listed(with_drafts=True)
    gone, others = listed[5], {one.tag for one in listed} - {listed[5].tag}

    def happens(asked):
        if asked == 3:
            del repository.kept.releases.all[gone.id]
        if asked == comes_at:
            repository.kept.releases.committed_at = "2026-01-02T00:00:00Z"
            seed(repository, 1, start=450)

    with between_pages(repository, happens):
        projects, _ = await scanned(open_())
    found = {file.filename for project in projects for file in project.files}
    assert others <= found
    # A release added together with the deletion makes the list look unchanged, so the deleted one is still found.
    # The new one is in the journal, whatever the index says.
    assert (gone.tag in found) == (comes_at == 3)


async def test_what_is_counted_and_never_listed_holds_nothing_up(repository, open_, monkeypatch):
    """GitHub counts drafts, but lists them only for accounts with write access."""
    seed(repository, 30)
    monkeypatch.setattr(Listing, "_count", lambda _self: asyncio.sleep(0, 33))
    projects, _ = await scanned(open_(repository.token_of("read")))
    assert sum(len(project.files) for project in projects) == 30


async def test_releases_added_during_a_listing_hide_none_past_the_rest_limit(repository, open_):
    seed(repository, 1_350)
    repository.github.api.list_cap = 1_000
    before = {one.tag for one in repository.kept.releases.all.values()}

    def happens(asked):
        if asked % 11 == 5:  # once in each pass over the list
            repository.kept.releases.committed_at = f"2026-01-02T00:00:{asked:02}Z"
            seed(repository, 1, start=2_000 + asked)

    with between_pages(repository, happens):
        projects, _ = await scanned(open_(is_job=True))
    assert before <= {file.filename for project in projects for file in project.files}


async def test_update_index_waits_for_a_limit(repository, open_, made):
    await publish(open_(), wheel(made, "foo"))
    repository.fail(secondary_limit("GET", "/releases", 1))
    began = time.monotonic()
    assert (await update(open_(is_job=True))).files == 1
    assert time.monotonic() - began >= 1


async def test_while_a_limit_lasts_github_is_not_asked(repository, open_):
    backend = open_()
    repository.fail(secondary_limit("GET", "/releases", 30))
    for _ in range(3):
        with pytest.raises(RateLimitedError) as raised:
            await backend.read_journal()
        assert 25 < raised.value.retry_after_s <= 31
    assert len(repository.calls) == 1
    assert type(limited(3)) is RateLimitedError


async def test_what_is_left_of_the_limit_is_reported(repository, backend):
    limits = cast("RateLimited", backend)
    assert isinstance(limits, RateLimited)
    assert limits.rate_limit is None
    await backend.read_journal()
    left = cast("RateLimit", limits.rate_limit)
    assert left.limit == 5000
    assert 0 < left.remaining < 5000
    assert left.reset > time.time()


async def test_an_empty_token_or_app_is_refused_when_it_is_opened(open_):
    for secret in ("two words", "private_key = 1"):
        with pytest.raises(InvalidConfigError):
            open_(secret)


async def test_files_exist_for_every_reader(repository, open_, made):
    await publish(open_(), wheel(made, "foo"))
    with pytest.raises(FileExistsInRepoError):
        await published_with(open_(), wheel(made, "foo", payload=b"other"), None)
