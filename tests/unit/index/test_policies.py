"""Check what policies make of a repo's pages, downloads and uploads, and that time alone moves them."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pywharf.backends.memory import MemoryBackend
from pywharf.core.errors import AdvisoriesNotLoadedError, ForbiddenError, WithheldError
from pywharf.core.filenames import parse_upload_filename
from pywharf.core.model import rfc3339
from pywharf.core.names import ProjectName, RepoName
from pywharf.core.negotiation import PageFormat
from pywharf.core.policy.evaluation import RepoPolicies, Withheld, compile_policies
from pywharf.core.policy.model import (
    Cooldown,
    Deny,
    Policy,
    PolicyDocument,
    PolicyException,
    SetStatus,
    Yank,
)
from pywharf.core.reports import WithheldCount
from pywharf.index.advisories import CurrentAdvisories
from pywharf.index.enforcement import Enforcement
from pywharf.index.follower import Follower
from pywharf.index.lookups import UpstreamPolicy
from pywharf.index.page_cache import Page, PageCache
from pywharf.index.repository import Repository
from pywharf.index.shared_resources import SharedResources
from pywharf.index.upstream.extra_index import ExtraIndex
from pywharf.index.upstream.source import Source
from pywharf.index.withheld_tally import WithheldTally
from support.distributions.wheels import wheel
from support.server.other_index import URL, OtherIndex
from support.storage.uploads import publish

REPO = RepoName("team-a")
FOO, BAR = ProjectName("foo"), ProjectName("bar")
JSON, HTML = PageFormat.JSON, PageFormat.TEXT_HTML
DAY = 86_400.0
NOW = 1_800_000_000.0


class Clock:
    """A wall clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


class Repo:
    """A repo over a storage in memory and a fake of another index, with its clock."""

    def __init__(self) -> None:
        self.backend = MemoryBackend("index.json")
        self.other = OtherIndex()
        self.clock = Clock()
        self.tally = WithheldTally()
        self.advisories: Any = CurrentAdvisories()
        self.follower = Follower(REPO, self.backend)
        self.shadowing: tuple[str, ...] = ("shadowed",)
        self.pages = PageCache(10**8, self.clock)
        self.served = Repository(
            REPO,
            self.backend,
            self.follower,
            upstream=UpstreamPolicy(sources=(Source(url=URL),), allow_shadowing=self.shadowing),
            max_file_bytes=10**9,
            shared=SharedResources(
                ExtraIndex(self.other),
                pages=self.pages,
                clock=self.clock,
                withheld=self.tally,
                advisories=self.advisories,
            ),
        )

    async def publish(self, *paths: Path) -> None:
        for path in paths:
            await publish(self.backend, path)
        await self.follower.refresh()

    async def json(self, name: ProjectName = FOO) -> dict[str, Any]:
        """Return the JSON page, after comparing its files with the HTML page."""
        page = json.loads((await self.served.project_page(name, JSON)).body)
        html = (await self.served.project_page(name, HTML)).body.decode()
        files = [f["filename"] for f in page["files"]]
        assert html.count("<a ") == len(files)
        assert all(f">{f}</a>" in html for f in files)
        assert "<!--" not in html
        assert "_pywharf" not in html
        return dict(page)

    async def versions(self, name: ProjectName = FOO) -> object:
        return (await self.json(name))["versions"]

    async def root(self) -> list[str]:
        found = [p["name"] for p in json.loads((await self.served.root_page(JSON)).body)["projects"]]
        html = (await self.served.root_page(HTML)).body.decode()
        assert html.count("<a ") == len(found)
        return found


@pytest.fixture
async def repo() -> AsyncIterator[Repo]:
    made = Repo()
    await made.follower.refresh()
    yield made
    await made.served.aclose()


def policies(*given: Policy) -> RepoPolicies:
    return compile_policies(PolicyDocument(policies=given), REPO)


def cooldown(days: float) -> Policy:
    return Policy(name="ns/slow", cooldown=Cooldown(minimum_age_s=int(days * DAY)))


def deny(project: str = "foo", versions: str | None = None, reason: str = "stolen", **more: object) -> Policy:
    return Policy(name="ns/deny", deny=(Deny(project=project, versions=versions, reason=reason),), **more)  # type: ignore[arg-type]


