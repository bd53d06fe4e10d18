"""Which kept files are removed: properties that hold for every cache."""

import hashlib
from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywharf.index.ports import KeptFile
from pywharf.index.upstream.eviction import PERIOD_S, Census, PinnedFiles

NOW = 1_800_000_000.0


def kept(name: int, size: int, age_s: float = 0.0) -> KeptFile:
    return KeptFile(hashlib.sha256(str(name).encode()).hexdigest(), size, NOW - age_s)


def removed(files: list[KeptFile], target: int, pinned: Collection[str] = ()) -> list[KeptFile]:
    known = PinnedFiles()
    known.add(pinned)
    census = Census(known, NOW)
    for start in range(0, len(files), 3):
        census.add(files[start : start + 3])
    eviction = census.eviction(target)
    if eviction is None:
        return []
    return [file for start in range(0, len(files), 2) for file in eviction.choose(files[start : start + 2])]


@pytest.mark.parametrize(
    ("ages", "target", "gone"),
    [
        ([], 0, set()),
        ([0, 1], 20, set()),
        ([0, 1], 19, {1}),
        ([5, 0, 9, 3], 40, set()),
        ([5, 0, 9, 3], 30, {9}),
        ([5, 0, 9, 3], 21, {9, 5}),
        ([5, 0, 9, 3], 0, {9, 5, 3, 0}),
    ],
)
def test_what_was_used_longest_ago_goes_first(ages, target, gone):
    files = [kept(number, 10, age * 3600) for number, age in enumerate(ages)]
    assert {round((NOW - file.last_used) / 3600) for file in removed(files, target)} == gone


def test_a_time_in_the_future_counts_as_now():
    files = [kept(0, 10, -1e9), kept(1, 10, 3600), kept(2, 10, 0)]
    assert removed(files, 20) == [files[1]]
    assert removed([files[0]], 0) == [files[0]]


def test_files_of_any_age_take_a_bounded_memory():
    census = Census(PinnedFiles(), NOW)
    census.add([kept(number, 1, number * 86400.0) for number in range(20_000)])
    assert len(census.by_period) < 400


_FILES = st.lists(
    st.tuples(st.integers(0, 10**12), st.floats(-1e6, 1e9), st.booleans()),
    max_size=60,
)


@given(_FILES, st.integers(0, 10**13))
def test_properties(described, target):
    files = [kept(number, size, age) for number, (size, age, _) in enumerate(described)]
    pinned = {file.sha256 for file, (_, _, is_pinned) in zip(files, described, strict=True) if is_pinned}
    gone = removed(files, target, pinned)
    left = [file for file in files if file not in gone]
    free = [file for file in left if file.sha256 not in pinned]
    assert not {file.sha256 for file in gone} & pinned
    assert len({file.sha256 for file in gone}) == len(gone)
    # As many as needed, if there are so many.
    size = sum(file.size for file in left)
    assert size <= target or not free
    # No more than needed: without one of them, more than the target would be left.
    if gone:
        assert size + max(file.size for file in gone) > target
    # Nothing stays that was used an earlier period than something that goes.
    if gone and free:
        newest = max(min(file.last_used, NOW) for file in gone)
        oldest = min(min(file.last_used, NOW) for file in free)
        assert oldest >= newest - PERIOD_S or oldest < NOW - 366 * 86400


@given(st.lists(st.integers(0, 100)), st.lists(st.integers(0, 100)), st.integers(0, 100))
def test_pinned_files_are_found(first, second, asked):
    pinned = PinnedFiles()
    for some in (first, second):
        pinned.add(kept(number, 0).sha256 for number in some)
    assert (kept(asked, 0).sha256 in pinned) == (asked in {*first, *second})
