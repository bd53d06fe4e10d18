"""Check a repo in mode Cached: another index's pages with own links, its files, and what comes before both."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pywharf.backends.memory import MemoryBackend
from pywharf.core.errors import NotFoundError, UpstreamAwayError, UpstreamUnreachableError, WithheldError
from pywharf.core.model import File
from pywharf.core.names import ProjectName, RepoName
from pywharf.core.negotiation import PageFormat
from pywharf.core.policy.evaluation import RepoPolicies, compile_policies
from pywharf.core.policy.model import Cooldown, Deny, Policy, PolicyDocument
from pywharf.index import lookups
from pywharf.index.follower import Follower
from pywharf.index.lookups import UpstreamPolicy
from pywharf.index.ports import Pin, RedirectContent
from pywharf.index.ports.served_content import ServedContent
from pywharf.index.repo_files import UpstreamFile
from pywharf.index.repository import Repository
from pywharf.index.shared_resources import SharedResources
from pywharf.index.upstream.extra_index import ExtraIndex
from pywharf.index.upstream.health import SourceHealth
from pywharf.index.upstream.kept_pages import KeptPages
from pywharf.index.upstream.pinned_bytes import PinnedBytes
from pywharf.index.upstream.scopes import Scopes
from pywharf.index.upstream.source import Source
from pywharf.index.upstream.upstream_cache import UpstreamCache
from support.distributions.wheels import wheel
from support.server.other_index import URL, OtherIndex
from support.storage.caches import CACHES
from support.storage.uploads import publish

NAME = RepoName("team-a")
FOO = ProjectName("foo")
JSON, HTML = PageFormat.JSON, PageFormat.TEXT_HTML
WHEEL, THEIRS = "foo-1.0-py3-none-any.whl", "foo-9.0-py3-none-any.whl"
A, B = "a" * 64, "b" * 64


class NoMetrics:
    """Metrics that nobody reads."""

    def count_page(self, result: str) -> None:
        pass

    def observe_page_age(self, seconds: float) -> None:
        pass


class Files:
    """Files that are not fetched, but noted."""

    def __init__(self) -> None:
        self.opened: list[tuple[str, str | None]] = []

    async def known(self, _source: Source, _name: ProjectName, file: File) -> File:
        return msgspec.structs.replace(file, sha256=B)

    async def open(self, source: Source, _name: ProjectName, file: File, *, max_bytes: int) -> ServedContent:
        assert max_bytes == 10**9
        self.opened.append((source.url, file.location))
        return RedirectContent("https://files.example/")

    async def metadata(self, source: Source, _name: ProjectName, file: File) -> bytes:
        return f"{source.url} {file.metadata_sha256}".encode()


class Repo:
    """A repo in mode Cached over a storage in memory and a fake of another index."""

    def __init__(self, folder: Path, *sources: Source, **policy: Any) -> None:
        self.backend, self.other, self.files = MemoryBackend("index.json"), OtherIndex(), Files()
        self.follower = Follower(NAME, self.backend)
        self.store = CACHES["file_system"](folder)()
        health = SourceHealth()
        self.pages = KeptPages(self.other, self.store, 1_000.0, NoMetrics(), health, scopes=Scopes())
        pinned = PinnedBytes(self.store, 10**9)
        cache: Any = UpstreamCache(self.store, 10**9, 1_000.0, self.pages, self.files, pinned)  # type: ignore[arg-type]
        self.served = Repository(
            NAME,
            self.backend,
            self.follower,
            upstream=UpstreamPolicy(sources=sources or (Source(url=URL),), is_cached=True, **policy),
            max_file_bytes=10**9,
            shared=SharedResources(ExtraIndex(self.other, health), cache),
        )

    async def json(self) -> dict[str, Any]:
        page = json.loads((await self.served.project_page(FOO, JSON)).body)
        html = (await self.served.project_page(FOO, HTML)).body.decode()
        for file in page["files"]:
            assert f'href="{file["url"]}' in html
        assert html.count("<a ") == len(page["files"])
        return dict(page)

    async def shown(self) -> list[str]:
        return [f["filename"] for f in (await self.json())["files"]]


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Any]:
    made: list[Repo] = []

    async def opened(*sources: Source, **policy: Any) -> Repo:
        repo = Repo(tmp_path / str(len(made)), *sources, **policy)
        repo.other.add("foo", THEIRS)
        await repo.follower.refresh()
        made.append(repo)
        return repo

    yield opened
    for repo in made:
        await repo.served.aclose()
        await repo.pages.aclose()
        await repo.store.aclose()


async def test_a_page_has_own_links_and_all_that_the_index_says(opened):
    repo = await opened()
    file = {
        "filename": THEIRS,
        "url": f"https://files.example/{THEIRS}",
        "hashes": {"sha256": A},
        "size": 7,
        "upload-time": "2026-01-02T03:04:05Z",
        "requires-python": ">=3.8",
        "core-metadata": {"sha256": B},
        "yanked": "broken",
        "provenance": "https://index.example/integrity/foo/provenance",
    }
    unverifiable = file | {"filename": "foo-9.1.zip", "url": "/foo-9.1.zip", "core-metadata": True, "hashes": {}}
    document = {
        "meta": {"api-version": "1.4"},
        "name": "foo",
        "files": [unverifiable, file],
        "project-status": {"status": "deprecated", "reason": "old"},
    }
    repo.other.pages["foo"] = json.dumps(document).encode()
    page = await repo.json()
    without = {key: value for key, value in unverifiable.items() if key != "core-metadata"}
    assert page["files"] == [file | {"url": THEIRS}, without | {"url": "foo-9.1.zip"}]
    assert page["project-status"] == document["project-status"]
    assert page["versions"] == ["9.0", "9.1"]
    html = (await repo.served.project_page(FOO, HTML)).body.decode()
    assert 'data-provenance="https://index.example/integrity/foo/provenance"' in html


async def test_a_file_is_found_and_opened(opened):
    repo = await opened()
    found = await repo.served.find_file(FOO, THEIRS)
    assert isinstance(found, UpstreamFile)
    assert (found.sha256, found.size, found.source.url) == (A, 1, URL)
    await repo.served.open_file(FOO, found)
    assert repo.files.opened == [(URL, f"http://127.0.0.1:1/files/{THEIRS}")]
    assert await repo.served.read_metadata(FOO, found) == f"{URL} None".encode()
    with pytest.raises(NotFoundError):
        await repo.served.find_file(FOO, "foo-9.9-py3-none-any.whl")
    with pytest.raises(NotFoundError):
        await repo.served.find_file(ProjectName("bar"), "bar-1.0.zip")


async def test_a_file_without_a_digest_gets_that_of_its_first_fetch(opened):
    repo = await opened()
    repo.other.add("foo", THEIRS, sha256="")
    assert (await repo.served.find_file(FOO, THEIRS)).sha256 == B
    repo.served.enforce(policies(Deny(project="foo", sha256=B)))
    with pytest.raises(WithheldError):
        await repo.served.find_file(FOO, THEIRS)


async def test_a_name_that_is_published_here_withdraws_page_and_files(opened, tmp_path):
    repo = await opened()
    assert await repo.shown() == [THEIRS]
    await publish(repo.backend, wheel(tmp_path, "foo"))
    await repo.follower.refresh()
    assert await repo.shown() == [WHEEL]
    with pytest.raises(NotFoundError):
        await repo.served.find_file(FOO, THEIRS)
    assert not isinstance(await repo.served.find_file(FOO, WHEEL), UpstreamFile)


async def test_a_name_that_is_published_elsewhere_withdraws_them_after_a_second(opened, tmp_path, monkeypatch):
    monkeypatch.setattr(lookups, "MISSING_S", 0.0)
    monkeypatch.setattr("pywharf.index.repo_pages.MISSING_S", 0.0)
    repo = await opened()
    assert await repo.shown() == [THEIRS]
    await publish(repo.backend, wheel(tmp_path, "foo"))
    assert repo.follower.catalog.names() == (), "this server has not looked again"
    assert await repo.shown() == [WHEEL]
    with pytest.raises(NotFoundError):
        await repo.served.find_file(FOO, THEIRS)


async def test_within_a_second_the_storage_is_asked_once(opened, monkeypatch):
    repo = await opened()
    asked: list[str] = []
    real = repo.backend.find_project

    async def find(name: ProjectName, filename: str | None = None) -> object:
        asked.append(name)
        return await real(name, filename)

    monkeypatch.setattr(repo.backend, "find_project", find)
    monkeypatch.setattr(lookups, "MISSING_S", 1_000.0)
    monkeypatch.setattr("pywharf.index.repo_pages.MISSING_S", 1_000.0)
    for _ in range(5):
        assert await repo.shown() == [THEIRS]
        await repo.served.find_file(FOO, THEIRS)
    assert asked == ["foo"]


async def test_concurrent_requests_ask_the_storage_no_more_often_than_its_slots(opened, monkeypatch):
    repo = await opened()
    asked: list[str] = []
    real = repo.backend.find_project

    async def find(name: ProjectName, filename: str | None = None) -> object:
        asked.append(name)
        await asyncio.sleep(0)
        return await real(name, filename)

    monkeypatch.setattr(repo.backend, "find_project", find)
    monkeypatch.setattr(lookups, "MISSING_S", 1_000.0)
    await asyncio.gather(*(repo.served.project_page(FOO, JSON) for _ in range(20)))
    assert len(asked) <= 2, "each one asked for itself"


async def test_an_own_file_that_this_server_does_not_know_yet_is_found_within_that_second(
    opened, tmp_path, monkeypatch
):
    monkeypatch.setattr(lookups, "MISSING_S", 1_000.0)
    repo = await opened()
    await repo.shown()
    await publish(repo.backend, wheel(tmp_path, "foo"))
    assert not isinstance(await repo.served.find_file(FOO, WHEEL), UpstreamFile)


async def test_a_reserved_name_has_neither_page_nor_file(opened):
    repo = await opened(reserved=("f*",))
    with pytest.raises(NotFoundError):
        await repo.served.project_page(FOO, JSON)
    with pytest.raises(NotFoundError):
        await repo.served.find_file(FOO, THEIRS)
    assert repo.other.asked == []


async def test_a_merged_page_has_own_links_alone_and_the_own_file_counts(opened, tmp_path):
    repo = await opened(allow_shadowing=("foo",))
    repo.other.add("foo", THEIRS, WHEEL)
    await publish(repo.backend, wheel(tmp_path, "foo"))
    await repo.follower.refresh()
    page = await repo.json()
    assert [(f["filename"], f["url"]) for f in page["files"]] == [(WHEEL, WHEEL), (THEIRS, THEIRS)]
    assert not isinstance(await repo.served.find_file(FOO, WHEEL), UpstreamFile)
    assert isinstance(await repo.served.find_file(FOO, THEIRS), UpstreamFile)
    repo.other.fault = UpstreamUnreachableError("away")
    assert not isinstance(await repo.served.find_file(FOO, WHEEL), UpstreamFile), "own files need no index"


def policies(*deny: Deny, **more: Any) -> RepoPolicies:
    return compile_policies(PolicyDocument(policies=(Policy(name="ns/company", deny=deny, **more),)), NAME)


async def test_policies_hold_for_pages_and_files(opened):
    repo = await opened()
    assert await repo.shown() == [THEIRS]
    assert (await repo.served.find_file(FOO, THEIRS)).filename == THEIRS
    for given in (
        policies(Deny(project="foo", versions="==9.0")),
        policies(cooldown=Cooldown(minimum_age_s=60, missing_time="Deny")),
        policies(allow_only=("bar",)),
    ):
        repo.served.enforce(given)
        assert await repo.shown() == []
        with pytest.raises(WithheldError):
            await repo.served.find_file(FOO, THEIRS)
    repo.served.enforce(None)
    assert await repo.shown() == [THEIRS]


async def test_a_quarantined_project_offers_no_files(opened):
    repo = await opened()
    document = json.loads(repo.other.pages["foo"]) | {"project-status": {"status": "quarantined"}}
    repo.other.pages["foo"] = json.dumps(document).encode()
    assert await repo.shown() == []
    with pytest.raises(NotFoundError, match="quarantined"):
        await repo.served.find_file(FOO, THEIRS)


async def test_away_and_nothing_kept_is_never_missing(opened):
    repo = await opened()
    repo.other.fault = UpstreamUnreachableError("away")
    with pytest.raises(UpstreamAwayError):
        await repo.served.project_page(FOO, JSON)
    with pytest.raises(UpstreamAwayError):
        await repo.served.find_file(FOO, THEIRS)
    assert [one.url for one in repo.served.failing_sources()] == [URL]


async def test_files_of_the_source_that_answers_alone(opened):
    first = Source(url="http://127.0.0.1:2/simple/", projects=("f*",))
    repo = await opened(first, Source(url=URL))
    found = await repo.served.find_file(FOO, THEIRS)
    assert isinstance(found, UpstreamFile)
    assert found.source.url == URL
    assert repo.other.asked == ["http://127.0.0.1:2/simple/foo/", f"{URL}foo/"]


async def test_what_is_pinned_is_served_although_an_earlier_source_is_away(opened):
    """That one said when the file was pinned that it has no such project; nobody else's name depends on that."""
    first = Source(url="http://127.0.0.1:2/simple/")
    repo = await opened(first, Source(url=URL))
    repo.other.add("bar", "bar-1.0.zip")
    bar = ProjectName("bar")
    for name in (FOO, bar):
        assert await repo.served.project_page(name, JSON)
    await repo.store.pin(NAME, Pin(FOO, THEIRS, A, 1))
    await repo.store.pin(NAME, Pin(bar, "bar-1.0.zip", B, 1))
    await repo.pages.aclose()
    repo.pages._held.clear()  # noqa: SLF001 - as after a restart
    repo.pages._absent.clear()  # noqa: SLF001
    repo.other.fault = UpstreamUnreachableError("away")
    repo.served._project_pages._recent.clear()  # noqa: SLF001
    assert await repo.shown() == [THEIRS]
    assert (await repo.served.find_file(FOO, THEIRS)).sha256 == A
    with pytest.raises(UpstreamAwayError):
        await repo.served.find_file(bar, "bar-1.0.zip")  # the pin is of another content