async def test_an_upstream_file_appears_when_it_is_old_enough_without_any_write(repo):
    repo.other.add("foo", **{"1.0": rfc3339(NOW - 10 * DAY), "2.0": rfc3339(NOW - 6.5 * DAY), "3.0": rfc3339(NOW)})
    repo.served.enforce(policies(cooldown(7)))
    page = await repo.json()
    assert page["versions"] == ["1.0"]
    assert page["_pywharf"] == {
        "withheld": [
            {
                "filename": f"foo-{version}-py3-none-any.whl",
                "policy": "ns/slow",
                "rule": "Cooldown",
                "reason": "younger than 7d",
                "until": rfc3339(until).replace(".000000", ""),
            }
            for version, until in (("2.0", NOW + DAY / 2), ("3.0", NOW + 7 * DAY))
        ],
        "withheld-total": 2,
    }
    first = await repo.served.project_page(FOO, JSON)
    repo.clock.now = NOW + DAY / 2 - 0.001
    assert await repo.served.project_page(FOO, JSON) is first
    repo.clock.now = NOW + DAY / 2
    second = await repo.served.project_page(FOO, JSON)
    assert second.etag != first.etag
    assert await repo.versions() == ["1.0", "2.0"]
    assert await repo.served.project_page(FOO, JSON) is second
    repo.clock.now = NOW + 7 * DAY
    assert await repo.versions() == ["1.0", "2.0", "3.0"]
    assert "_pywharf" not in await repo.json()


async def test_a_clock_that_is_set_back_or_forth_shows_what_is_right_at_its_time(repo):
    repo.other.add("foo", **{"1.0": rfc3339(NOW - 10 * DAY), "2.0": rfc3339(NOW - DAY)})
    repo.served.enforce(policies(cooldown(7)))
    for days, expected in ((0, 1), (30, 2), (0, 1), (-2, 1), (-5, 0), (5.5, 1), (6, 2), (-400, 0), (8, 2)):
        repo.clock.now = NOW + days * DAY
        shown = await repo.json()
        assert len(shown["files"]) == expected, days


async def test_an_exception_ends_on_time(repo, tmp_path):
    await repo.publish(wheel(tmp_path, "foo"))
    exception = PolicyException(project="foo", of=("Deny",), until=NOW + 5, reason="until tomorrow")
    repo.served.enforce(policies(deny(exceptions=(exception,))))
    assert (await repo.versions(), await repo.root()) == (["1.0"], ["foo"])
    await repo.served.find_file(FOO, "foo-1.0-py3-none-any.whl")
    repo.clock.now = NOW + 5
    assert (await repo.versions(), await repo.root()) == ([], [])
    with pytest.raises(WithheldError, match=r"^Withheld by Deny of the policy ns/deny: stolen$"):
        await repo.served.find_file(FOO, "foo-1.0-py3-none-any.whl")
    repo.clock.now = NOW
    assert (await repo.versions(), await repo.root()) == (["1.0"], ["foo"])


async def test_a_withheld_own_file_is_on_no_page_and_is_not_sent(repo, tmp_path):
    await repo.publish(wheel(tmp_path, "foo"), wheel(tmp_path, "foo", "2.0"), wheel(tmp_path, "bar"))
    assert (await repo.versions(), await repo.root()) == (["1.0", "2.0"], ["bar", "foo"])
    repo.served.enforce(policies(deny(versions="==2.0")))
    page = await repo.json()
    assert (page["versions"], await repo.root()) == (["1.0"], ["bar", "foo"])
    assert [one["filename"] for one in page["_pywharf"]["withheld"]] == ["foo-2.0-py3-none-any.whl"]
    await repo.served.find_file(FOO, "foo-1.0-py3-none-any.whl")
    with pytest.raises(WithheldError) as raised:
        await repo.served.find_file(FOO, "foo-2.0-py3-none-any.whl")
    error = raised.value
    assert (error.policy, error.rule, error.reason, error.until) == ("ns/deny", "Deny", "stolen", None)
    repo.served.enforce(policies(deny()))
    page = await repo.json()
    assert (page["files"], page["versions"], await repo.root()) == ([], [], ["bar"])
    assert repo.other.asked == [], "a name stays the repo's when none of its files is left"


