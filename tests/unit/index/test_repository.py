"""Check a repo's pages and files: its own first, another index's only if nothing forbids it, each looked up once."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pywharf.backends.memory import MemoryBackend
from pywharf.core.errors import (
    BackendUnavailableError,
    IndexNotLoadedError,
    NotFoundError,
    UpstreamError,
    UpstreamTimeoutError,
)
from pywharf.core.model import Project
from pywharf.core.names import ProjectName, RepoName
from pywharf.core.negotiation import PageFormat
from pywharf.index.codecs import encode_index
from pywharf.index.follower import Follower
from pywharf.index.lookups import UpstreamPolicy
from pywharf.index.page_cache import PageCache
from pywharf.index.ports import Backend, JournalRead
from pywharf.index.repository import Repository, RepoStatus
from pywharf.index.shared_resources import SharedResources
from pywharf.index.upstream import extra_index as extra_index_module
from pywharf.index.upstream.extra_index import ExtraIndex
from pywharf.index.upstream.source import Source
from support.distributions.wheels import wheel
from support.server.other_index import URL, OtherIndex
from support.storage.storages import STORAGES
from support.storage.uploads import publish

FOO, BAR = ProjectName("foo"), ProjectName("bar")
JSON, HTML = PageFormat.JSON, PageFormat.TEXT_HTML


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[Backend]:
    opened = STORAGES["memory"].make(tmp_path)("index.json")
    yield opened
    await opened.aclose()


@pytest.fixture
def other() -> OtherIndex:
    return OtherIndex()


class Failing(MemoryBackend):
    """A storage that fails until `fault` is None."""

    fault: BackendUnavailableError | None = BackendUnavailableError("the reason")

    async def read_journal(self, cursor: str | None = None) -> JournalRead:
        if self.fault is not None:
            raise self.fault
        return await super().read_journal(cursor)


async def followed(
    backend: Backend, other: OtherIndex, *, loaded: bool = True, url: str | None = URL, **policy: Any
) -> tuple[Repository, Follower]:
    name = RepoName("team-a")
    follower = Follower(name, backend)
    made = Repository(
        name,
        backend,
        follower,
        upstream=UpstreamPolicy(sources=(Source(url=url),) if url is not None else (), **policy),
        max_file_bytes=10**9,
        shared=SharedResources(ExtraIndex(other), pages=PageCache(10**6)),
    )
    if loaded:
        await follower.refresh()
    return made, follower


async def repository(
    backend: Backend, other: OtherIndex, *, loaded: bool = True, url: str | None = URL, **policy: Any
) -> Repository:
    made, _ = await followed(backend, other, loaded=loaded, url=url, **policy)
    return made


async def filenames(repo: Repository, name: ProjectName = FOO) -> list[str]:
    page = await repo.project_page(name, JSON)
    html = (await repo.project_page(name, HTML)).body.decode()
    found = [f["filename"] for f in json.loads(page.body)["files"]]
    assert all(f">{f}</a>" in html for f in found)
    assert html.count("<a ") == len(found)
    return found


WHEEL = "foo-1.0-py3-none-any.whl"


@pytest.mark.parametrize(
    ("owned", "policy", "shown", "asked"),
    [
        (True, {}, [WHEEL], False),
        (False, {}, ["foo-9.0.zip"], True),
        (False, {"reserved": ("foo*",)}, None, False),
        (True, {"reserved": ("foo*",)}, [WHEEL], False),
        (True, {"allow_shadowing": ("foo",)}, [WHEEL, "foo-9.0.zip"], True),
        (False, {"allow_shadowing": ("foo",), "reserved": ("foo",)}, ["foo-9.0.zip"], True),
        (False, {"url": None}, None, False),
        (True, {"url": None, "allow_shadowing": ("foo",)}, [WHEEL], False),
    ],
)
async def test_which_names_are_looked_up(backend, other, tmp_path, owned, policy, shown, asked):
    other.add("foo", "foo-9.0.zip")
    if owned:
        await publish(backend, wheel(tmp_path, "foo"))
    repo = await repository(backend, other, **policy)
    if shown is None:
        with pytest.raises(NotFoundError, match="This repo has no project 'foo'"):
            await repo.project_page(FOO, JSON)
    else:
        assert await filenames(repo) == shown
    assert bool(other.asked) is asked


async def test_a_name_that_only_another_server_knows_yet_is_never_looked_up(backend, other, tmp_path):
    other.add("foo", "foo-9.0.zip")
    repo, follower = await followed(backend, other)
    await publish(backend, wheel(tmp_path, "foo"))
    assert follower.catalog.names() == (), "this server has not looked again"
    assert await filenames(repo) == [WHEEL]
    assert other.asked == []


async def test_a_name_that_is_published_while_it_is_looked_up_is_the_repo_s(backend, other, tmp_path):
    other.add("foo", "foo-9.0.zip")
    repo, follower = await followed(backend, other)
    other.answers.clear()
    asking = asyncio.create_task(filenames(repo))
    async with asyncio.timeout(20):
        while not other.asked:  # noqa: ASYNC110 - no event reports it
            await asyncio.sleep(0.001)
    await publish(backend, wheel(tmp_path, "foo"))
    await follower.refresh()
    other.answers.set()
    assert await asking == [WHEEL]


async def test_before_the_index_is_loaded_nothing_is_said(backend, other):
    other.add("foo", "foo-9.0.zip")
    repo = await repository(backend, other, loaded=False)
    for asked in (repo.project_page(FOO, JSON), repo.root_page(JSON), repo.find_file(FOO, WHEEL)):
        with pytest.raises(IndexNotLoadedError):
            await asked
    assert other.asked == []


async def test_status_reports_the_first_read_and_the_last_failure(other):
    storage = Failing("index.json")
    repo = await repository(storage, other, loaded=False)
    assert repo.status() == RepoStatus("loading", None, None)
    with pytest.raises(IndexNotLoadedError, match="it is being read for the first time"):
        repo.require_loaded()
    repo.start()
    await repo.first_read()
    assert repo.status().state == "failing"
    with pytest.raises(IndexNotLoadedError, match="the reason"):
        repo.index_mtime()
    storage.fault = None
    async with asyncio.timeout(20):
        while repo.status().state != "ready":  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)
    repo.require_loaded()
    assert repo.index_mtime() > 0
    await repo.aclose()


async def test_a_name_that_nobody_has(backend, other):
    repo = await repository(backend, other)
    for _ in range(3):
        with pytest.raises(NotFoundError, match="This repo has no project 'foo'"):
            await repo.project_page(FOO, JSON)
    assert other.asked == [f"{URL}foo/"], "that it has none is remembered, too"


async def test_concurrent_pages_share_one_lookup(backend, other):
    other.add("foo", "foo-9.0.zip")
    repo = await repository(backend, other)
    other.answers.clear()
    asking = [asyncio.create_task(filenames(repo)) for _ in range(20)]
    await asyncio.sleep(0)
    asking[0].cancel()
    other.answers.set()
    results = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1:] == [["foo-9.0.zip"]] * 19
    assert other.asked == [f"{URL}foo/"]
    other.add("foo", "foo-10.0.zip")
    assert await filenames(repo) == ["foo-9.0.zip"]


async def test_a_page_is_looked_up_again_once_it_is_old(backend, other, monkeypatch):
    monkeypatch.setattr(extra_index_module, "_FRESH_S", 0)
    repo = await repository(backend, other)
    for version in ("9", "10"):
        other.add("foo", f"foo-{version}.0.zip")
        assert await filenames(repo) == [f"foo-{version}.0.zip"]


async def test_pages_kept_do_not_grow_without_end(backend, other, monkeypatch):
    monkeypatch.setattr(extra_index_module, "MAX_HELD_BYTES", 40_000)
    repo = await repository(backend, other)
    for name in ("a", "b", "c", "a"):
        other.add(name, *(f"{name}-{i}.0.zip" for i in range(40)))
        assert len(await filenames(repo, ProjectName(name))) == 40
    assert [url.removeprefix(URL) for url in other.asked].count("a/") == 2


async def test_a_page_larger_than_the_cache_is_shown_and_evicts_nothing(backend, other, monkeypatch):
    monkeypatch.setattr(extra_index_module, "MAX_HELD_BYTES", 40_000)
    repo = await repository(backend, other)
    for name, count in (("a", 40), ("b", 91), ("a", 40), ("b", 91)):
        other.add(name, *(f"{name}-{i}.0.zip" for i in range(count)))
        assert len(await filenames(repo, ProjectName(name))) == count
    assert other.asked.count(f"{URL}a/") == 1


@pytest.mark.parametrize("fault", [UpstreamError("broken"), UpstreamTimeoutError("too late")])
async def test_a_fault_is_reported_and_not_cached(backend, other, fault):
    other.add("foo", "foo-9.0.zip")
    repo = await repository(backend, other)
    other.fault = fault
    for _ in range(2):
        with pytest.raises(type(fault), match=str(fault)):
            await repo.project_page(FOO, JSON)
    other.fault = None
    assert await filenames(repo) == ["foo-9.0.zip"]


@pytest.mark.parametrize("status", [500, 403, 301, 204])
async def test_another_status_is_a_fault(backend, other, status):
    other.add("foo", "foo-9.0.zip")
    other.status = status
    repo = await repository(backend, other)
    with pytest.raises(UpstreamError, match=f"with the status {status}"):
        await repo.project_page(FOO, JSON)


async def test_a_fault_of_the_other_index_does_not_touch_one_s_own(backend, other, tmp_path):
    await publish(backend, wheel(tmp_path, "foo"))
    other.fault = UpstreamError("broken")
    assert await filenames(await repository(backend, other)) == [WHEEL]


async def test_links_of_both(backend, other, tmp_path):
    await publish(backend, wheel(tmp_path, "foo"))
    other.add("foo", WHEEL, "foo-9.0.zip")
    repo = await repository(backend, other, allow_shadowing=("foo",))
    document = json.loads((await repo.project_page(FOO, JSON)).body)
    assert {f["filename"]: f["url"] for f in document["files"]} == {
        WHEEL: WHEEL,  # the repo's own file takes precedence over the other's of the same name
        "foo-9.0.zip": "http://127.0.0.1:1/files/foo-9.0.zip",
    }


async def indexed(backend: Backend, *projects: Project) -> None:
    content = encode_index("index.json", 1, projects, backend_type="memory", location=lambda _n, _f: None)
    await backend.write_index(content, expected=None)


async def test_what_is_quarantined_is_not_shown_nor_replaced(backend, other, tmp_path):
    file = await publish(backend, wheel(tmp_path, "foo"))
    await indexed(backend, Project(name=FOO, files=(file,), status="quarantined"))
    await backend.fold_journal((await backend.read_journal()).cursor)
    other.add("foo", "foo-9.0.zip")
    for shadowing in ((), ("foo",)):
        repo = await repository(backend, other, allow_shadowing=shadowing)
        assert await filenames(repo) == []
        with pytest.raises(NotFoundError, match="is quarantined; its files are not offered"):
            await repo.find_file(FOO, file.filename)


async def test_files(backend, other, tmp_path):
    repo, follower = await followed(backend, other)
    file = await publish(backend, wheel(tmp_path, "foo"))
    assert await repo.find_file(FOO, WHEEL) == file, "the storage is asked for what another server just took"
    await follower.refresh()
    assert await repo.find_file(FOO, WHEEL) == file
    for name, filename in ((FOO, "foo-2.0-py3-none-any.whl"), (BAR, WHEEL), (FOO, "../x"), (FOO, "x" * 10_000)):
        with pytest.raises(NotFoundError, match="This repo has no file") as raised:
            await repo.find_file(name, filename)
        assert len(str(raised.value)) < 400


async def test_pages_are_made_once_and_again_when_something_changes(backend, other, tmp_path):
    await publish(backend, wheel(tmp_path, "foo"))
    repo, follower = await followed(backend, other)
    pages = {f: await repo.project_page(FOO, f) for f in PageFormat}
    roots = {f: await repo.root_page(f) for f in PageFormat}
    for page_format in PageFormat:
        assert await repo.project_page(FOO, page_format) is pages[page_format]
        assert await repo.root_page(page_format) is roots[page_format]
    await publish(backend, wheel(tmp_path, "foo", "2.0"))
    await follower.refresh()
    for page_format in PageFormat:
        page = await repo.project_page(FOO, page_format)
        assert page.etag != pages[page_format].etag
        assert b"foo-2.0" in page.body
        assert await repo.root_page(page_format) is roots[page_format], "the names are the same"
    await publish(backend, wheel(tmp_path, "bar"))
    await follower.refresh()
    assert (await repo.root_page(HTML)).etag != roots[HTML].etag
    assert json.loads((await repo.root_page(JSON)).body)["projects"] == [{"name": "bar"}, {"name": "foo"}]
