"""Reading a feed: its forms, bad entries, damaged and hostile feeds, and the compiled file."""

import gzip
import io
import json
import zipfile

import pytest

from pywharf.core.advisories import entry as entries
from pywharf.core.advisories import feed as feeds
from pywharf.core.advisories import store as stores
from pywharf.core.advisories import writing
from pywharf.core.advisories.entry import BadEntryError, parse_entry
from pywharf.core.advisories.feed import BadFeedError
from pywharf.core.advisories.store import BrokenStoreError
from pywharf.core.names import normalize
from support.advisories import FORMS, Json, affected, compiled, entry, lines, malware, opened, packed_lines, zipped

GOOD = [malware(f"evil-{number}", "1.0") for number in range(5)]


@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_a_feed(form):
    content, meta = compiled(FORMS[form]([*GOOD, entry("GHSA-1", affected("acme", ["1"]), details="é" * 3000)]))
    store = opened(content)
    assert (meta.entries, meta.malware, meta.projects, meta.skipped) == (6, 5, 6, 0)
    assert store.meta == meta
    for one in GOOD:
        assert json.loads(store.entry(one["id"]) or b"") == one
        assert store.modified(one["id"]) == 1767323045.0
    assert store.entry("MAL-2026-missing") is None
    assert store.modified("MAL-2026-missing") is None
    assert [one.is_malware for one in store.matching(normalize("evil-3"), "1.0")] == [True]


