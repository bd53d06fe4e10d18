"""Tests of the tokens that entries name by digest."""

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywharf.core.access.tokens import TOKEN_PATTERN, digest_of, has_checksum, is_token, new_token
from pywharf.core.errors import InvalidInputError

TOKEN = "pywharf_" + "0" * 43 + "2CZclj"
"""The token of 256 zero bits. It stays right: tokens that are handed out must not become wrong."""


def test_a_token_stays_right():
    assert has_checksum(TOKEN)


def test_a_token_is_random_and_checked():
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    for token in tokens:
        assert is_token(token)
        assert has_checksum(token)
        assert re.fullmatch(TOKEN_PATTERN, token)
        assert digest_of(token) == f"sha256:{hashlib.sha256(token.encode()).hexdigest()}"


@given(st.integers(8, 56), st.sampled_from("0123456789ABCxyz"))
def test_each_mistyped_character_is_noticed(at, other):
    token = new_token()
    mistyped = token[:at] + other + token[at + 1 :]
    assert has_checksum(mistyped) is (mistyped == token)


SHORT, LONG = TOKEN[:-1], TOKEN + "0"
WRONG = ["", "pywharf_", "pywharf-minted", SHORT, LONG, TOKEN + "\n", " " + TOKEN, TOKEN.upper(), "pywharf_\u00e9"]


@pytest.mark.parametrize("wrong", WRONG)
def test_another_text_is_no_token(wrong):
    assert not has_checksum(wrong)
    with pytest.raises(InvalidInputError) as raised:
        digest_of(wrong)
    assert not wrong or wrong.strip() not in str(raised.value) or wrong == "pywharf_"
