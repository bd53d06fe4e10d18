"""Check which texts count as GitHub tokens: every kind that GitHub issues, and no junk."""

import pytest

from pywharf.backends.github.credentials import is_token
from pywharf.core.access.jwt_parsing import is_plausible

TOKENS = [
    "ghp_" + "aB3" * 12,
    "gho_" + "aB3" * 12,
    "ghu_" + "aB3" * 12,
    "ghs_" + "aB3" * 12,
    "ghr_" + "aB3" * 25,
    "ghp_" + "aB3" * 80,
    "github_pat_" + "A" * 22 + "_" + "b" * 59,
    "0123456789abcdef0123456789abcdef01234567",
    "v1." + "0123456789abcdef" * 2 + "01234567",
    "ghs_1234567_eyJhbGciOiJSUzI1NiJ9." + "e" * 300 + ".c2ln-_" + "x" * 100,
]
JWT = "eyJhbGciOiJSUzI1NiJ9." + "e" * 300 + ".c2ln"
JUNK = ["", "!!junk1", "junk 1", "pässword", "a\nb", "x" * 5000, "secret:with:colons", "ghp_" + "a" * 36 + "!"]
ODD = ["x", "password", "junk1", "hunter2-hunter2", "ghp_short", "0123456789ABCDEF0123456789ABCDEF01234567", "good"]


@pytest.mark.parametrize("host", ["api.github.com", "API.GITHUB.com", "api.acme.ghe.com", "ghe.acme.example"])
@pytest.mark.parametrize("token", TOKENS, ids=range(len(TOKENS)))
def test_each_kind_of_token(token, host):
    assert is_token(token, host)


@pytest.mark.parametrize("host", ["api.github.com", "ghe.acme.example"])
@pytest.mark.parametrize("text", JUNK, ids=range(len(JUNK)))
def test_what_can_be_no_token(text, host):
    assert not is_token(text, host)


@pytest.mark.parametrize("text", ODD)
def test_github_s_own_have_a_form_that_others_need_not_have(text):
    assert not is_token(text, "api.github.com")
    assert is_token(text, "ghe.acme.example")
    assert is_token(text, "notgithub.com")


def test_a_json_web_token_by_itself_is_none():
    """On an Enterprise Server, whose tokens may have any form, `JwtVerifier` keeps it from the storage."""
    assert not is_token(JWT, "api.github.com")
    assert is_plausible(JWT)