BAD: dict[str, bytes | Json] = {
    "no JSON": b"{",
    "not UTF-8": b'{"id": "\xff"}',
    "another shape": b"[]",
    "nested too deep": b'{"id":"MAL-1","modified":"2026-01-01T00:00:00Z","x":' + b"[" * 100_000,
    "no id": {"modified": "2026-01-01T00:00:00Z"},
    "a path as id": entry("../etc", affected("acme", ["1"])),
    "no time": {"id": "MAL-1", "affected": [affected("acme", ["1"])]},
    "a time without a zone": entry("MAL-1", affected("acme", ["1"]), modified="2026-01-01T00:00:00"),
    "a name that none has": entry("MAL-1", affected("acme/../x", ["1"])),
    "a time before all times": entry("MAL-1", affected("acme", ["1"]), modified="0001-01-01T00:00:00+23:59"),
    "an unreadable range alone": entry("GHSA-1", affected("acme", None, [{"introduced": "x"}])),
    "versions that are no texts": entry("MAL-1", {"package": {"ecosystem": "PyPI", "name": "acme"}, "versions": [1]}),
    "too many packages": entry("MAL-1", *[affected(f"acme-{number}") for number in range(10_001)]),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_bad_entry_is_skipped_and_counted(form):
    given = [one for good, bad in zip(GOOD * 3, BAD.values(), strict=False) for one in (good, bad)]
    twice = len(BAD) - len(GOOD)
    _, meta = compiled(FORMS[form]([*given, *[malware(f"more-{number}") for number in range(30)]]))
    assert (meta.entries, meta.skipped) == (len(GOOD) + 30, len(BAD) + twice)
    assert meta.first_skipped


def test_malware_that_is_skipped_is_counted_apart():
    untimed = [{name: value for name, value in one.items() if name != "modified"} for one in GOOD]
    flaws = [entry(f"GHSA-{number}", affected("acme", ["1"])) for number in range(9)]
    _, meta = compiled(lines([*flaws, *untimed, b'{"id": "GHSA-x"}', b"{"]))
    assert (meta.malware, meta.skipped, meta.skipped_malware) == (0, 7, 5)


def test_a_last_line_needs_no_end():
    assert compiled(lines(GOOD).rstrip(b"\n"))[1].entries == len(GOOD)


@pytest.mark.parametrize("case", BAD)
def test_each_bad_entry_says_why(case):
    content = BAD[case]
    with pytest.raises(BadEntryError, match=r"\S"):
        parse_entry(content if isinstance(content, bytes) else json.dumps(content).encode())


def test_a_version_that_is_too_long_is_left_out():
    found = parse_entry(json.dumps(malware("acme", "1" * 5000, "2.0")).encode())
    assert found is not None
    assert found.affected[0].versions == {"2"}


@pytest.mark.parametrize("form", ["lines", "packed lines", "zip"])
def test_an_entry_over_the_limit_is_skipped(form, monkeypatch):
    monkeypatch.setattr(feeds, "MAX_ENTRY_BYTES", 1000)
    large = [entry(f"GHSA-{size}", affected("acme", ["1"]), details="x" * size) for size in (1001, 2500, 950)]
    _, meta = compiled(FORMS[form]([GOOD[0], large[0], GOOD[1], *large[1:], GOOD[2], GOOD[3]]))
    assert (meta.entries, meta.skipped) == (4, 3)


def _bomb() -> bytes:
    return packed_lines([*GOOD, b" " * 3_000_000])


def _one_bad_member() -> bytes:
    made = bytearray(zipped(GOOD))
    at = made.find(b"PK\x03\x04", 4) + 60
    made[at] ^= 0xFF
    return bytes(made)


@pytest.mark.parametrize(
    ("feed", "said"),
    [
        pytest.param(b"", "no entry about PyPI", id="nothing"),
        pytest.param(b"<html>not found</html>", "no entry about PyPI .*fault", id="a page"),
        pytest.param(lines([entry("GHSA-1", affected("x", ecosystem="npm"))]), "no entry", id="another ecosystem"),
        pytest.param(zipped(GOOD)[:-30], "damaged", id="a zip cut off"),
        pytest.param(zipped(GOOD)[:200], "damaged", id="the beginning of a zip"),
        pytest.param(b"PK", "damaged", id="the signature of a zip"),
        pytest.param(packed_lines(GOOD)[:-20], "damaged", id="gzip cut off"),
        pytest.param(gzip.compress(zipped(GOOD)), "no entry about PyPI", id="a zip in gzip"),
        pytest.param(b"\x1f\x8bxxxx", "damaged", id="no gzip"),
        pytest.param(lines(GOOD)[:-20], "last line is cut off", id="lines cut off"),
        pytest.param(gzip.compress(lines(GOOD)[:-20]), "last line is cut off", id="packed lines cut off"),
        pytest.param(lines([GOOD[0], b"{", b"{", b"{"]), "3 of its entries cannot be used", id="mostly bad"),
    ],
)
def test_a_feed_that_cannot_be_used_is_refused(feed, said):
    with pytest.raises(BadFeedError, match=said):
        compiled(feed)


def test_a_damaged_member_is_skipped():
    _, meta = compiled(_one_bad_member())
    assert (meta.entries, meta.skipped) == (len(GOOD) - 1, 1)


@pytest.mark.parametrize(
    ("module", "limit", "most", "feed"),
    [
        (feeds, "MAX_UNPACKED_BYTES", 2_000_000, _bomb()),
        (feeds, "MAX_UNPACKED_BYTES", 300, zipped(GOOD)),
        (feeds, "MAX_MEMBERS", 3, zipped(GOOD)),
        (writing, "MAX_ENTRIES", 3, lines(GOOD)),
        (writing, "MAX_TABLE_BYTES", 50, lines(GOOD)),
        (writing, "MAX_FILE_BYTES", 50, lines(GOOD)),
    ],
)
def test_a_feed_over_a_limit_is_refused(module, limit, most, feed, monkeypatch):
    monkeypatch.setattr(module, limit, most)
    with pytest.raises(BadFeedError, match=str(most)):
        compiled(feed)


def test_other_members_of_a_zip_are_ignored():
    made = io.BytesIO(zipped(GOOD))
    with zipfile.ZipFile(made, "a") as archive:
        archive.writestr("README.md", "not an entry")
        archive.mkdir("folder.json")
    assert compiled(made.getvalue())[1].skipped == 0


def test_the_age_of_a_feed_is_its_newest_change_unless_that_is_in_the_future():
    times = ["2026-01-01T00:00:00Z", "2026-01-03T00:00:00+02:00", "2099-01-01T00:00:00Z"]
    feed = lines(malware(f"evil-{number}", modified=time) for number, time in enumerate(times))
    assert compiled(feed, now=1767500000.0)[1].newest == 1767391200.0


@pytest.mark.parametrize(
    "harm",
    [
        lambda content: content[:-1],
        lambda content: content[100:],
        lambda content: b"",
        lambda content: content[:-70] + b"x" + content[-69:],
        lambda content: content[:-200] + bytes(80) + content[-120:],
    ],
    ids=["end", "beginning", "everything", "magic", "tables"],
)
def test_a_damaged_file_of_a_compiled_feed_is_refused(harm):
    content, _ = compiled(lines(GOOD))
    with pytest.raises(BrokenStoreError):
        opened(harm(content))


def test_a_damaged_entry_is_reported():
    content, _ = compiled(lines(GOOD))
    store = opened(bytes(50) + content[50:])
    with pytest.raises(BrokenStoreError, match=GOOD[0]["id"]):
        store.entry(GOOD[0]["id"])


def test_projects_and_entries_with_one_key_are_told_apart(monkeypatch):
    for module in (stores, writing):
        monkeypatch.setattr(module, "key", len)
    store = opened(compiled(lines(GOOD))[0])
    for one in GOOD:
        name = normalize(one["affected"][0]["package"]["name"])
        assert [found.id for found in store.matching(name, "1.0")] == [one["id"]]
        assert json.loads(store.entry(one["id"]) or b"") == one
    assert not store.matching(normalize("evil-9"), "1.0")
    assert store.entry("MAL-2026-evil-9") is None


def test_the_limit_of_an_entry_holds_for_its_json():
    with pytest.raises(BadEntryError, match="bytes"):
        parse_entry(b" " * (entries.MAX_ENTRY_BYTES + 1))