async def test_a_download_is_evaluated_once_while_nothing_changes(repo, tmp_path):
    paths = [wheel(tmp_path, "foo"), wheel(tmp_path, "foo", "2.0"), wheel(tmp_path, "bar")]
    await repo.publish(*paths)
    until = NOW + 60
    exception = PolicyException(project="foo", of=("Deny",), until=until, reason="in use")
    given = policies(deny(exceptions=(exception,)))
    real = given.evaluate
    evaluated: list[str] = []

    def counting(project, **more):
        evaluated.extend(f.filename for f in project.files)
        return real(project, **more)

    given.evaluate = counting  # type: ignore[method-assign]
    repo.served.enforce(given)
    for _ in range(3):
        for path in paths:
            await repo.served.find_file(ProjectName(path.name[:3]), path.name)
    assert sorted(evaluated) == sorted(path.name for path in paths[:2])
    repo.clock.now = until
    for _ in range(3):
        with pytest.raises(WithheldError):
            await repo.served.find_file(FOO, paths[0].name)
    assert len(evaluated) == 3


@pytest.mark.parametrize(("rules", "specifiers", "apart"), [(3, 2, False), (300, 2, True), (30, 20, True)])
async def test_many_rules_about_one_project_do_not_hold_up_the_event_loop(repo, tmp_path, rules, specifiers, apart):
    path = wheel(tmp_path, "foo")
    await repo.publish(path, wheel(tmp_path, "bar"))
    more = ",".join(f"!=3.{n}" for n in range(specifiers - 1))
    denials = (Deny(project="f*", versions=f">=2.{n},{more}", reason="stolen") for n in range(rules))
    given = policies(Policy(name="ns/many", deny=tuple(denials)))
    threads: dict[str, set[bool]] = {}
    real = given.evaluate

    def noting(project, **more):
        threads.setdefault(project.name, set()).add(threading.current_thread() is not threading.main_thread())
        return real(project, **more)

    given.evaluate = noting  # type: ignore[method-assign]
    repo.served.enforce(given)
    assert await repo.root() == ["bar", "foo"]
    assert await repo.versions() == ["1.0"]
    assert (await repo.served.find_file(FOO, path.name)).filename == path.name
    assert threads == {"foo": {apart}}, "the root page, the project's page or the download used the wrong thread"


@pytest.mark.parametrize(("rules", "files", "apart"), [(3, 150, False), (50, 150, True), (0, 5_000, True)])
def test_what_takes_long_depends_on_rules_and_files(rules, files, apart):
    denials = tuple(Deny(project="f*", versions=f">={n},<{n + 1}") for n in range(rules))
    assert Enforcement(REPO, policies(Policy(name="ns/many", deny=denials))).takes_long(FOO, files) == apart


@pytest.mark.parametrize(("advisories", "apart"), [(None, False), ("Report", False), ("Block", True)])
def test_advisories_count_for_each_file(advisories, apart):
    enforcement = Enforcement(REPO, policies(Policy(name="ns/x", advisories=advisories)))
    assert enforcement.takes_long(FOO, 3_000) == apart


async def test_patterns_are_tried_once_for_a_name_and_in_a_thread_for_all_names(repo, tmp_path):
    await repo.publish(wheel(tmp_path, "foo"), wheel(tmp_path, "bar"))
    given = policies(deny("*o*x*"))
    asked, threads = [], set()

    class Noting(RepoPolicies):
        def concerns(self, name, **more):
            asked.append(name)
            return given.concerns(name, **more)

        def hides_whole_projects(self, names, advisories=None):
            threads.add(threading.current_thread() is not threading.main_thread())
            return given.hides_whole_projects(names, advisories)

    repo.served.enforce(Noting())
    for _ in range(5):
        await repo.served.find_file(FOO, "foo-1.0-py3-none-any.whl")
        assert await repo.root() == ["bar", "foo"]
    assert (asked, threads) == ([FOO], {True})


