"""Version specifiers: the pattern of the schema takes all that PEP 440 does, and the operator refuses the rest."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from pywharf_operator.spec.forms import age_s
from pywharf_operator.spec.specifiers import SPECIFIERS_PATTERN, check_specifiers

VERSIONS = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["", "v", "V", "1!"]),
        st.sampled_from(["1", "0.0", "2026.11.27", "1.2.3.4.5"]),
        st.sampled_from(["", "a1", ".beta-2", "RC", "-preview_3", "c0"]),
        st.sampled_from(["", "-1", ".post2", "rev3", "_r4"]),
        st.sampled_from(["", ".dev0", "DEV"]),
        st.sampled_from(["", "+ubuntu.1", "+a-b_c"]),
        st.sampled_from(["", ".*"]),
    ),
)
SPECIFIERS = st.builds(
    lambda operator, gap, version: f"{operator}{gap}{version}",
    st.sampled_from(["===", "~=", "==", "!=", "<=", ">=", "<", ">"]),
    st.sampled_from(["", " "]),
    VERSIONS,
)


def is_taken(text: str) -> bool:
    try:
        SpecifierSet(text)
    except InvalidSpecifier:
        return False
    return True


@given(st.lists(SPECIFIERS, min_size=1, max_size=3).map(" , ".join))
def test_the_pattern_takes_what_pep_440_does(text: str) -> None:
    if is_taken(text):
        assert re.fullmatch(SPECIFIERS_PATTERN, text)
        check_specifiers(text)
    else:
        with pytest.raises(ValueError, match="no version specifier of PEP 440"):
            check_specifiers(text)


@pytest.mark.parametrize(
    "text", ["", ",", "1.0", "==1,", "==1;2", "== 1 2", "==latest", "=1", "==1\n", "==1 or ==2", "==*"]
)
def test_the_pattern_refuses(text: str) -> None:
    assert not re.fullmatch(SPECIFIERS_PATTERN, text)


@pytest.mark.parametrize(("text", "seconds"), [("7d", 604_800), ("12h", 43_200), ("90m", 5400), ("999d", 86_313_600)])
def test_ages(text: str, seconds: int) -> None:
    assert age_s(text) == seconds


def test_the_number_of_specifiers_is_bounded() -> None:
    check_specifiers(",".join(f"!={n}" for n in range(20)))
    with pytest.raises(ValueError, match=r"^21 version specifiers are too many; write at most 20, or several rules$"):
        check_specifiers(",".join(f"!={n}" for n in range(21)))
