import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywharf.core.names import ProjectName
from pywharf.core.policy.name_patterns import NamePatterns, is_costly, normalized_pattern

NAMES = st.text("ab-", min_size=1, max_size=8)
PATTERNS = st.text("ab-*", min_size=1, max_size=6)


@given(st.lists(PATTERNS, max_size=8), NAMES)
def test_patterns_match_as_fnmatch_does(patterns: list[str], raw: str) -> None:
    name = ProjectName(normalized_pattern(raw))
    expected = [
        number for number, pattern in enumerate(patterns) if fnmatch.fnmatchcase(name, normalized_pattern(pattern))
    ]
    compiled = NamePatterns((pattern, number) for number, pattern in enumerate(patterns))
    assert sorted(compiled.matching(name)) == expected
    assert compiled.match(name) == bool(expected)
    assert compiled.matched([name, ProjectName("c")]) == [
        one for one, found in ((name, expected), ("c", compiled.matching(ProjectName("c")))) if found
    ]


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("Acme_Tool", "acme-tool", True),
        ("acme.*", "acme-x", True),
        ("acme.*", "acme", False),
        ("a*b*c", "axbxc", True),
        ("a*a", "a", False),
        ("ab*ba", "aba", False),
        ("**", "x", True),
        ("*-*-*", "a-b-c", True),
        ("*-*-*", "a-b", False),
        ("a[bc]", "ab", False),
        ("a?", "ab", False),
    ],
)
def test_match(pattern: str, name: str, matches: bool) -> None:
    assert NamePatterns([(pattern, None)]).match(ProjectName(name)) == matches


@pytest.mark.parametrize("pattern", ["acme-*", "acme-**", "Acme", "*", "**"])
def test_a_beginning_is_found_without_trying_patterns(monkeypatch: pytest.MonkeyPatch, pattern: str) -> None:
    monkeypatch.delattr("pywharf.core.policy.name_patterns.fits_pieces")
    assert not is_costly(pattern)
    patterns = NamePatterns([(pattern, 1)] * 2)
    assert len(patterns.matching(ProjectName("acme-tool"))) == (0 if pattern == "Acme" else 2)


@pytest.mark.parametrize("pattern", ["*-acme", "a*c", "a*c*", "*a*"])
def test_any_other_may_have_to_be_tried(pattern: str) -> None:
    assert is_costly(pattern)


def test_a_pattern_of_many_rules_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[tuple[str, ...]] = []

    def fits(pieces: tuple[str, ...], name: str) -> bool:
        del name
        tried.append(pieces)
        return True

    monkeypatch.setattr("pywharf.core.policy.name_patterns.fits_pieces", fits)
    patterns = NamePatterns(("*a*b", number) for number in range(100))
    assert patterns.matching(ProjectName("acme-b")) == [*range(100)]
    assert tried == [("", "a", "b")]


def test_many_patterns_are_not_tried_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[tuple[str, ...]] = []

    def fits(pieces: tuple[str, ...], name: str) -> bool:
        tried.append(pieces)
        return name.startswith(pieces[0])

    monkeypatch.setattr("pywharf.core.policy.name_patterns.fits_pieces", fits)
    patterns = NamePatterns((f"acme-{number:05}-*x", number) for number in range(10_000))
    assert patterns.matching(ProjectName("acme-00042-x")) == [42]
    assert len(tried) < 200