async def test_a_policy_counts_for_downloads_that_wait_for_an_evaluation(repo, tmp_path):
    """Concurrent downloads share one evaluation, and none is allowed by policies that have ended meanwhile."""
    paths = [wheel(tmp_path, "foo", f"{n}.0") for n in range(1, 7)]
    await repo.publish(*paths, wheel(tmp_path, "bar"))
    many = tuple(Deny(project="*", versions=f">=20.{n},<20.{n + 1}", reason="old") for n in range(5_000))
    given = policies(Policy(name="ns/many", deny=many))
    real, evaluated, began, go_on = given.evaluate, [], threading.Event(), threading.Event()

    def slow(project, **more):
        evaluated.append(project.name)
        began.set()
        assert go_on.wait(20)
        return real(project, **more)

    given.evaluate = slow  # type: ignore[method-assign]
    repo.served.enforce(given)
    downloads = [asyncio.create_task(repo.served.find_file(FOO, path.name)) for path in paths]
    downloads.append(asyncio.create_task(repo.served.find_file(BAR, "bar-1.0-py3-none-any.whl")))
    assert await asyncio.to_thread(began.wait, 20)
    repo.served.enforce(policies(deny("*")))
    go_on.set()
    found = await asyncio.gather(*downloads, return_exceptions=True)
    assert all(isinstance(one, WithheldError) for one in found), found
    assert evaluated == ["foo"]


async def test_downloads_of_a_project_with_many_rules_are_evaluated_together(repo, tmp_path):
    paths = [wheel(tmp_path, "foo", f"{n}.0") for n in range(1, 7)]
    await repo.publish(*paths)
    many = tuple(Deny(project="*", versions=f">=3.{n},<3.{n + 1}", reason="old") for n in range(5_000))
    exception = PolicyException(project="foo", of=("Deny",), until=NOW + 5, reason="in use")
    given = policies(Policy(name="ns/many", deny=many, exceptions=(exception,)))
    real, evaluated = given.evaluate, []

    def noting(project, **more):
        evaluated.append(len(project.files))
        return real(project, **more)

    given.evaluate = noting  # type: ignore[method-assign]
    repo.served.enforce(given)
    for _ in range(2):
        await asyncio.gather(*(repo.served.find_file(FOO, path.name) for path in paths))
    assert evaluated == [6]
    repo.clock.now = NOW + 5
    found = await asyncio.gather(*(repo.served.find_file(FOO, p.name) for p in paths), return_exceptions=True)
    assert [isinstance(one, WithheldError) for one in found] == [n == 3 for n in range(1, 7)]
    assert evaluated == [6, 6]
    await publish(repo.backend, wheel(tmp_path, "foo", "7.0"))
    assert (await repo.served.find_file(FOO, "foo-7.0-py3-none-any.whl")).filename == "foo-7.0-py3-none-any.whl"


async def test_a_file_that_only_another_replica_knows_is_withheld_too(repo, tmp_path):
    await publish(repo.backend, wheel(tmp_path, "foo"))
    repo.served.enforce(policies(deny()))
    with pytest.raises(WithheldError):
        await repo.served.find_file(FOO, "foo-1.0-py3-none-any.whl")
    assert await repo.versions() == []


async def test_yanks_and_statuses_of_a_policy_are_laid_over_and_taken_away_with_it(repo, tmp_path):
    await repo.publish(wheel(tmp_path, "foo"), wheel(tmp_path, "foo", "2.0"))
    before = await repo.backend.read_journal(), await repo.backend.read_index()
    plain = await repo.json()
    overlay = Policy(
        name="ns/overlay",
        yank=(Yank(project="foo", versions="<2", reason="broken"),),
        status=(SetStatus(project="foo", status="archived", reason="use bar"),),
    )
    repo.served.enforce(policies(overlay))
    page = await repo.json()
    assert [f["yanked"] for f in page["files"]] == ["broken", False]
    assert page["project-status"] == {"status": "archived", "reason": "use bar"}
    assert b'data-yanked="broken"' in (await repo.served.project_page(FOO, HTML)).body
    repo.served.enforce(None)
    assert await repo.json() == plain
    assert (await repo.backend.read_journal(), await repo.backend.read_index()) == before


@pytest.mark.parametrize("status", ["archived", "quarantined", "deprecated"])
@pytest.mark.parametrize("is_known", [True, False])
async def test_a_policy_s_status_refuses_uploads(repo, tmp_path, status, is_known):
    if is_known:
        await repo.publish(wheel(tmp_path, "foo"))
    repo.served.enforce(policies(Policy(name="ns/x", status=(SetStatus(project="foo", status=status, reason="why"),))))
    path = wheel(tmp_path, "foo", "2.0")

    async def upload() -> None:
        async with repo.served.stage() as staged:
            await staged.write(path.read_bytes())
            await repo.served.publish(parse_upload_filename(path.name), {}, staged)

    if status == "deprecated":
        await upload()
        return
    with pytest.raises(ForbiddenError, match=rf"^The project 'foo' is {status} and takes no uploads: why$"):
        await upload()
    repo.served.enforce(None)
    await upload()


