"""Check the extra index: which names may be looked up there, and how its pages are read, whatever they hold."""

import json
import time
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywharf.core.errors import UpstreamError
from pywharf.core.model import File, Project
from pywharf.core.names import ProjectName, normalize
from pywharf.core.simple import project_html, project_json
from pywharf.index.upstream import pages as upstream
from pywharf.index.upstream.pages import matches, may_look_up, parse_page, parse_page_to_show

FOO = ProjectName("foo")
JSON = "application/vnd.pypi.simple.v1+json"
HTML = "application/vnd.pypi.simple.v1+html"
PAGE = "https://index.example/simple/foo/"
A, B = "a" * 64, "b" * 64


# --- which names -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("owned", "reserved", "shadowing", "may"),
    [
        (False, (), (), True),
        (True, (), (), False),
        (False, ("acme-*",), (), False),
        (True, ("acme-*",), (), False),
        (False, ("other-*",), (), True),
        (True, (), ("acme-tool",), True),
        (False, ("acme-*",), ("acme-tool",), True),
        (True, ("acme-*",), ("acme-tool",), True),
        (True, ("acme-*",), ("other",), False),
        (False, ("*",), (), False),
    ],
)
def test_may_look_up(owned, reserved, shadowing, may):
    assert may_look_up(ProjectName("acme-tool"), owned=owned, reserved=reserved, allow_shadowing=shadowing) is may


@pytest.mark.parametrize(
    ("pattern", "name", "does"),
    [
        ("acme-*", "acme-tool", True),
        ("acme-*", "acme", False),
        ("acme*", "acme", True),
        ("ACME.*", "acme-tool", True),
        ("acme_*", "acme-tool", True),
        ("acme__*", "acme-tool", True),
        ("acme-._*", "acme-tool", True),
        ("*-tool", "acme-tool", True),
        ("*.internal.*", "a-internal-b", True),
        ("Acme_Tool", "acme-tool", True),
        ("acme", "acme-tool", False),
        ("tool", "acme-tool", False),
        ("*", "x", True),
    ],
)
def test_pattern(pattern, name, does):
    assert matches(normalize(name), [pattern]) is does
    assert matches(normalize(name), ["zzz", pattern]) is does
    assert not matches(normalize(name), [])


# --- JSON ------------------------------------------------------------------------------------------------------


def parse_json(document: Any) -> Project:
    return parse_page(FOO, json.dumps(document).encode(), JSON, PAGE)


def page_of(*files: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"meta": {"api-version": "1.4"}, "name": "foo", "files": list(files), **more}


ENTRY = {"filename": "foo-1.0.zip", "url": "foo-1.0.zip", "hashes": {"sha256": A}}


def test_json_with_all_fields():
    project = parse_json(
        page_of(
            {
                "filename": "foo-1.0-py3-none-any.whl",
                "url": "../../files/foo-1.0-py3-none-any.whl",
                "hashes": {"sha256": A.upper(), "md5": "0"},
                "requires-python": ">=3.8",
                "core-metadata": {"sha256": B},
                "size": 7,
                "upload-time": "2026-01-02T03:04:05Z",
                "yanked": "broken",
                "provenance": None,
                "gpg-sig": False,
            },
            **{"project-status": {"status": "deprecated", "reason": "old", "new": []}, "versions": ["1.0"]},
        )
    )
    assert project == Project(
        name=FOO,
        status="deprecated",
        status_reason="old",
        files=(
            File(
                filename="foo-1.0-py3-none-any.whl",
                sha256=A,
                size=7,
                upload_time="2026-01-02T03:04:05Z",
                requires_python=">=3.8",
                metadata_sha256=B,
                yanked="broken",
                location="https://index.example/files/foo-1.0-py3-none-any.whl",
            ),
        ),
    )


