from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from pywharf.core.policy.version_table import VersionTable

NUMBERS = st.integers(0, 2)
RELEASES = st.lists(NUMBERS, min_size=1, max_size=4).map(lambda release: ".".join(map(str, release)))
PUBLIC = st.builds(
    lambda epoch, release, pre, post, dev: f"{epoch}{release}{pre}{post}{dev}",
    st.sampled_from(["", "", "1!"]),
    RELEASES,
    st.sampled_from(["", "", "a0", "a1", "b1", "rc0", "rc1"]),
    st.sampled_from(["", "", ".post0", ".post1"]),
    st.sampled_from(["", "", ".dev0", ".dev1"]),
)
VERSIONS = st.builds("{}{}".format, PUBLIC, st.sampled_from(["", "", "+a", "+a.1", "+1"]))
SPECIFIERS = st.one_of(
    st.builds("{}{}".format, st.sampled_from(["<", "<=", ">", ">="]), PUBLIC),
    st.builds("{}{}".format, st.sampled_from(["==", "!=", "==="]), VERSIONS),
    st.builds("{}{}.*".format, st.sampled_from(["==", "!="]), RELEASES),
    st.builds("~={}.{}".format, NUMBERS, PUBLIC.filter(lambda text: "!" not in text)),
)


def _matching(versions: list[str], specifiers: SpecifierSet) -> set[str]:
    table = VersionTable(versions)
    return set(table.texts(table.matching(specifiers)))


@given(st.lists(VERSIONS, max_size=12), st.lists(SPECIFIERS, max_size=3))
def test_a_table_matches_what_packaging_matches(versions: list[str], specifiers: list[str]) -> None:
    normal = [str(Version(version)) for version in versions]
    parsed = SpecifierSet(",".join(specifiers))
    expected = {version for version in normal if parsed.contains(Version(version), prereleases=True)}
    assert _matching(normal, parsed) == expected


@pytest.mark.parametrize(
    ("specifiers", "expected"),
    [
        ("", "0.9 1.0rc1 1.0 1.0+acme 1.0.post1 1.1 1!0.1"),
        ("==1", "1.0 1.0+acme"),
        ("==1.0+acme", "1.0+acme"),
        ("==1.0.*", "1.0rc1 1.0 1.0+acme 1.0.post1"),
        ("~=1.0", "1.0 1.0+acme 1.0.post1 1.1"),
        ("<1", "0.9"),
        ("<1.0rc2", "0.9 1.0rc1"),
        (">1.0", "1.1 1!0.1"),
        (">=1.0,!=1.1", "1.0 1.0+acme 1.0.post1 1!0.1"),
        ("===1.0", "1.0"),
        ("===1", ""),
        ("==1!0.1.0", "1!0.1"),
        ("<0", ""),
    ],
)
def test_specifiers(specifiers: str, expected: str) -> None:
    versions = ["1.0", "0.9", "1.1", "1.0rc1", "1.0+acme", "1!0.1", "1.0.post1"]
    assert _matching(versions, SpecifierSet(specifiers)) == set(expected.split())


def test_a_table_without_versions_matches_nothing() -> None:
    assert _matching([], SpecifierSet("!=1.0")) == set()


def test_packaging_refuses_a_prefix_of_a_pre_release() -> None:
    with pytest.raises(InvalidSpecifier):
        SpecifierSet("==1.0a1.*")


@pytest.mark.parametrize("specifier", ["===1.5", "==1.5+local"])
def test_a_version_is_looked_up_and_not_compared_with_all(monkeypatch: pytest.MonkeyPatch, specifier: str) -> None:
    table = VersionTable(str(Version(f"1.{n}{local}")) for n in range(100) for local in ("", "+local"))
    table.matching(SpecifierSet("==1.5+local"))
    texts, versions = table._texts, table._versions  # noqa: SLF001 - what must not be gone through

    class Once(list):  # type: ignore[type-arg]
        def __iter__(self) -> Iterator[object]:
            raise AssertionError("all versions are compared")

    monkeypatch.setattr(table, "_texts", Once(texts))
    monkeypatch.setattr(table, "_versions", Once(versions))
    assert table.matching(SpecifierSet(specifier)).bit_count() == 1