async def test_another_index_s_file_never_stands_in_for_an_own_one_that_is_withheld(repo, tmp_path):
    shadowed = ProjectName("shadowed")
    path = wheel(tmp_path, "shadowed")
    await repo.publish(path)
    repo.other.add("shadowed", path.name, "shadowed-2.0-py3-none-any.whl")
    assert await repo.versions(shadowed) == ["1.0", "2.0"]
    file = await repo.served.find_file(shadowed, path.name)
    by_digest = Policy(name="ns/x", deny=(Deny(project="shadowed", sha256=file.sha256),))
    repo.served.enforce(policies(by_digest))
    assert await repo.versions(shadowed) == ["2.0"]
    repo.served.enforce(policies(by_digest, cooldown(7)))
    page = await repo.json(shadowed)
    assert page["files"] == []
    assert page["_pywharf"]["withheld-total"] == 2
    assert await repo.root() == []


async def test_pages_stay_cached_until_the_policies_are_others(repo, tmp_path):
    await repo.publish(wheel(tmp_path, "foo"))
    first = policies(cooldown(7), deny("bar"))
    repo.served.enforce(first)
    pages = {f: await repo.served.project_page(FOO, f) for f in PageFormat}
    root = await repo.served.root_page(JSON)
    repo.clock.now += 400 * DAY
    repo.served.enforce(first)
    assert all([await repo.served.project_page(FOO, f) is page for f, page in pages.items()])
    assert await repo.served.root_page(JSON) is root
    repo.served.enforce(policies(deny("bar")))
    again = await repo.served.project_page(FOO, JSON)
    assert again is not pages[JSON]
    assert again.etag == pages[JSON].etag
    assert await repo.served.root_page(JSON) is root, "the names are the same"


async def test_a_policy_counts_for_pages_that_are_just_being_looked_up(repo):
    """The other index may take seconds to answer, and a page must not leave then as an older policy showed it."""
    repo.other.add("foo", "foo-1.0-py3-none-any.whl")
    repo.other.answers.clear()
    asking = asyncio.create_task(repo.served.project_page(FOO, JSON))
    async with asyncio.timeout(20):
        while not repo.other.asked:  # noqa: ASYNC110 - no event reports it
            await asyncio.sleep(0)
    repo.served.enforce(policies(deny()))
    repo.other.answers.set()
    assert json.loads((await asking).body)["files"] == []


async def test_a_policy_counts_for_pages_that_wait_for_a_slot(repo, monkeypatch):
    repo.other.add("foo", *(f"foo-{n}-py3-none-any.whl" for n in range(300)))
    real, made = repo.pages.get_or_make, []

    async def slow(*args: object, **kwargs: object) -> Page:
        page: Page = await real(*args, **kwargs)
        made.append(page)
        if len(made) == 1:
            repo.served.enforce(policies(deny()))
        return page

    monkeypatch.setattr(repo.pages, "get_or_make", slow)
    page = await repo.served.project_page(FOO, JSON)
    assert [len(json.loads(one.body)["files"]) for one in made] == [300, 0]
    assert page is made[1]


async def test_who_comes_after_a_page_s_time_does_not_get_it_from_somebody_who_came_before(repo):
    """A large page is made in a thread, for all callers together."""
    names = [f"foo-{n}-py3-none-any.whl" for n in range(300)]
    repo.other.add("foo", *names, **{"9.0": rfc3339(NOW)})
    given = policies(Policy(name="ns/slow", cooldown=Cooldown(minimum_age_s=60, missing_time="Allow")))
    real, evaluated, go_on = given.evaluate, threading.Event(), threading.Event()

    def slow(project, **more):
        found = real(project, **more)
        evaluated.set()
        assert go_on.wait(20)
        return found

    given.evaluate = slow  # type: ignore[method-assign]
    repo.served.enforce(given)
    first = asyncio.create_task(repo.served.project_page(FOO, JSON))
    assert await asyncio.to_thread(evaluated.wait, 20)
    repo.clock.now = NOW + 60
    second = asyncio.create_task(repo.served.project_page(FOO, JSON))
    for _ in range(20):
        await asyncio.sleep(0)
    go_on.set()
    assert [len(json.loads((await asked).body)["files"]) for asked in (first, second)] == [300, 301]


