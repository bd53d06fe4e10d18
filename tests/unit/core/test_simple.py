"""Check the pages field by field against PEP 503, 592, 629, 658, 691, 700, 714 and 792."""

import html
import json
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywharf.core.model import STATUSES, File, Project
from pywharf.core.names import ProjectName
from pywharf.core.simple import project_html, project_json, root_html, root_json, versions

BASE = "http://127.0.0.1:8888/repo/team-a/simple/foo/"
FOO = ProjectName("foo")
A, B = "a" * 64, "b" * 64
FULL = File(
    filename="foo-1.0-py3-none-any.whl",
    sha256=A,
    size=10,
    upload_time="2026-01-02T03:04:05.000006Z",
    requires_python=">=3.8,<4",
    metadata_sha256=B,
    yanked='<b>"broken" & bad</b>',
)
BARE = File(filename="foo-1.0.tar.gz", sha256=B, size=0)
UNSIZED = File(filename="foo-0.9.tar.gz", sha256=A)
YANKED = File(filename="foo-1.1+local!.zip", sha256=A, size=1, yanked="")


class _Page(HTMLParser):
    """A parsed page: its anchors with their texts, its meta elements and its tags."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.anchors: list[dict[str, str | None]] = []
        self.texts: list[str] = []
        self.meta: dict[str, str | None] = {}
        self.tags: set[str] = set()
        self._in_anchor = False
        self.feed(page.decode("utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        given = dict(attrs)
        assert len(given) == len(attrs), f"an attribute stands twice: {attrs}"
        if tag == "a":
            self.anchors.append(given)
            self.texts.append("")
            self._in_anchor = True
        if tag == "meta" and given.get("name"):
            self.meta[str(given["name"])] = given.get("content")

    def handle_endtag(self, tag: str) -> None:
        self._in_anchor = self._in_anchor and tag != "a"

    def handle_data(self, data: str) -> None:
        if self._in_anchor:
            self.texts[-1] += data


PAGE_TAGS = {"html", "head", "meta", "title", "body", "h1", "a", "br"}


def check_html(project: Project, page: bytes) -> None:
    """Check an HTML page against PEP 503, 592, 629, 658, 714 and 792."""
    assert page.startswith(b"<!DOCTYPE html>\n")
    parsed = _Page(page)
    assert parsed.tags <= PAGE_TAGS
    assert parsed.meta["pypi:repository-version"] == "1.4"
    files = project.files if project.offers_files else ()
    assert parsed.texts == [f.filename for f in files]
    for anchor, file in zip(parsed.anchors, files, strict=True):
        expected = {"href": anchor["href"]}
        if file.requires_python is not None:
            expected["data-requires-python"] = file.requires_python
        if file.metadata_sha256 is not None:
            expected["data-core-metadata"] = expected["data-dist-info-metadata"] = f"sha256={file.metadata_sha256}"
        if file.yanked is not None:
            expected["data-yanked"] = file.yanked
        assert anchor == expected
        link = urlsplit(urljoin(BASE, str(anchor["href"])))
        assert unquote(link.path) == urlsplit(BASE).path + file.filename
        assert (link.fragment, link.query) == (f"sha256={file.sha256}", "")


def check_json(project: Project, page: bytes) -> None:
    """Check a JSON page against PEP 691, 592, 700, 714 and 792."""
    document = json.loads(page)
    assert document.keys() == {"meta", "name", "project-status", "versions", "files"}
    assert document["meta"] == {"api-version": "1.4"}
    assert document["name"] == project.name
    status = {"status": project.status}
    assert document["project-status"] == (status | ({"reason": project.status_reason} if project.status_reason else {}))
    files = [f for f in project.files if f.size is not None] if project.offers_files else []
    assert [f["filename"] for f in document["files"]] == [f.filename for f in files]
    for entry, file in zip(document["files"], files, strict=True):
        expected: dict[str, Any] = {
            "filename": file.filename,
            "url": entry["url"],
            "hashes": {"sha256": file.sha256},
            "size": file.size,
            "yanked": False if file.yanked is None else file.yanked or True,
        }
        if file.upload_time is not None:
            expected["upload-time"] = file.upload_time
        if file.requires_python is not None:
            expected["requires-python"] = file.requires_python
        if file.metadata_sha256 is not None:
            expected["core-metadata"] = {"sha256": file.metadata_sha256}
        assert entry == expected  # no dist-info-metadata: pip 22.3 to 23.1 fail on it (PEP 714)
        link = urlsplit(urljoin(BASE, entry["url"]))
        assert unquote(link.path) == urlsplit(BASE).path + file.filename
        assert (link.fragment, link.query) == ("", "")
    assert len(set(document["versions"])) == len(document["versions"])


PROJECTS = {
    "no files": Project(name=FOO),
    "all fields": Project(name=FOO, files=(FULL,)),
    "no fields": Project(name=FOO, files=(BARE,)),
    "many": Project(name=FOO, files=(FULL, BARE, YANKED)),
    "unknown size": Project(name=FOO, files=(UNSIZED, BARE)),
    "archived": Project(name=FOO, files=(FULL,), status="archived"),
    "deprecated": Project(name=FOO, files=(FULL,), status="deprecated", status_reason='use <b>bar</b> & "baz"'),
    "quarantined": Project(name=FOO, files=(FULL,), status="quarantined", status_reason="malware"),
    "names from elsewhere": Project(
        name=FOO,
        files=tuple(
            File(filename=name, sha256=A, size=1)
            for name in (
                '"><script>alert(1)</script>.zip',
                "a b.zip",
                "a%2fb.zip",
                "a#b?c.zip",
                "f\u00f6\u00f6.zip",
                "a:b",
            )
        ),
    ),
}


@pytest.mark.parametrize("project", PROJECTS.values(), ids=PROJECTS)
def test_project_page(project):
    check_html(project, project_html(project))
    check_json(project, project_json(project))


texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)
files = st.builds(
    File,
    filename=texts.filter(lambda t: t.strip() == t and t not in {"", ".", ".."} and "/" not in t),
    sha256=st.sampled_from([A, B]),
    size=st.one_of(st.none(), st.integers(0, 2**50)),
    upload_time=st.one_of(st.none(), st.just("2026-01-02T03:04:05.000006Z")),
    requires_python=st.one_of(st.none(), texts),
    metadata_sha256=st.one_of(st.none(), st.just(B)),
    yanked=st.one_of(st.none(), texts),
)


@given(
    st.lists(files, max_size=4, unique_by=lambda f: f.filename),
    st.sampled_from(STATUSES),
    st.one_of(st.none(), texts),
)
def test_any_project_page(listed, status, reason):
    project = Project(name=FOO, files=tuple(listed), status=status, status_reason=reason)
    check_html(project, project_html(project))
    check_json(project, project_json(project))


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("reason", [None, "", 'because of "<x>" & y'])
def test_status(status, reason):
    project = Project(name=FOO, files=(FULL,), status=status, status_reason=reason)
    meta = _Page(project_html(project)).meta
    if status == "active":
        assert meta.keys() == {"pypi:repository-version"}
    else:
        assert meta["pypi:project-status"] == status
        assert meta.get("pypi:project-status-reason") == (reason or None)
    document = json.loads(project_json(project))
    assert document["project-status"].get("reason") == (reason or None)
    assert bool(document["files"]) is (status != "quarantined")
    assert (project.offers_files, project.takes_uploads) == (
        status != "quarantined",
        status in {"active", "deprecated"},
    )


def test_size_that_is_not_known_yet_leaves_the_file_out_of_json_alone():
    project = PROJECTS["unknown size"]
    assert UNSIZED.filename in project_html(project).decode()
    document = json.loads(project_json(project))
    assert [f["filename"] for f in document["files"]] == [BARE.filename]
    assert set(document["versions"]) >= {"1.0"}


def test_nothing_breaks_out_of_an_attribute():
    hostile = '"><script>alert(1)</script><a x="'
    file = msgspec.structs.replace(
        FULL, filename=hostile, sha256=hostile, metadata_sha256=hostile, requires_python=hostile, yanked=hostile
    )
    project = Project(name=FOO, files=(file,), status=hostile, status_reason=hostile)
    for foreign in (False, True):
        located = msgspec.structs.replace(project, files=(msgspec.structs.replace(file, location=hostile),))
        page = project_html(located if foreign else project, foreign=foreign)
        assert _Page(page).tags <= PAGE_TAGS
        assert b"<script" not in page
    assert html.escape(hostile).encode() in project_html(project)


# --- foreign pages, whose files are on other hosts -------------------------------------------------------------

ELSEWHERE = "https://files.example/x/foo-1.0.tar.gz"
FOREIGN = File(filename="foo-1.0.tar.gz", sha256=A, size=3, location=ELSEWHERE)


def test_foreign_page_links_to_the_location():
    project = Project(name=FOO, files=(FOREIGN,))
    (anchor,) = _Page(project_html(project, foreign=True)).anchors
    assert anchor == {"href": f"{ELSEWHERE}#sha256={A}"}
    (entry,) = json.loads(project_json(project, foreign=True))["files"]
    assert (entry["url"], entry["hashes"]) == (ELSEWHERE, {"sha256": A})


def test_foreign_page_without_hashes_or_with_metadata_of_no_hash():
    file = msgspec.structs.replace(FOREIGN, sha256="", metadata_sha256="", location=f"{ELSEWHERE}#md5=0")
    project = Project(name=FOO, files=(file,))
    (anchor,) = _Page(project_html(project, foreign=True)).anchors
    assert anchor == {
        "href": f"{ELSEWHERE}#md5=0",
        "data-core-metadata": "true",
        "data-dist-info-metadata": "true",
    }
    (entry,) = json.loads(project_json(project, foreign=True))["files"]
    assert (entry["hashes"], entry["core-metadata"]) == ({}, True)


@pytest.mark.parametrize(("size", "version"), [(3, "1.4"), (None, "1.0")])
def test_foreign_page_says_the_version_it_can_keep(size, version):
    """From version 1.1 on, PEP 700 requires every file's size and the list of versions."""
    file = msgspec.structs.replace(FOREIGN, size=size)
    document = json.loads(project_json(Project(name=FOO, files=(file, FOREIGN)), foreign=True))
    assert document["meta"]["api-version"] == version
    assert len(document["files"]) == 2
    assert ("versions" in document) == ("project-status" in document) == (version == "1.4")


# --- the root --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [(), ("foo",), ("a", "b-c", "z9")])
def test_root_page(names):
    page = _Page(root_html(names))
    assert page.meta["pypi:repository-version"] == "1.4"
    assert page.texts == list(names)
    assert page.anchors == [{"href": f"{name}/"} for name in names]
    document = json.loads(root_json(names))
    assert document == {"meta": {"api-version": "1.4"}, "projects": [{"name": name} for name in names]}


def test_versions_come_once_each():
    filenames = [
        "foo-1.0.tar.gz",
        "foo-1.0-py3-none-any.whl",
        "foo-1.00.zip",
        "foo-2.tar.bz2",
        "foo-x.zip",
        "bar-3.zip",
    ]
    assert versions(FOO, filenames) == ["1.0", "2"]
