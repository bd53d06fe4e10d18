"""Check the pages that the cache keeps: revalidated, served while their index fails, never mixed or taken back."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pywharf.core.errors import (
    BackendUnavailableError,
    NotFoundError,
    StorageFullError,
    UpstreamAwayError,
    UpstreamError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)
from pywharf.core.model import File, Project
from pywharf.core.names import ProjectName, RepoName
from pywharf.index.ports import CacheStore, Pin
from pywharf.index.upstream import kept_page
from pywharf.index.upstream.first_digests import key_of as key_of_digest
from pywharf.index.upstream.health import SourceHealth
from pywharf.index.upstream.kept_page import KeptPage, decode, encode, key_of, merge, to_keep
from pywharf.index.upstream.kept_pages import KeptPages
from pywharf.index.upstream.scopes import Scopes
from pywharf.index.upstream.source import Source, SourceCredentials
from pywharf.index.upstream.sources import Answer, first_answer
from support.server.other_index import URL, OtherIndex
from support.storage.caches import CACHES
from support.waiting import until

FOO, BAR = ProjectName("foo"), ProjectName("bar")
SOURCE = Source(url=URL)
A, B = "a" * 64, "b" * 64
KEEP_S = 1_000.0
AWAY = UpstreamUnreachableError("The extra index cannot be read.")


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Counted:
    """The metrics, as a counter."""

    def __init__(self) -> None:
        self.pages: Counter[str] = Counter()
        self.ages: list[float] = []

    def count_page(self, result: str) -> None:
        self.pages[result] += 1

    def observe_page_age(self, seconds: float) -> None:
        self.ages.append(seconds)


class Replica:
    """The kept pages of one replica, with its clock and its index."""

    def __init__(self, store: CacheStore, other: OtherIndex, clock: Clock) -> None:
        self.clock, self.other, self.counted = clock, other, Counted()
        self.health = SourceHealth(clock)
        self.pages = KeptPages(
            other, store, KEEP_S, self.counted, self.health, scopes=Scopes(), clock=clock, monotonic=clock, wait_s=20.0
        )

    async def files(self, name: ProjectName = FOO, source: Source = SOURCE) -> list[str] | None:
        project = await self.pages.project(source, name)
        return None if project is None else [f.filename for f in project.files]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[CacheStore]:
    opened = CACHES["file_system"](tmp_path)()
    yield opened
    await opened.aclose()


@pytest.fixture
def other() -> OtherIndex:
    index = OtherIndex()
    index.add("foo", "foo-1.0.zip")
    index.etags["foo"] = '"1"'
    return index


@pytest.fixture
async def replica(store, other):
    made = Replica(store, other, Clock())
    yield made
    await made.pages.aclose()


async def another(replica: Replica, store: CacheStore) -> Replica:
    """Return a replica that has nothing in memory, once the store has what the other one wrote."""
    await replica.pages.aclose()
    return Replica(store, replica.other, replica.clock)


# --- fresh, confirmed, changed -----------------------------------------------------------------------------------


async def test_a_page_is_asked_for_once_a_minute_and_conditionally(replica, other):
    for _ in range(3):
        assert await replica.files() == ["foo-1.0.zip"]
    assert other.conditions == [""]
    replica.clock.now += 61
    for _ in range(3):
        assert await replica.files() == ["foo-1.0.zip"]
    assert other.conditions == ["", '"1"']
    assert replica.counted.pages == {"changed": 1, "confirmed": 1}


async def test_a_changed_page_takes_the_older_one_s_place(replica, other, store):
    await replica.files()
    other.add("foo", "foo-2.0.zip", "foo-1.0.zip")
    other.etags["foo"] = '"2"'
    replica.clock.now += 61
    assert await replica.files() == ["foo-1.0.zip", "foo-2.0.zip"], "in the order of names"
    other.fault = AWAY
    assert await (await another(replica, store)).files() == ["foo-1.0.zip", "foo-2.0.zip"]


async def test_all_callers_share_one_request(replica, other):
    other.answers.clear()
    asking = [asyncio.create_task(replica.files()) for _ in range(50)]
    await until(lambda: bool(other.asked))
    other.answers.set()
    assert await asyncio.gather(*asking) == [["foo-1.0.zip"]] * 50
    assert len(other.asked) == 1


async def test_another_replica_begins_with_the_kept_page(replica, other, store):
    await replica.files()
    second = await another(replica, store)
    assert await second.files() == ["foo-1.0.zip"]
    assert other.conditions == ["", '"1"']


async def test_a_missing_project_is_remembered_for_a_minute(replica, other):
    for seconds, asked in ((0, 1), (30, 1), (31, 2)):
        replica.clock.now += seconds
        assert await replica.files(BAR) is None
        assert len(other.asked) == asked
    other.add("bar", "bar-1.0.zip")
    replica.clock.now += 61
    assert await replica.files(BAR) == ["bar-1.0.zip"]


async def test_a_confirmation_is_written_seldom(replica, other, store, monkeypatch):
    written: list[str] = []
    real = store.write_page

    async def write(key: str, content: bytes) -> None:
        written.append(key)
        await real(key, content)

    monkeypatch.setattr(store, "write_page", write)
    for _ in range(12):
        await replica.files()
        replica.clock.now += 61
    await replica.pages.aclose()
    assert len(written) == 3, "at first, and after each quarter of the time for which pages are kept"


# --- while the index fails ---------------------------------------------------------------------------------------

FAULTS = [
    AWAY,
    UpstreamTimeoutError("The extra index did not answer in time."),
    UpstreamError("The extra index answered with the status 503."),
]


@pytest.mark.parametrize("fault", FAULTS, ids=["away", "slow", "wrong"])
@pytest.mark.parametrize("restarted", [False, True], ids=["memory", "store"])
async def test_a_kept_page_is_served_while_the_index_fails(replica, other, store, fault, restarted):
    await replica.files()
    other.fault = fault
    served = await another(replica, store) if restarted else replica
    replica.clock.now += KEEP_S
    for _ in range(5):
        assert await served.files() == ["foo-1.0.zip"]
    assert len(other.asked) == 2, "it is not asked again with every request"
    assert served.counted.pages["stale"] == 1
    assert served.counted.ages == [KEEP_S]
    replica.clock.now += 16
    with pytest.raises(UpstreamError):
        await served.files()


@pytest.mark.parametrize(
    ("fault", "raised", "said"),
    [
        (AWAY, UpstreamAwayError, "holds no page of 'foo'"),
        (FAULTS[1], UpstreamAwayError, "holds no page of 'foo'"),
        (FAULTS[2], UpstreamError, "the status 503"),
    ],
    ids=["away", "slow", "wrong"],
)
async def test_without_a_kept_page_the_failure_is_the_answer(replica, other, fault, raised, said):
    other.fault = fault
    with pytest.raises(UpstreamError, match=said) as failure:
        await replica.files()
    assert type(failure.value) is raised
    assert failure.value.__cause__ is None
    assert replica.counted.pages == {"failed": 1}


async def test_a_status_that_is_no_page_is_a_failure(replica, other):
    other.etags.clear()
    await replica.files()
    replica.clock.now += 61
    for status in (401, 403, 429, 500, 503, 304, 206):
        other.status = status
        assert await replica.files() == ["foo-1.0.zip"]
        replica.clock.now += 16
    assert replica.counted.pages["stale"] == 7


async def test_pins_of_a_repo_with_other_sources_keep_no_page(replica, other, store):
    replica.pages.use(RepoName("team-a"), [SOURCE])
    replica.pages.use(RepoName("team-b"), [Source(url="https://other.test/simple/")])
    replica.pages.use(RepoName("team-c"), [Source(url=URL, projects=("bar-*",))])
    assert await replica.files() == ["foo-1.0.zip"]
    for repo in ("team-b", "team-c"):
        await store.pin(RepoName(repo), Pin(FOO, "foo-1.0.zip", A, 1))
    other.fault = AWAY
    replica.clock.now += KEEP_S + 1
    with pytest.raises(UpstreamAwayError):
        await replica.files()


async def test_a_pinned_project_is_served_without_end(replica, other, store):
    await replica.files()
    await store.pin(RepoName("team-a"), Pin(FOO, "foo-1.0.zip", A, 1))
    other.fault = AWAY
    served = await another(replica, store)
    replica.clock.now += 100 * KEEP_S
    assert await served.files() == ["foo-1.0.zip"]
    served.pages.use(RepoName("team-a"), [Source(url="https://torch.example/", projects=("torch*",)), SOURCE])
    keys = {key async for some in served.pages.pinned_keys() for key in some}
    # Without the digest of the first fetch, a file whose index says none is not found in the store.
    assert keys == {key_of(URL, "", FOO), key_of_digest(URL, "", FOO, "foo-1.0.zip")}


async def test_nobody_waits_long_for_a_slow_index(store, other):
    replica = Replica(store, other, Clock())
    replica.pages = KeptPages(
        other,
        store,
        KEEP_S,
        replica.counted,
        replica.health,
        scopes=Scopes(),
        clock=replica.clock,
        monotonic=replica.clock,
        wait_s=0.01,
    )
    await asyncio.gather(*(replica.pages._asking.run((SOURCE.identity, FOO), lambda: _first(replica)) for _ in [1]))  # noqa: SLF001
    other.add("foo", "foo-2.0.zip")
    other.etags.clear()
    replica.clock.now += 61
    other.answers.clear()
    assert await replica.files() == ["foo-1.0.zip"]
    assert replica.health.is_paused(URL), "the next ones do not wait at all"
    assert await replica.files() == ["foo-1.0.zip"]
    assert len(other.asked) == 2
    other.answers.set()
    await until(lambda: replica.counted.pages["changed"] == 2)
    assert await replica.files() == ["foo-2.0.zip"]
    assert not replica.health.is_paused(URL)
    await replica.pages.aclose()


async def _first(replica: Replica) -> Project | None:
    return await replica.pages._ask((SOURCE.identity, FOO), None)  # noqa: SLF001 - however slow the machine is


async def test_a_download_waits_for_no_index_that_confirmed_the_page(replica, other):
    await replica.files()
    replica.clock.now += KEEP_S
    other.answers.clear()
    project = await replica.pages.project_of_file(SOURCE, FOO)
    assert project is not None
    assert project.file("foo-1.0.zip") is not None
    assert len(other.asked) == 1


# --- what an index takes back ------------------------------------------------------------------------------------


async def test_an_older_serial_is_ignored_until_the_page_is_too_old(replica, other, store):
    other.serials["foo"] = 7
    await replica.files()
    other.add("foo", "foo-0.1.zip")
    other.etags["foo"], other.serials["foo"] = '"0"', 6
    replica.clock.now += 61
    assert await replica.files() == ["foo-1.0.zip"]
    assert replica.counted.pages["older"] == 1
    assert await (await another(replica, store)).files() == ["foo-1.0.zip"]
    replica.clock.now += KEEP_S
    assert await replica.files() == ["foo-0.1.zip"]


@pytest.mark.parametrize("serial", [7, 8, None])
async def test_another_serial_is_taken(replica, other, serial):
    other.serials["foo"] = 7
    await replica.files()
    other.add("foo", "foo-2.0.zip")
    other.etags["foo"] = '"2"'
    other.serials.pop("foo")
    if serial is not None:
        other.serials["foo"] = serial
    replica.clock.now += 61
    assert await replica.files() == ["foo-2.0.zip"]


async def test_the_serial_of_the_page_itself_counts(replica, other):
    def write(serial: object, filename: str) -> None:
        file = {"filename": filename, "url": f"/{filename}", "hashes": {"sha256": A}}
        document = {"meta": {"api-version": "1.1", "_last-serial": serial}, "name": "foo", "files": [file]}
        other.pages["foo"] = json.dumps(document).encode()
        other.etags["foo"] = f'"{filename}"'

    shown = []
    for serial, filename in ((7, "a.zip"), (6, "b.zip"), ("x", "c.zip"), ([[]], "d.zip"), (10**30, "e.zip")):
        write(serial, filename)
        replica.clock.now += 61
        shown.append(await replica.files())
    assert shown == [["a.zip"], ["a.zip"], ["c.zip"], ["d.zip"], ["e.zip"]]


async def test_a_lost_project_is_missing_and_nobody_else_s(replica, other, store):
    await replica.files()
    second = OtherIndex("http://127.0.0.1:2/simple/")
    second.add("foo", "foo-9.0.zip")
    page = other.pages.pop("foo")
    replica.clock.now += 61
    for served in (replica, await another(replica, store)):
        with pytest.raises(NotFoundError):
            await served.files()
    assert second.asked == []
    other.fault = AWAY
    replica.clock.now += 61
    with pytest.raises(NotFoundError):
        await replica.files()
    other.fault = None
    other.pages["foo"] = page
    replica.clock.now += 61
    assert await replica.files() == ["foo-1.0.zip"]
    del other.pages["foo"]
    replica.clock.now += KEEP_S + 1
    assert await replica.files() is None, "it is forgotten"


async def test_a_file_keeps_its_first_digest(replica, other, store):
    await replica.files()
    for step, filenames in enumerate((("foo-1.0.zip",), ("foo-2.0.zip",), ("foo-1.0.zip", "foo-2.0.zip"))):
        other.add("foo", *filenames, sha256=B)
        other.etags["foo"] = f'"changed {step}"'.replace(" ", "-")
        replica.clock.now += 61
        await replica.files()
    assert replica.counted.pages["other-digest"] == 2
    for served in (replica, await another(replica, store)):
        project = await served.pages.project(SOURCE, FOO)
        assert project is not None
        assert {f.filename: f.sha256 for f in project.files} == {"foo-1.0.zip": A, "foo-2.0.zip": B}


async def test_the_first_digest_is_that_which_any_replica_saw_first(replica, other, store):
    await replica.files()
    second = await another(replica, store)
    await second.files()
    other.add("foo", "foo-1.0.zip", "foo-2.0.zip")
    other.etags["foo"] = '"2"'
    replica.clock.now += 61
    assert await second.files() == ["foo-1.0.zip", "foo-2.0.zip"]
    await second.pages.aclose()
    other.add("foo", "foo-1.0.zip", "foo-2.0.zip", sha256=B)
    other.etags["foo"] = '"3"'
    replica.clock.now += 61
    project = await replica.pages.project(SOURCE, FOO)
    assert project is not None
    assert {f.sha256 for f in project.files} == {A}


async def test_a_page_that_is_too_old_is_worth_waiting_for(store, other):
    replica = Replica(store, other, Clock())
    replica.pages = KeptPages(
        other,
        store,
        KEEP_S,
        replica.counted,
        replica.health,
        scopes=Scopes(),
        clock=replica.clock,
        monotonic=replica.clock,
        wait_s=0.0,
    )
    await _first(replica)
    replica.clock.now += KEEP_S + 1
    other.answers.clear()
    asking = asyncio.create_task(replica.files())
    await until(lambda: len(other.asked) == 2)
    other.answers.set()
    assert await asking == ["foo-1.0.zip"]
    assert not replica.counted.pages["stale"]
    await replica.pages.aclose()


# --- who may see it ----------------------------------------------------------------------------------------------


async def test_a_page_that_was_read_with_credentials_is_given_to_nobody_else(replica, other, store):
    secret = Source(url=URL, credentials=SourceCredentials("ci", "the password"))
    assert await replica.files(source=secret) == ["foo-1.0.zip"]
    other.fault = AWAY
    second = await another(replica, store)
    for others in (SOURCE, Source(url=URL, credentials=SourceCredentials("ci", "another"))):
        for served in (replica, second):
            with pytest.raises(UpstreamAwayError):
                await served.files(source=others)
    assert await second.files(source=secret) == ["foo-1.0.zip"]
    assert other.credentials[0] == secret.credentials
    assert "password" not in repr(secret)


# --- a store that fails ------------------------------------------------------------------------------------------


class Broken:
    """A store of which every call fails."""

    def __init__(self, fault: Exception) -> None:
        self.fault = fault

    def __getattr__(self, name: str) -> object:
        async def fail(*_args: object, **_more: object) -> object:
            raise self.fault

        return fail


@pytest.mark.parametrize("fault", [BackendUnavailableError("away"), StorageFullError("full")])
async def test_a_failing_store_costs_nothing_but_its_pages(other, fault):
    replica = Replica(Broken(fault), other, Clock())  # type: ignore[arg-type]
    assert await replica.files() == ["foo-1.0.zip"]
    other.fault = AWAY
    replica.clock.now += 61
    assert await replica.files() == ["foo-1.0.zip"], "from memory"
    replica.clock.now += KEEP_S
    with pytest.raises(UpstreamAwayError):
        await replica.files()


async def test_keeping_says_when_the_store_did_not_take_it(replica, other, store):
    assert await replica.pages.keep(SOURCE, FOO) is not None
    assert await store.read_page(key_of(URL, "", FOO), 10_000) is not None
    broken = Replica(Broken(StorageFullError("full")), other, Clock())  # type: ignore[arg-type]
    with pytest.raises(StorageFullError):
        await broken.pages.keep(SOURCE, FOO)


# --- documents ---------------------------------------------------------------------------------------------------

PAGE = KeptPage(
    project=Project(name=FOO, files=(File(filename="foo-1.0.zip", sha256=A, provenance="https://p.example/"),)),
    confirmed=7.5,
    etag='"1"',
    serial=3,
    vanished={"foo-0.zip": B},
)


def test_a_document_is_read_as_it_was_written(monkeypatch):
    content = encode(URL, PAGE)
    assert content is not None
    assert decode(content, URL, FOO) == PAGE
    for url, name in ((URL, BAR), ("https://other.example/", FOO)):
        assert decode(content, url, name) is None
    for broken in (b"", b"x", content[:-1], content + b"x", b"\x93" * 100_000):
        assert decode(broken, URL, FOO) is None
    monkeypatch.setattr(kept_page, "MAX_BYTES", len(content) - 1)
    assert encode(URL, PAGE) is None


def test_keys_differ():
    keys = {key_of(URL, "", FOO), key_of(URL, "", BAR), key_of(URL, "x", FOO), key_of(URL + "x", "", FOO)}
    assert len(keys) == 4
    assert {len(key) for key in keys} == {64}


def test_what_cannot_be_served_is_not_kept():
    files = (
        File(filename="b.whl", sha256=A, metadata_sha256=""),
        File(filename="a.whl", sha256=A, metadata_sha256=B),
        File(filename="a.whl", sha256=B),
        File(filename="a.whl.metadata", sha256=A),
        File(filename="..", sha256=A),
    )
    kept = to_keep(Project(name=FOO, files=files, status="archived"))
    assert kept.status == "archived"
    assert kept.files == (files[1], File(filename="b.whl", sha256=A))


def test_digests_of_files_that_vanished_are_bounded(monkeypatch):
    monkeypatch.setattr(kept_page, "_MAX_VANISHED", 3)
    files = tuple(File(filename=f"foo-{n}.zip", sha256=A) for n in range(5))
    before = KeptPage(project=Project(name=FOO, files=files), confirmed=0.0)
    assert merge(Project(name=FOO), before).vanished == {f"foo-{n}.zip": A for n in (2, 3, 4)}


# --- several sources ---------------------------------------------------------------------------------------------

TORCH = Source(url="https://torch.example/whl/", projects=("torch*",))
PYPI = Source(url="https://pypi.example/simple/")


@pytest.mark.parametrize(
    ("name", "have", "fails", "asked", "found"),
    [
        ("torch", (TORCH, PYPI), (), [TORCH], TORCH),
        ("torch", (PYPI,), (), [TORCH, PYPI], PYPI),
        ("torch", (), (), [TORCH, PYPI], None),
        ("numpy", (TORCH, PYPI), (), [PYPI], PYPI),
        ("numpy", (PYPI,), (TORCH,), [PYPI], PYPI),
        ("torch", (PYPI,), (TORCH,), [TORCH], UpstreamError),
        ("torch", (TORCH,), (PYPI,), [TORCH], TORCH),
        ("torch", (), (PYPI,), [TORCH, PYPI], UpstreamError),
    ],
)
async def test_the_first_source_that_matches_and_has_the_project_answers_alone(name, have, fails, asked, found):
    seen: list[Source] = []

    async def ask(source: Source, wanted: ProjectName) -> Project | None:
        seen.append(source)
        if source in fails:
            raise AWAY
        return Project(name=wanted) if source in have else None

    if isinstance(found, type):
        with pytest.raises(found):
            await first_answer(ask, (TORCH, PYPI), ProjectName(name))
    else:
        answer = await first_answer(ask, (TORCH, PYPI), ProjectName(name))
        assert answer == (Answer(found, Project(name=ProjectName(name))) if found else None)
    assert seen == asked


# --- health ------------------------------------------------------------------------------------------------------


def test_what_fails_is_reported_until_it_answers():
    clock = Clock()
    health, began = SourceHealth(clock), int(clock.now)
    health.answered(URL)
    assert health.failing([URL]) == ()
    health.failed(URL)
    clock.now += 500
    health.failed(URL)
    (one,) = health.failing([URL, URL, "https://other.example/"])
    assert (one.url, one.failing_since) == (URL, began)
    clock.now += 599
    assert len(health.failing([URL])) == 1
    clock.now += 2
    assert health.failing([URL]) == (), "nobody has asked it for ten minutes"
    health.failed(URL)
    health.answered(URL)
    assert health.failing([URL]) == ()