@pytest.mark.parametrize(
    ("given_", "field", "value"),
    [
        ({}, "yanked", None),
        ({"yanked": False}, "yanked", None),
        ({"yanked": True}, "yanked", ""),
        ({"yanked": ""}, "yanked", ""),
        ({"yanked": "why"}, "yanked", "why"),
        ({"hashes": {}}, "sha256", ""),
        ({"hashes": {"md5": "x"}}, "sha256", ""),
        ({"hashes": {"sha256": "x" * 64}}, "sha256", ""),
        ({"hashes": {"sha256": A[1:]}}, "sha256", ""),
        ({"core-metadata": True}, "metadata_sha256", ""),
        ({"core-metadata": False}, "metadata_sha256", None),
        ({"core-metadata": {}}, "metadata_sha256", ""),
        ({"dist-info-metadata": {"sha256": B}}, "metadata_sha256", B),
        ({"core-metadata": False, "dist-info-metadata": True}, "metadata_sha256", None),
        ({"core-metadata": {"sha256": B}, "dist-info-metadata": True}, "metadata_sha256", B),
        ({"requires-python": None}, "requires_python", None),
        ({"size": None}, "size", None),
        ({"url": "foo-1.0.zip#sha256=0"}, "location", f"{PAGE}foo-1.0.zip"),
        ({"url": "foo-1.0.zip#md5=0", "hashes": {}}, "location", f"{PAGE}foo-1.0.zip#md5=0"),
        ({"url": "foo-1.0.zip#egg=foo-2.0", "hashes": {}}, "location", f"{PAGE}foo-1.0.zip"),
        ({"url": "foo-1.0.zip#md5=0&egg=foo-2.0", "hashes": {}}, "location", f"{PAGE}foo-1.0.zip"),
        ({"url": "foo-1.0.zip?token=x/foo-2.0.zip"}, "location", f"{PAGE}foo-1.0.zip?token=x/foo-2.0.zip"),
    ],
)
def test_json_field(given_, field, value):
    (file,) = parse_json(page_of(ENTRY | given_)).files
    assert getattr(file, field) == value


LINKS = [
    ("foo-1.0.zip", f"{PAGE}foo-1.0.zip"),
    ("/f/foo-1.0.zip", "https://index.example/f/foo-1.0.zip"),
    ("../foo-1.0.zip", "https://index.example/simple/foo-1.0.zip"),
    ("//cdn.example/foo-1.0.zip", "https://cdn.example/foo-1.0.zip"),
    ("http://cdn.example/foo-1.0.zip", "http://cdn.example/foo-1.0.zip"),
    ("javascript:alert(1)//foo-1.0.zip", None),
    ("JaVaScRiPt:alert(1)//foo-1.0.zip", None),
    (" javascript:alert(1)//foo-1.0.zip", None),
    ("java\nscript:alert(1)//foo-1.0.zip", None),
    ("data:text/html,/foo-1.0.zip", None),
    ("file:///etc/foo-1.0.zip", None),
    ("ftp://cdn.example/foo-1.0.zip", None),
    ("mailto:a@b.example/foo-1.0.zip", None),
    ("http://", None),
    ("http:///foo-1.0.zip", None),
    ("http://[bad/foo-1.0.zip", None),
]


@pytest.mark.parametrize(("link", "location"), LINKS)
def test_links_are_made_absolute_or_dropped(link, location):
    expected = [] if location is None else [location]
    from_json = parse_json(page_of(ENTRY | {"url": link, "hashes": {}}))
    assert [f.location for f in from_json.files] == expected
    content = f'<a href="{link}">foo-1.0.zip</a>'.encode()
    assert [f.location for f in parse_page(FOO, content, HTML, PAGE).files] == expected


@pytest.mark.parametrize("filename", ["", "../foo.zip", "a/b"])
def test_names_that_are_no_file_s_are_dropped(filename):
    assert parse_json(page_of(ENTRY | {"filename": filename}, ENTRY)).files[0].filename == "foo-1.0.zip"
    assert len(parse_json(page_of(ENTRY | {"filename": filename}, ENTRY)).files) == 1


LEADS_ELSEWHERE = ("\n", "\r\n", "\0", "\x1b[31m", "\x7f", "\x85", "\u200b", "\u2028", "\u202e", "\ufeff", *"\\/:?#%")