async def test_a_page_names_at_most_a_thousand_withheld_files(repo):
    repo.other.add("foo", *(f"foo-{n}-py3-none-any.whl" for n in range(1_500)))
    repo.served.enforce(policies(deny(reason="x" * 512)))
    page = await repo.json()
    found = page["_pywharf"]
    assert (len(found["withheld"]), found["withheld-total"]) == (1_000, 1_500)
    assert len((await repo.served.project_page(FOO, JSON)).body) < 1_000_000


async def test_upload_times_of_any_year_make_a_page(repo):
    times = {"1.0": "9999-12-31T23:59:59Z", "2.0": "0001-01-01T00:00:00Z", "3.0": "nonsense", "4.0": ""}
    repo.other.add("foo", **times)
    repo.served.enforce(policies(cooldown(3650)))
    page = await repo.json()
    assert page["versions"] == ["2.0"]
    assert [one["until"] for one in page["_pywharf"]["withheld"]] == [None, None, None]


async def test_only_what_changed_is_evaluated_again_for_the_root_page(repo, tmp_path):
    paths = [wheel(tmp_path, f"acme-{n}") for n in range(30)]
    await repo.publish(*paths, wheel(tmp_path, "foo"))
    given = policies(deny("acme-*", versions="==1.0"))
    evaluated: list[str] = []
    real = given.evaluate

    class Counting(RepoPolicies):
        def evaluate(self, project, **more):
            evaluated.append(project.name)
            return real(project, **more)

        def hides_whole_projects(self, names, advisories=None):
            return given.hides_whole_projects(names, advisories)

        def concerns(self, name, **more):
            return given.concerns(name, **more)

    repo.served.enforce(Counting())
    assert await repo.root() == ["foo"]
    assert len(evaluated) == 30
    assert await repo.root() == ["foo"]
    await repo.publish(wheel(tmp_path, "acme-7", "2.0"), wheel(tmp_path, "bar"))
    assert await repo.root() == ["acme-7", "bar", "foo"]
    assert evaluated[30:] == ["acme-7"]


async def test_a_name_is_matched_once_for_the_root_page_whatever_is_published_or_reported_later(repo, tmp_path):
    await repo.publish(wheel(tmp_path, "foo"), wheel(tmp_path, "acme-x"))
    given = policies(deny("*-x*"), Policy(name="ns/malware", advisories="Block"))
    matched: list[set[str]] = []

    real = given.hides_whole_projects

    def noting(names, advisories=None):
        names = tuple(names)
        matched.append(set(names))
        return real(names, advisories)

    given.hides_whole_projects = noting  # type: ignore[method-assign]
    repo.advisories.replace(Feed(()))
    repo.served.enforce(given)
    assert await repo.root() == ["foo"]
    await repo.publish(wheel(tmp_path, "bar"), wheel(tmp_path, "other-x"))
    assert await repo.root() == ["bar", "foo"]
    repo.advisories.replace(Feed(("bar",)))
    assert await repo.root() == ["foo"]
    await repo.publish(wheel(tmp_path, "baz"))
    assert await repo.root() == ["baz", "foo"]
    repo.advisories.replace(Feed(("baz",)))
    assert await repo.root() == ["bar", "foo"]
    assert matched == [{"foo", "acme-x"}, {"bar", "other-x"}, {"baz"}]


async def test_an_upload_s_status_is_evaluated_in_a_thread_by_the_newest_policies(repo, tmp_path):
    path = wheel(tmp_path, "foo", "2.0")
    many = tuple(Deny(project="foo", versions=f">=3.{n},<3.{n + 1}", reason="old") for n in range(1_000))
    given = policies(Policy(name="ns/many", deny=many))
    real, evaluated, go_on = given.evaluate, threading.Event(), threading.Event()

    def slow(project, **more):
        found = real(project, **more)
        evaluated.set()
        assert go_on.wait(20)
        return found

    given.evaluate = slow  # type: ignore[method-assign]
    repo.served.enforce(given)
    async with repo.served.stage() as staged:
        await staged.write(path.read_bytes())
        publishing = asyncio.create_task(repo.served.publish(parse_upload_filename(path.name), {}, staged))
        assert await asyncio.to_thread(evaluated.wait, 20), "the event loop was free meanwhile"
        repo.served.enforce(policies(Policy(name="ns/end", status=(SetStatus(project="foo", status="archived"),))))
        go_on.set()
        with pytest.raises(ForbiddenError, match="is archived and takes no uploads"):
            await publishing


