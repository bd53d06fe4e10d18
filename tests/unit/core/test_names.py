import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.utils import canonicalize_name

from pywharf.core.errors import InvalidNameError
from pywharf.core.names import REPO_NAME_PATTERN, normalize, parse_repo_name

LETTERS = string.ascii_letters + string.digits
valid_names = st.from_regex(r"\A[A-Za-z0-9]([A-Za-z0-9._-]{0,60}[A-Za-z0-9])?\Z", fullmatch=True)


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("friendly-bard", "friendly-bard"),
        ("Friendly-Bard", "friendly-bard"),
        ("FRIENDLY-BARD", "friendly-bard"),
        ("friendly.bard", "friendly-bard"),
        ("friendly_bard", "friendly-bard"),
        ("friendly--bard", "friendly-bard"),
        ("FrIeNdLy-._.-bArD", "friendly-bard"),
        ("a", "a"),
        ("9", "9"),
        ("A.b", "a-b"),
        ("a" * 200, "a" * 200),
    ],
)
def test_normal_form(raw, name):
    assert normalize(raw) == name


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "-foo",
        "foo-",
        ".foo",
        "_",
        "..",
        "foo bar",
        "foo\n",
        "foo\0",
        "foo/bar",
        "../foo",
        "foo%2fbar",
        "foo:bar",
        "f\u00f6\u00f6",
        "foo\u0661",  # a digit outside ASCII
        "\u212a",  # the Kelvin sign, whose lower case is "k"
        "foo\udcff",
        "a" * 201,
    ],
)
def test_no_name(raw):
    with pytest.raises(InvalidNameError, match="is not a valid project name: use ASCII letters") as raised:
        normalize(raw)
    assert len(str(raised.value)) < 1200
    assert str(raised.value).isprintable()


@given(valid_names)
def test_normal_form_is_pep_503_s_and_stays(raw):
    name = normalize(raw)
    assert name == re.sub(r"[-_.]+", "-", raw).lower() == canonicalize_name(raw)
    assert normalize(name) == name


@given(st.text(max_size=20))
def test_any_text_has_a_normal_form_or_is_refused(raw):
    try:
        name = normalize(raw)
    except InvalidNameError:
        assert raw.strip("-_.") != raw or set(raw) - set(LETTERS + "-_.") or not raw
    else:
        assert set(name) <= set(string.ascii_lowercase + string.digits + "-")


@pytest.mark.parametrize(
    ("raw", "name"),
    [("team-a", "team-a"), ("Team-A", "team-a"), ("a", "a"), ("a.b_c", "a.b_c"), ("a" * 63, "a" * 63)],
)
def test_repo_name(raw, name):
    assert parse_repo_name(raw) == name
    assert re.fullmatch(REPO_NAME_PATTERN, name)


@pytest.mark.parametrize(
    "raw",
    ["", "-a", "a-", ".", "..", "a/b", "a\\b", "a b", "a\n", "a\0b", "\u212a", "\u0130", "t\u00e9am", "a" * 64, "a:b"],
)
def test_no_repo_name(raw):
    with pytest.raises(InvalidNameError, match="is not a valid repo name: use at most 63 ASCII") as raised:
        parse_repo_name(raw)
    assert str(raised.value).isprintable()