@pytest.mark.parametrize("filename", [".", "..", *(f"foo-1.0{text}x.zip" for text in LEADS_ELSEWHERE)])
def test_names_with_separators_or_invisible_characters_are_not_shown(filename):
    """Logs and terminals would show another name, and programs that decode or split it would read another one."""
    link = f"files/{quote(filename, safe='')}"
    content = json.dumps(page_of(ENTRY | {"filename": filename, "url": link}, ENTRY)).encode()
    assert parse_page_to_show(FOO, content, JSON, PAGE).files == parse_json(page_of(ENTRY)).files
    assert parse_page_to_show(FOO, f'<a href="{link}">'.encode(), HTML, PAGE).files == ()


@pytest.mark.parametrize("filename", ["foo-1.0+l.1.zip", "foo-1!1.0.zip", "foo 1.0 (2).zip", "foo-1.0~é'.zip"])
def test_odd_names_of_old_releases_are_shown(filename):
    content = json.dumps(page_of(ENTRY | {"filename": filename, "url": quote(filename)})).encode()
    assert [file.filename for file in parse_page_to_show(FOO, content, JSON, PAGE).files] == [filename]


@pytest.mark.parametrize(
    "url",
    ["foo-2.0.zip", "foo-1.0.zip/", "foo-1.0.zip%2Ffoo-2.0.zip", "foo-1.0.zip/foo-2.0.zip", "f/?foo-1.0.zip", "f"],
)
def test_files_that_have_another_name_in_their_url_are_not_shown(url):
    """Clients read a file's version from there, which policies do not see. A copy reports what it cannot take."""
    content = json.dumps(page_of(ENTRY | {"url": url}, ENTRY)).encode()
    assert parse_page_to_show(FOO, content, JSON, PAGE).files == parse_json(page_of(ENTRY)).files
    assert len(parse_page(FOO, content, JSON, PAGE).files) == 2


def test_no_fragment_but_a_hash_is_kept_from_html():
    content = b"<a href='foo-1.0.zip#egg=foo-2.0'><a href='foo-1.0.zip#sha1=0&amp;egg=foo-2.0'>"
    assert [f.location for f in parse_page(FOO, content, HTML, PAGE).files] == [f"{PAGE}foo-1.0.zip"] * 2


def _nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"<html>",
        b'{"files": {}}',
        b'{"files": [1]}',
        b'{"files": [{}]}',
        b'{"files": [{"filename": "a", "url": 1}]}',
        b'{"files": [{"filename": "a", "url": "b", "hashes": []}]}',
        b'{"files": [{"filename": "a", "url": "b", "size": "1"}]}',
        b'{"files": [{"filename": "a", "url": "b", "size": 99999999999999999999999}]}',
        b'{"files": [{"filename": "a", "url": "b", "size": -1}]}',
        b'{"files": [{"filename": "\xff", "url": "b"}]}',
        b'{"files": [{"filename": "\\ud800", "url": "b"}]}',
        b'{"files": [], "meta": {"api-version": "2.0"}}',
        b'{"files": [], "meta": {"api-version": "10.0"}}',
        b'{"files": [], "meta": {"api-version": null}}',
        b'{"files": [], "more": ' + b"[" * 100_000,
        b'{"files": [], "more": ' + _nested(100_000).encode() + b"}",
        b'{"files": [' + _nested(100_000).encode() + b"]}",
    ],
)
def test_json_that_is_no_page(content):
    with pytest.raises(UpstreamError) as raised:
        parse_page(FOO, content, JSON, PAGE)
    assert "'foo'" in str(raised.value)
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.4", "1.99", 1.5])
def test_json_of_any_minor_version(version):
    assert len(parse_json(page_of(ENTRY, meta={"api-version": version, "new": []})).files) == 1
    assert len(parse_json({"files": [ENTRY]}).files) == 1


