"""Which versions an entry is about: lists, ranges, spellings, odd versions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from pywharf.core.names import normalize
from support.advisories import Json, affected, entry, malware, store_of

FROM_START: Json = {"introduced": "0"}


def ranged(*events: Json, versions: list[str] | None = None, kind: str = "ECOSYSTEM") -> Json:
    return entry("PYSEC-2026-1", affected("acme", versions, events, kind=kind))


@pytest.mark.parametrize(
    ("said", "inside", "outside"),
    [
        pytest.param(
            entry("PYSEC-2026-1", affected("acme", ["1.0", "2.0rc1", "v3"])),
            ["1.0", "1.0.0", "2.0rc1", "3", "3.0", "1.0+local.1"],
            ["1.1", "2.0", "2.0rc2", "0.1", "1.0.post1"],
            id="a list, in any spelling",
        ),
        pytest.param(
            ranged(FROM_START, {"fixed": "2.0"}),
            ["0.dev0", "0.1", "1.9", "2.0rc1", "1.99"],
            ["2.0", "2.0.0", "2.0.post1", "3"],
            id="fixed",
        ),
        pytest.param(
            ranged({"introduced": "1.0"}, {"last_affected": "2.0"}),
            ["1.0", "1.5", "2.0", "2.0.0", "2.0+cu118"],
            ["0.9", "1.0rc1", "2.0.post1", "2.0.1"],
            id="last_affected",
        ),
        pytest.param(
            ranged({"introduced": "3.0"}, FROM_START, {"fixed": "3.5"}, {"fixed": "2.0"}),
            ["1.0", "3.0", "3.4"],
            ["2.0", "2.5", "3.5", "4"],
            id="two intervals, unsorted",
        ),
        pytest.param(ranged(FROM_START), ["0.1", "99", "1.0.dev1"], [], id="every version"),
        pytest.param(ranged({"introduced": "1.0"}), ["1.0", "99"], ["0.9"], id="without an end"),
        pytest.param(
            ranged(FROM_START, {"fixed": "2.0"}, versions=["2.5"]), ["1.0", "2.5"], ["2.0"], id="a list and a range"
        ),
        pytest.param(
            ranged(FROM_START, {"fixed": "not a version"}, versions=["1.0"]),
            ["1.0"],
            ["0.9"],
            id="an unreadable range beside a list",
        ),
        pytest.param(ranged({"introduced": "1"}, kind="GIT"), [], ["1", "2"], id="another type of range"),
        pytest.param(entry("PYSEC-2026-1", affected("acme")), [], ["1"], id="neither list nor range"),
        pytest.param(malware("acme"), ["1", "2.0rc1"], [], id="malware with neither"),
        pytest.param(malware("acme", "1.0"), ["1.0"], ["1.1"], id="malware of one version"),
    ],
)
def test_versions(said, inside, outside):
    store = store_of(said)
    for version in inside:
        assert [one.id for one in store.matching(normalize("acme"), version)] == [said["id"]], version
    for version in outside:
        assert not store.matching(normalize("acme"), version), version


def test_a_file_without_a_readable_version_matches_what_is_about_every_version():
    store = store_of(
        malware("acme"),
        entry("PYSEC-2026-1", affected("acme", ["1.0"], [FROM_START, {"fixed": "2"}])),
        entry("PYSEC-2026-2", affected("acme", ["1.0"], [FROM_START])),
    )
    assert {one.id for one in store.matching(normalize("acme"), None)} == {"MAL-2026-acme", "PYSEC-2026-2"}


def test_what_is_no_version_is_looked_for_in_lists_as_it_is():
    store = store_of(entry("PYSEC-2026-1", affected("acme", ["2004-rc", "1.0"], [FROM_START, {"fixed": "2"}])))
    assert store.matching(normalize("acme"), "2004-rc")
    assert not store.matching(normalize("acme"), "2005-rc")
    assert not store.matching(normalize("acme"), "9" * 5000)


def test_names_are_compared_in_normal_form():
    store = store_of(entry("PYSEC-2026-1", affected("Acme_Tool", ["1"]), affected("acme.tool", ["2"])))
    for version in ("1", "2"):
        found = store.matching(normalize("ACME.tool"), version)
        assert [(one.id, one.is_malware) for one in found] == [("PYSEC-2026-1", False)]
    assert store.concerns(normalize("acme-tool"))
    assert not store.concerns(normalize("acme"))
    assert not store.matching(normalize("acme"), "1")


def test_withdrawn_entries_and_other_ecosystems_do_not_count():
    store = store_of(
        entry("PYSEC-2026-1", affected("acme", ["1"]), withdrawn="2026-01-01T00:00:00Z"),
        entry("GHSA-2026-2", affected("acme", ["1"], ecosystem="npm")),
        malware("acme", "1"),
    )
    assert [one.id for one in store.matching(normalize("acme"), "1")] == ["MAL-2026-acme"]
    assert store.entry("PYSEC-2026-1") is not None
    assert store.entry("GHSA-2026-2") is None


def test_the_revision_depends_on_what_the_answers_about_malware_are():
    one = store_of(malware("acme", "1"), malware("other"))
    later = store_of(malware("other"), malware("acme", "1", modified="2026-02-01T00:00:00Z"))
    flawed = store_of(malware("other"), malware("acme", "1"), entry("GHSA-1", affected("acme", ["1"])))
    assert one.revision == later.revision == flawed.revision
    assert one.whole_revision == later.whole_revision != flawed.whole_revision
    assert one.revision != store_of(malware("acme", "2"), malware("other")).revision


def test_malware_is_found_apart_from_other_entries():
    flaws = [entry(f"GHSA-{number}", affected("acme", None, [FROM_START])) for number in range(3)]
    both = [entry(f"MAL-2026-{number}", affected("acme", ["1"])) for number in (7, 5)]
    store = store_of(*flaws, *both, entry("GHSA-9", affected("flawed", None, [FROM_START])), malware("evil"))
    acme, flawed, evil = normalize("acme"), normalize("flawed"), normalize("evil")
    assert [store.concerns_malware(one) for one in (acme, flawed, evil, normalize("other"))] == [
        True,
        False,
        True,
        False,
    ]
    assert [store.malware_id(acme, version) for version in ("1.0", "2", None)] == ["MAL-2026-5", None, None]
    assert [store.malware_id(evil, version) for version in ("1.0", None)] == ["MAL-2026-evil"] * 2
    assert store.malware_id(flawed, "1") is None
    assert store.concerns(flawed)
    assert len(store.matching(acme, "1")) == len(store.of_project(acme)) == 5
    assert store.meta.projects == 3


_VERSIONS = st.from_regex(r"[0-3](\.[0-3]){0,2}((a|b|rc)[0-2])?(\.post[0-1])?(\.dev[0-1])?", fullmatch=True)


@given(begin=_VERSIONS, end=_VERSIONS, version=_VERSIONS, listed=st.lists(_VERSIONS, max_size=8))
def test_a_list_and_a_range_are_a_union(begin, end, version, listed):
    events: list[Json] = [{"introduced": begin}, {"fixed": end}]
    store = store_of(entry("PYSEC-2026-1", affected("acme", listed, events)))
    low, high, it = Version("0.dev0" if begin == "0" else begin), Version(end), Version(version)
    # A range whose end is not after its beginning has no end after it.
    in_range = low <= it and (it < high or high <= low)
    assert bool(store.matching(normalize("acme"), version)) == (in_range or it in {Version(one) for one in listed})


_BAD_RANGE: list[Json] = [{"introduced": "0"}, {"fixed": "v?"}]


@pytest.mark.parametrize(
    ("concerned", "inside", "outside"),
    [
        pytest.param(affected("acme", None, [FROM_START], kind="SEMVER"), ["1", None], [], id="only another type"),
        pytest.param(affected("acme", None, []), ["1", None], [], id="a range without events"),
        pytest.param(affected("acme", []), ["1", None], [], id="an empty list"),
        pytest.param(
            affected("acme", ["1.0"], [FROM_START, {"fixed": "2"}], _BAD_RANGE),
            ["1.0", "9", None],
            [],
            id="a bad range",
        ),
        pytest.param(affected("acme", None, _BAD_RANGE), ["1.0", None], [], id="only a bad range"),
        pytest.param({**affected("acme"), "versions": ["1.0", None]}, ["1.0"], ["2", None], id="a null version"),
        pytest.param({**affected("acme"), "versions": [None]}, ["1.0", None], [], id="only a null version"),
        pytest.param(affected("acme", ["1"], [FROM_START], kind="GIT"), ["1"], ["2"], id="a list beside another type"),
    ],
)
def test_malware_of_which_something_cannot_be_read_is_about_every_version(concerned, inside, outside):
    store = store_of(entry("MAL-2026-1", concerned))
    assert all(store.matching(normalize("acme"), version) for version in inside)
    assert not any(store.matching(normalize("acme"), version) for version in outside)


def test_a_good_range_counts_beside_one_that_cannot_be_read():
    store = store_of(entry("GHSA-1", affected("acme", ["1.0"], [{"introduced": "5"}, {"fixed": "6"}], _BAD_RANGE)))
    assert [bool(store.matching(normalize("acme"), version)) for version in ("1.0", "5.5", "7")] == [True, True, False]


@pytest.mark.parametrize("bad", [affected("acme/../x"), {**affected("other"), "versions": [1]}, {"package": 1}])
def test_one_package_that_cannot_be_read_takes_nothing_from_the_others(bad):
    store = store_of(entry("MAL-2026-1", bad, affected("acme", ["1"])))
    assert [one.id for one in store.matching(normalize("acme"), "1")] == ["MAL-2026-1"]


@pytest.mark.parametrize("newest_last", [True, False])
@pytest.mark.parametrize("withdrawn", [True, False])
def test_of_one_identifier_the_newest_change_counts(newest_last, withdrawn):
    old = entry("MAL-2026-1", affected("acme", ["1"]), affected("gone"), modified="2026-01-01T00:00:00Z")
    new = entry("MAL-2026-1", affected("acme", ["2"]), modified="2026-01-02T00:00:00Z")
    if withdrawn:
        old["withdrawn"] = "2026-01-01T00:00:00Z"
    store = store_of(malware("other"), *([old, new] if newest_last else [new, old]))
    assert store.matching(normalize("acme"), "2")
    assert not store.matching(normalize("acme"), "1")
    assert not store.concerns(normalize("gone"))
    assert (store.meta.malware, store.meta.projects, store.meta.entries) == (2, 2, 2)
    assert b'["2"]' in (store.entry("MAL-2026-1") or b"")