async def test_what_is_withheld_is_counted_by_policy_and_rule(repo, tmp_path):
    await repo.publish(wheel(tmp_path, "foo"), wheel(tmp_path, "foo", "2.0"), wheel(tmp_path, "bar"))
    repo.other.add("other", **{"1.0": rfc3339(NOW)})
    repo.served.enforce(policies(deny("*", versions="<2"), cooldown(7)))
    for name in (FOO, BAR, ProjectName("other")):
        await repo.json(name)
    assert repo.tally.by_policy() == {"ns/deny": WithheldCount(3, 3)}
    repo.served.enforce(policies(deny("foo"), cooldown(7)))
    for name in (FOO, BAR, ProjectName("other")):
        await repo.json(name)
    assert repo.tally.by_policy() == {"ns/deny": WithheldCount(2, 1), "ns/slow": WithheldCount(1, 1)}
    assert repo.tally.by_rule() == {"Deny": 2, "Cooldown": 1}
    repo.tally.retain({"ns/slow"}, {REPO})
    assert repo.tally.by_policy() == {"ns/slow": WithheldCount(1, 1)}
    repo.tally.retain({"ns/slow"}, set())
    assert repo.tally.by_policy() == {}


def test_what_is_counted_is_bounded():
    tally = WithheldTally(2)
    withheld = [Withheld("a-1.0.tar.gz", "ns/deny", "Deny", "", None)]
    for name in ("a", "b", "c"):
        tally.note(REPO, ProjectName(name), withheld)
    assert tally.by_policy() == {"ns/deny": WithheldCount(2, 2)}
    tally.note(REPO, ProjectName("d"), [Withheld("d.zip", f"ns/{n}", "Deny", "", None) for n in range(3)])
    assert tally.by_policy() == {"ns/deny": WithheldCount(2, 2)}


class Feed(msgspec.Struct, frozen=True):
    """Advisories of malware about every version of some projects."""

    names: tuple[str, ...] = ()

    @property
    def revision(self) -> str:
        return ",".join(self.names)

    def concerns_malware(self, project: ProjectName) -> bool:
        return project in self.names

    def malware_id(self, project: ProjectName, version: str | None) -> str | None:
        del version
        return "MAL-2026-1" if project in self.names else None


async def test_newer_advisories_make_pages_anew(repo, tmp_path):
    await repo.publish(wheel(tmp_path, "foo"))
    repo.served.enforce(policies(Policy(name="ns/block", advisories="Block")))
    repo.advisories.replace(Feed())
    assert (await repo.versions(), await repo.root()) == (["1.0"], ["foo"])
    repo.advisories.replace(Feed(("foo",)))
    assert (await repo.versions(), await repo.root()) == ([], [])
    with pytest.raises(WithheldError, match=r"^Withheld by Advisory of the policy ns/block: MAL-2026-1 reports it"):
        await repo.served.find_file(FOO, "foo-1.0-py3-none-any.whl")


async def test_a_policy_that_needs_advisories_shows_nothing_without_them(repo, tmp_path):
    path = wheel(tmp_path, "foo")
    await repo.publish(path)
    assert await repo.versions() == ["1.0"]
    repo.served.enforce(policies(Policy(name="ns/block", advisories="Block")))
    with pytest.raises(AdvisoriesNotLoadedError):
        await repo.served.project_page(FOO, JSON)
    with pytest.raises(AdvisoriesNotLoadedError):
        await repo.served.root_page(HTML)
    with pytest.raises(AdvisoriesNotLoadedError):
        await repo.served.find_file(FOO, path.name)
    repo.served.enforce(policies(Policy(name="ns/report", advisories="Report")))
    assert (await repo.versions(), await repo.root()) == (["1.0"], ["foo"])