@pytest.mark.parametrize(
    ("said", "status", "reason"),
    [
        ({"status": "archived"}, "archived", None),
        ({"status": "quarantined", "reason": "malware"}, "quarantined", "malware"),
        ({"status": "new-one", "reason": "x"}, "active", "x"),
        ({}, "active", None),
    ],
)
def test_status(said, status, reason):
    project = parse_json(page_of(ENTRY, **{"project-status": said}))
    assert (project.status, project.status_reason) == (status, reason)
    head = "".join(
        f'<meta name="pypi:project-status{suffix}" content="{said[key]}">'
        for key, suffix in (("status", ""), ("reason", "-reason"))
        if key in said
    )
    project = parse_page(FOO, f"{head}<a href='foo-1.0.zip'>".encode(), HTML, PAGE)
    assert (project.status, project.status_reason) == (status, reason)


# --- HTML ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["text/html", HTML, "TEXT/HTML; charset=utf-8", " text/html ;x=y"])
def test_html_with_all_fields(kind):
    content = f"""<!DOCTYPE html><html><head><meta name="pypi:repository-version" content="1.3"></head><body>
    <h1>Links for foo</h1>
    <a href="../../files/foo-1.0-py3-none-any.whl#sha256={A}" data-requires-python="&gt;=3.8"
       data-dist-info-metadata="sha256={A}" data-core-metadata="sha256={B}" data-yanked="broken &amp; old"
       data-gpg-sig="false">foo-1.0-py3-none-any.whl</a><br>
    <a href="foo%2B1.0.zip#md5=0">other text</a>
    <a href="foo-2.0.zip" data-core-metadata="true" data-yanked>
    </body></html>""".encode()
    assert parse_page(FOO, content, kind, PAGE).files == (
        File(
            filename="foo-1.0-py3-none-any.whl",
            sha256=A,
            requires_python=">=3.8",
            metadata_sha256=B,
            yanked="broken & old",
            location="https://index.example/files/foo-1.0-py3-none-any.whl",
        ),
        File(filename="foo+1.0.zip", sha256="", location=f"{PAGE}foo%2B1.0.zip#md5=0"),
        File(filename="foo-2.0.zip", sha256="", metadata_sha256="", yanked="", location=f"{PAGE}foo-2.0.zip"),
    )


@pytest.mark.parametrize(
    ("head", "location"),
    [
        ('<base href="https://cdn.example/x/">', "https://cdn.example/x/foo-1.0.zip"),
        ('<base href="../files/">', "https://index.example/simple/files/foo-1.0.zip"),
        ('<base href="https://a.example/"><base href="https://b.example/">', "https://a.example/foo-1.0.zip"),
        ('<base target="_top">', f"{PAGE}foo-1.0.zip"),
        ('<base href="javascript:alert(1)">', f"{PAGE}foo-1.0.zip"),
        ('<base href="file:///etc/">', f"{PAGE}foo-1.0.zip"),
    ],
)
def test_base(head, location):
    content = f'<html><head>{head}</head><a href="foo-1.0.zip">foo-1.0.zip</a></html>'.encode()
    assert [f.location for f in parse_page(FOO, content, HTML, PAGE).files] == [location]


@pytest.mark.parametrize(
    ("content", "files"),
    [
        (b"", 0),
        (b"\xff\xfe\x00", 0),
        (b"no page at all", 0),
        (b"<a>no link</a>", 0),
        (b"<a href=''>", 0),
        (b"<a href='../'>Parent</a>", 0),
        (b"<a href='x/'>folder</a>", 0),
        (b"<a href='..%2fevil.zip'>", 0),
        (b"<a href='#top'>", 0),
        (b"<a href='foo-1.0.zip'><a href='foo-2.0.zip", 1),
        (b"<!-- <a href='foo-1.0.zip'> -->", 0),
        (b"<a href='foo-\xff.zip'>", 1),
    ],
)
def test_html_of_any_kind(content, files):
    assert len(parse_page(FOO, content, "text/html", PAGE).files) == files


