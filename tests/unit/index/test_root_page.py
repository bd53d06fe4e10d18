"""The list of projects of another index, whatever it holds."""

import json

import pytest

from pywharf.core.errors import UpstreamError
from pywharf.index.limits import MAX_PROJECTS
from pywharf.index.upstream.root_page import parse_root

JSON, HTML = "application/vnd.pypi.simple.v1+json", "text/html; charset=utf-8"


@pytest.mark.parametrize(
    ("content", "kind", "names"),
    [
        (
            b'{"meta": {"api-version": "1.0"}, "projects": [{"name": "B_b"}, {"name": "a"}, {"name": "a"}]}',
            JSON,
            "a b-b",
        ),
        (b'{"projects": []}', JSON, ""),
        (b'<a href="foo/">foo</a><a href="/simple/Bar.Baz/">x</a>', HTML, "bar-baz foo"),
        (b'<a href="https://h.example/simple/foo/?x=1#y">foo</a><a href="../">up</a><a>none</a>', HTML, "foo"),
        (b"<html>", HTML, ""),
    ],
)
def test_names(content, kind, names):
    assert parse_root(content, kind) == (tuple(names.split()), ())


def test_names_that_are_none_are_said():
    names, problems = parse_root(json.dumps({"projects": [{"name": n} for n in ("a", "b c", "../x")]}).encode(), JSON)
    assert names == ("a",)
    assert len(problems) == 2
    many = json.dumps({"projects": [{"name": f"! {n}"} for n in range(1000)]}).encode()
    problems = parse_root(many, JSON)[1]
    assert (len(problems), problems[-1]) == (101, "Further names that are no projects': 900.")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"[]", JSON),
        (b"{", JSON),
        (b'{"projects": [1]}', JSON),
        (b'{"projects": ' + b"[" * 100_000, JSON),
        (b"\xff", JSON),
        (b"x", "text/plain"),
        (b"<a href='http://[/'>", HTML),
        (b"<a href='&#" + b"1" * 5000 + b";'>", HTML),
    ],
)
def test_what_is_no_list(content, kind):
    with pytest.raises(UpstreamError):
        parse_root(content, kind)


def test_a_list_of_too_many_projects_is_refused(monkeypatch):
    assert MAX_PROJECTS == 200_000
    monkeypatch.setattr("pywharf.index.upstream.root_page.MAX_PROJECTS", 20)
    parse_root(b'<a href="a/">' * 20, HTML)
    with pytest.raises(UpstreamError, match="lists more than 20 projects"):
        parse_root(b'<a href="a/">' * 21, HTML)
