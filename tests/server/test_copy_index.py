"""Copying from a Simple index, as well or badly behaved as indexes are."""

import contextlib
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pywharf.core.errors import ForbiddenError, InvalidConfigError, PywharfError, UnavailableError, UpstreamError
from pywharf.core.names import ProjectName
from pywharf.egress import copied_index
from pywharf.egress.copied_index import CopiedIndexClient
from pywharf.egress.policy import Egress
from pywharf.index.copying.copier import Copier
from pywharf.index.copying.retrying import Retrying
from pywharf.index.copying.simple_index import SimpleIndexSource
from pywharf.index.copying.summary import CopySummary
from pywharf.index.ports import Backend
from support.distributions.wheels import sdist, wheel
from support.server.upstream import HTML, JSON, Answer, Upstream
from support.storage.copying import Quiet
from support.storage.storages import STORAGES
from support.storage.uploads import content, scanned

MOST = 1024 * 1024
FOO = ProjectName("foo")


@pytest.fixture
async def index() -> AsyncIterator[Upstream]:
    """Serve an index on loopback."""
    upstream = Upstream()
    async with upstream.serving():
        yield upstream


@pytest.fixture
async def target(tmp_path) -> AsyncIterator[Backend]:
    """Return an empty repo in memory."""
    backend = STORAGES["memory"].make(tmp_path)("index.json")
    yield backend
    await backend.aclose()


@pytest.fixture
def made(tmp_path) -> Path:
    """Create a folder for distributions."""
    folder: Path = tmp_path / "made"
    folder.mkdir()
    return folder


async def copy(
    index: Upstream,
    target: Backend,
    *,
    credentials: tuple[str, str] | None = None,
    allowed: tuple[str, ...] | None = None,
    names: tuple[ProjectName, ...] = (),
) -> CopySummary:
    client = CopiedIndexClient(index.url, "test", Egress(allowed), credentials)
    quick = Retrying(first_s=0.001)
    async with contextlib.aclosing(
        SimpleIndexSource(index.url, client, parallel=3, wanted=lambda _name: True, names=names, reading=quick)
    ) as source:
        return await Copier(source, target, parallel=3, max_file_bytes=MOST, shown=Quiet(), reading=quick).run(
            dry_run=False
        )


async def stored(target: Backend) -> dict[str, Any]:
    return {file.filename: file for project in (await scanned(target))[0] for file in project.files}


def page(*files: dict[str, Any], **more: Any) -> Answer:
    return Answer(json.dumps({"meta": {"api-version": "1.1"}, "name": "foo", "files": list(files), **more}).encode())


def entry(filename: str, **more: Any) -> dict[str, Any]:
    return {"filename": filename, "url": f"../../files/{filename}", "hashes": {}, **more}


@pytest.mark.parametrize("formats", [(JSON, HTML), (HTML,)])
async def test_files_arrive_with_what_the_pages_say(index, target, made, formats):
    paths = [wheel(made, "foo"), sdist(made, "foo"), wheel(made, "bar")]
    index.offer("foo", *paths[:2], formats=formats)
    index.offer("bar", paths[2], formats=formats)
    summary = await copy(index, target)
    assert (summary.projects, summary.copied, summary.unverified, summary.problems) == (2, 3, 0, ())
    found = await stored(target)
    for path in paths:
        file = found[path.name]
        assert await content(target, ProjectName(path.name.partition("-")[0]), file) == path.read_bytes()
        assert (file.metadata_sha256 is not None) == (path.suffix == ".whl")
        if formats == (JSON, HTML):
            assert file.upload_time == "2024-01-02T03:04:05.000000Z"
    before = len(index.requests)
    again = await copy(index, target)
    assert (again.copied, again.present, again.unverified) == (0, 3, 0)
    assert not [r for r in index.requests[before:] if "/files/" in r.path]


async def test_state_is_brought_over_and_never_taken_away(index, target, made):
    paths = [wheel(made, "foo"), sdist(made, "foo")]
    status = {"status": "deprecated", "reason": "use bar"}
    index.offer("foo", *paths)
    index.answers["foo"] = page(
        entry(paths[0].name, yanked="broken"), entry(paths[1].name, yanked=True), **{"project-status": status}
    )
    summary = await copy(index, target)
    assert (summary.copied, summary.problems) == (2, ())
    index.answers["foo"] = page(entry(paths[0].name), entry(paths[1].name))
    assert (await copy(index, target)).changed == 0
    (project,) = (await scanned(target))[0]
    assert (project.status, project.status_reason) == ("deprecated", "use bar")
    assert [file.yanked for file in project.files] == ["broken", ""]


