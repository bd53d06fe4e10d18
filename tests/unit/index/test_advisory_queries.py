"""OSV's questions: which are understood, and how answers are split into pages."""

import json

import pytest

from pywharf.core.errors import InvalidInputError
from pywharf.core.names import normalize
from pywharf.index import advisory_queries
from pywharf.index.advisory_queries import Query, brief_page, identifiers, parse_batch, parse_query, whole_page
from support.advisories import Json, affected, entry, malware, store_of

ACME = {"name": "Acme", "ecosystem": "PyPI"}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"package": ACME, "version": "1.0"}, Query(normalize("acme"), "1.0")),
        ({"package": ACME}, Query(normalize("acme"), None)),
        ({"package": ACME, "version": ""}, Query(normalize("acme"), None)),
        ({"package": {"purl": "pkg:pypi/Acme@1.0%2Blocal?x=y#z"}}, Query(normalize("acme"), "1.0+local")),
        ({"package": {"purl": "pkg:pypi/acme"}, "version": "2"}, Query(normalize("acme"), "2")),
        ({"package": {"purl": "pkg:npm/acme@1"}}, Query(None, "")),
        ({"package": {"name": "acme", "ecosystem": "npm"}, "version": "1"}, Query(None, "1")),
        ({"package": {"name": "../acme", "ecosystem": "PyPI"}, "version": "1"}, Query(None, "1")),
        ({"commit": "abc"}, Query(None, None)),
        ({"package": ACME, "page_token": "after:GHSA-1", "unknown": 1}, Query(normalize("acme"), None, "GHSA-1")),
    ],
)
def test_queries(asked, expected):
    found = parse_query(json.dumps(asked).encode())
    assert (found.project, found.version or None, found.after) == (
        expected.project,
        expected.version or None,
        expected.after,
    )
    assert parse_batch(json.dumps({"queries": [asked]}).encode()) == [found]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b"[" * 100_000,
        b"{}",
        b'{"package": {}}',
        b'{"package": {"name": "acme"}}',
        b'{"package": {"ecosystem": "PyPI"}}',
        b'{"package": {"name": "acme", "ecosystem": "PyPI", "purl": "pkg:pypi/acme"}}',
        b'{"package": {"purl": "pkg:pypi/acme@1"}, "version": "1"}',
        b'{"package": {"name": 1, "ecosystem": "PyPI"}}',
        b'{"commit": "abc", "page_token": "5"}',
        b'{"package": {"name": "' + b"x" * 2000 + b'", "ecosystem": "PyPI"}}',
    ],
)
def test_what_is_no_query(body):
    with pytest.raises(InvalidInputError):
        parse_query(body)


def test_a_batch_has_a_limit():
    assert parse_batch(b"{}") == []
    asked: Json = {"package": ACME}
    assert len(parse_batch(json.dumps({"queries": [asked] * 1000}).encode())) == 1000
    with pytest.raises(InvalidInputError, match="1001"):
        parse_batch(json.dumps({"queries": [asked] * 1001}).encode())


def test_pages_join_to_the_whole_answer(monkeypatch):
    monkeypatch.setattr(advisory_queries, "MAX_PAGE", 3)
    said = [entry(f"GHSA-{number}", affected("acme", ["1"])) for number in range(8)]
    store = store_of(*said, malware("acme", "2"))
    query = parse_query(json.dumps({"package": ACME, "version": "1"}).encode())
    whole: list[Json] = []
    brief: list[str] = []
    token, pages = "", 0
    while token or not pages:
        pages += 1
        asked = {"package": ACME, "version": "1", "page_token": token}
        query = parse_query(json.dumps(asked).encode())
        found = identifiers(store, query)
        page = brief_page(store, found, query.after, 100)
        answer = json.loads(b"".join(whole_page(store, found)))
        assert answer.get("next_page_token") == page.get("next_page_token")
        whole += answer["vulns"]
        brief += [one["id"] for one in page["vulns"]]
        assert {one["modified"] for one in page["vulns"]} == {"2026-01-02T03:04:05Z"}
        token = answer.get("next_page_token", "")
    assert pages == 3
    assert whole == said
    assert brief == [one["id"] for one in said]


def test_a_long_answer_comes_in_pieces(monkeypatch):
    monkeypatch.setattr(advisory_queries, "_PIECE_BYTES", 5000)
    said = [entry(f"GHSA-{number}", affected("acme", ["1"]), details="x" * 4000) for number in range(5)]
    pieces = list(whole_page(store_of(*said), [one["id"] for one in said]))
    assert len(pieces) == 3
    assert json.loads(b"".join(pieces)) == {"vulns": said}


def test_a_batch_without_room_says_where_to_go_on():
    store = store_of(malware("acme", "1"))
    assert brief_page(store, ["MAL-2026-acme"], "", 0) == {"next_page_token": "after:"}
    assert parse_query(json.dumps({"package": ACME, "page_token": "after:"}).encode()).after == ""
    assert brief_page(store, [], "", 0) == {}
    assert list(whole_page(store, [])) == [b"{}"]