@pytest.mark.parametrize(
    "content",
    [
        b'<meta name="pypi:repository-version" content="2.0"><a href="foo-1.0.zip">',
        b'<a href="foo-1.0.zip"><meta name="pypi:repository-version" content="nonsense">',
        b"<a href='&#" + b"1" * 5000 + b";'>",
    ],
)
def test_html_that_is_no_page(content):
    with pytest.raises(UpstreamError, match="The index's page of 'foo'"):
        parse_page(FOO, content, HTML, PAGE)


@pytest.mark.parametrize("kind", ["", "text/plain", "application/json", "application/octet-stream", "x" * 5000])
def test_other_types(kind):
    with pytest.raises(UpstreamError, match="is no Simple API page") as raised:
        parse_page(FOO, b"{}", kind, PAGE)
    assert len(str(raised.value)) < 300


def test_too_many_files(monkeypatch):
    monkeypatch.setattr(upstream, "MAX_FILES", 3)
    for count, fits in ((3, True), (4, False)):
        for content, kind in (
            (b"<a href='foo-1.0.zip'>" * count, HTML),
            (json.dumps(page_of(*[ENTRY] * count)).encode(), JSON),
        ):
            if fits:
                assert len(parse_page(FOO, content, kind, PAGE).files) == count
            else:
                with pytest.raises(UpstreamError, match="more than 3 files"):
                    parse_page(FOO, content, kind, PAGE)


def test_a_hostile_page_takes_no_longer_than_its_length_asks():
    started = time.process_time()
    assert parse_page(FOO, b"<!--" * 500_000, HTML, PAGE).files == ()
    assert parse_page(FOO, b"<a href='" * 200_000, HTML, PAGE).files == ()
    assert time.process_time() - started < 10


@given(st.binary(max_size=200), st.sampled_from([JSON, HTML]))
def test_any_bytes_are_a_page_or_refused(content, kind):
    try:
        project = parse_page(FOO, content, kind, PAGE)
    except UpstreamError as error:
        assert "'foo'" in str(error)  # noqa: PT017
    else:
        assert project_html(project, foreign=True)
        assert project_json(project, foreign=True)


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=10)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = ["filename", "url", "hashes", "yanked", "size", "core-metadata", "requires-python", "upload-time"]
entries = st.dictionaries(st.sampled_from(KEYS), values).map(lambda given_: ENTRY | given_)


@given(st.lists(entries, max_size=3))
def test_any_json_is_a_page_or_refused(listed):
    try:
        project = parse_json(page_of(*listed))
    except UpstreamError as error:
        assert "is not a Simple API page" in str(error)  # noqa: PT017
    else:
        assert all(f.location and f.location.startswith(("http://", "https://")) for f in project.files)
        assert project_html(project, foreign=True)
        assert project_json(project, foreign=True)


files = st.builds(
    File,
    filename=st.from_regex(r"\A[a-z][a-z0-9._+-]{0,15}\Z", fullmatch=True),
    sha256=st.sampled_from([A, B]),
    size=st.integers(0, 2**40),
    upload_time=st.none() | st.just("2026-01-02T03:04:05.000006Z"),
    requires_python=st.none() | st.sampled_from([">=3.8", '<4,!="3"']),
    metadata_sha256=st.none() | st.just(A),
    yanked=st.none() | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8),
)


@given(st.lists(files, max_size=4, unique_by=lambda f: f.filename), st.booleans())
def test_our_own_pages_are_read_back(listed, as_json):
    """One pywharf may be the extra index of another."""
    project = Project(name=FOO, files=tuple(listed))
    content = project_json(project) if as_json else project_html(project)
    read = parse_page(FOO, content, JSON if as_json else HTML, PAGE)
    assert [f.location for f in read.files] == [PAGE + f.filename.replace("+", "%2B") for f in listed]
    for found, file in zip(read.files, listed, strict=True):
        for field in ("filename", "sha256", "requires_python", "metadata_sha256", "yanked"):
            assert getattr(found, field) == getattr(file, field), field
        if as_json:
            assert (found.size, found.upload_time) == (file.size, file.upload_time)