@pytest.mark.parametrize("repo_of_the_pin", ["team-a", "another"])
async def test_a_lost_project_stays_for_the_repo_that_pinned_a_file_of_it(opened, monkeypatch, repo_of_the_pin):
    monkeypatch.setattr("pywharf.index.upstream.kept_pages._FRESH_S", 0.0)
    repo = await opened()
    assert await repo.shown() == [THEIRS]
    await repo.store.pin(RepoName(repo_of_the_pin), Pin(FOO, THEIRS, A, 1))
    del repo.other.pages["foo"]
    repo.served._project_pages._recent.clear()  # noqa: SLF001
    if repo_of_the_pin == NAME:
        assert await repo.shown() == [THEIRS]
        assert (await repo.served.find_file(FOO, THEIRS)).sha256 == A
        return
    with pytest.raises(NotFoundError):
        await repo.served.project_page(FOO, JSON)
    with pytest.raises(NotFoundError):
        await repo.served.find_file(FOO, THEIRS)


async def test_a_file_that_is_newer_than_the_kept_page_is_found(opened, monkeypatch):
    monkeypatch.setattr("pywharf.index.upstream.kept_pages._FRESH_S", 0.0)
    repo = await opened()
    assert await repo.shown() == [THEIRS]
    await asyncio.sleep(0)
    repo.other.add("foo", THEIRS, "foo-9.1-py3-none-any.whl")
    assert (await repo.served.find_file(FOO, "foo-9.1-py3-none-any.whl")).filename == "foo-9.1-py3-none-any.whl"