async def test_without_digests_names_are_compared_and_the_summary_counts_them(index, target, made):
    path = wheel(made, "foo")
    index.offer("foo", path)
    index.answers["foo"] = Answer(f'<a href="../../files/{path.name}">x</a>'.encode(), HTML)
    first, second = await copy(index, target), await copy(index, target)
    assert (first.copied, first.unverified, second.present, second.unverified) == (1, 1, 1, 1)


@pytest.mark.parametrize(
    ("fragment", "problem"),
    [
        ("md5={md5}", None),
        ("md5=00", "its md5 is"),
        ("sha512=00", "its sha512 is"),
        ("nonsense=00", None),
    ],
)
async def test_older_digests_are_verified(index, target, made, fragment, problem):
    path = wheel(made, "foo")
    index.offer("foo", path)
    md5 = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    link = f"../../files/{path.name}#{fragment.format(md5=md5)}"
    index.answers["foo"] = Answer(f'<a href="{link}">x</a>'.encode(), HTML)
    summary = await copy(index, target)
    assert bool(summary.problems) == (problem is not None)
    assert problem is None or problem in summary.problems[0]


async def test_credentials_go_to_the_index_and_nowhere_else(index, target, made):
    index.credentials = "reader:secret"
    index.offer("foo", wheel(made, "foo"))
    with pytest.raises(ForbiddenError, match="--from_user"):
        await copy(index, target)
    with pytest.raises(ForbiddenError, match="with these credentials; check them") as raised:
        await copy(index, target, credentials=("reader", "guess"))
    assert "guess" not in str(raised.value)
    other = Upstream()
    async with other.serving():
        path = sdist(made, "foo")
        other.offer("foo", path)
        elsewhere = other.url.replace("/simple/", f"/files/{path.name}")
        index.answers["foo"] = page(entry(path.name, url=elsewhere))
        port = elsewhere.split(":")[2].split("/")[0]
        own = index.url.split("/")[2]
        allowed = (own, f"127.0.0.1:{port}")
        summary = await copy(index, target, credentials=("reader", "secret"), allowed=allowed)
        assert (summary.copied, summary.problems) == (1, ())
        assert all("Authorization" not in request.headers for request in other.requests)


NAME = "foo-1.0.tar.gz"
HOSTILE = {
    "wrong digest": ([entry(NAME, hashes={"sha256": "0" * 64})], None, "its SHA-256 is"),
    "longer than said": ([entry(NAME, size=10)], None, "it is longer than the 10 bytes"),
    "shorter than said": ([entry(NAME, size=10_000)], None, "bytes; the source says 10000"),
    "too large": ([entry(NAME)], Answer(b"", how="flood"), "over this repo's limit of 1048576 bytes"),
    "cut off": ([entry(NAME)], Answer(b"x" * 5000, how="cut"), "cannot be reached or read"),
    "gone": ([entry(NAME)], Answer(status=404), "The index answers 404"),
    "an error": ([entry(NAME)], Answer(status=500), "The index answers 500"),
    "no archive": ([entry(NAME)], Answer(b"PK"), "is not a readable tar.gz archive"),
    "another project's name": ([entry("bar-1.0.tar.gz")], None, "its name says 'bar'"),
    "a path": ([entry("..%2f..%2fetc%2fpasswd.tar.gz")], None, "is not the file name of a distribution"),
    "twice with other bytes": (
        [entry(NAME, hashes={"sha256": "0" * 64}), entry(NAME, hashes={"sha256": "1" * 64})],
        None,
        "the page lists it again with other bytes",
    ),
    "a private address": (
        [entry(NAME, url="http://169.254.169.254/foo-1.0.tar.gz")],
        None,
        "at a host that is not allowed",
    ),
    "this machine": ([entry(NAME, url="http://localhost:9/foo-1.0.tar.gz")], None, "at a host that is not allowed"),
    "a redirect to this machine": (
        [entry(NAME)],
        Answer(status=302, headers={"Location": "http://localhost:9/x"}),
        "redirects to an address that is this machine",
    ),
    "a redirect without end": (
        [entry(NAME)],
        Answer(status=302, headers={"Location": f"/files/{NAME}"}),
        "redirects more than 5 times",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
async def test_a_hostile_file_is_left_out_and_the_rest_is_copied(index, target, made, case):
    files, answer, problem = HOSTILE[case]
    good = wheel(made, "good")
    index.offer("foo", sdist(made, "foo"))
    index.offer("good", good)
    index.answers["foo"] = page(*files)
    if answer is not None:
        index.file_answers[NAME] = answer
    summary = await copy(index, target)
    assert list(await stored(target)) in ([good.name], [NAME, good.name]), summary
    assert [p for p in summary.problems if problem in p], summary.problems
    assert not list(target.staging_folder.iterdir())


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (Answer(b"<html>", HTML, how="flood"), "it has over 67108864 bytes"),
        (Answer(b"{"), "not a Simple API page"),
        (Answer(b"%PDF", "application/pdf"), "application/pdf"),
        (Answer(status=404), "answers 404"),
        (Answer(status=500), "answers 500"),
        (Answer(status=302, headers={"Location": "http://localhost:9/"}), "redirects to an address"),
    ],
)
async def test_a_hostile_page_is_left_out_and_the_rest_is_copied(index, target, made, answer, problem):
    index.offer("good", wheel(made, "good"))
    index.answers["foo"] = answer
    summary = await copy(index, target)
    assert (summary.copied, len(summary.problems)) == (1, 1)
    assert summary.problems[0].startswith("foo is left out: ")
    assert problem in summary.problems[0]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(status=404), InvalidConfigError),
        (Answer(status=403), ForbiddenError),
        (Answer(status=500), UnavailableError),
        (Answer(b"[]"), UpstreamError),
        (Answer(b"<html>", HTML, how="flood"), UpstreamError),
        (Answer(json.dumps({"projects": [{"name": f"p{n}"} for n in range(200_001)]}).encode()), UpstreamError),
    ],
)
async def test_without_a_list_of_projects_nothing_is_copied(index, target, answer, error):
    index.root = answer
    with pytest.raises(error):
        await copy(index, target)


async def test_an_index_that_lists_no_projects_gives_those_that_are_named(index, target, made):
    index.offer("foo", wheel(made, "foo"))
    index.root = Answer(status=404)
    assert (await copy(index, target, names=(FOO,))).copied == 1


async def test_names_that_are_no_projects_are_named(index, target, made):
    index.offer("foo", wheel(made, "foo"))
    index.root = Answer(b'<a href="foo/">foo</a><a href="../">up</a><a href="b%20r/">x</a><a>y</a>', HTML)
    summary = await copy(index, target)
    assert summary.copied == 1
    assert len(summary.problems) == 1
    assert "'b r' is not a valid project name" in summary.problems[0]


async def test_an_index_that_is_gone_ends_the_run(index, target):
    for number in range(30):
        index.answers[f"p{number}"] = Answer(status=500)
    with pytest.raises(PywharfError, match="answers 500"):
        await copy(index, target)
    assert len(index.requests) < 30 * 4


async def test_files_that_hang_or_drip_are_given_up(index, target, made, monkeypatch):
    monkeypatch.setattr(copied_index, "_PAGE_S", 0.3)
    monkeypatch.setattr(copied_index, "_WINDOW_S", 0.3)
    index.offer("good", wheel(made, "good"))
    index.answers["foo"] = page(entry(NAME), entry("foo-2.0.tar.gz"))
    index.file_answers = {NAME: Answer(how="drip"), "foo-2.0.tar.gz": Answer(how="hang")}
    summary = await copy(index, target)
    assert summary.copied == 1
    assert sorted(p.partition(": ")[2] for p in summary.problems) == ["The index did not answer in time."] * 2


async def test_a_rate_limit_is_waited_for(index, target, made):
    path = wheel(made, "foo")
    index.offer("foo", path)
    limits = [Answer(status=429, headers={"Retry-After": "1"})]
    offered = page(entry(path.name))
    index.answers["foo"] = lambda _asked: limits.pop() if limits else offered
    assert (await copy(index, target)).copied == 1
