"""Minted tokens: what they say, and that nothing else is taken for one."""

import base64
import hashlib
import hmac

import pytest

from pywharf.core.access.minted import LIFE_S, MAX_REPOS, MAX_TOKEN, PREFIX, MintingKey, is_plausible
from pywharf.core.names import RepoName

NOW = 1_800_000_000.25
KEY = b"the session key of a test"
ENTRIES = {RepoName("team-a"): ("release:abc", "nightly:def"), RepoName("team-b"): ("release:123",)}


def minted(key: bytes = KEY) -> str:
    return MintingKey(key).mint("an-id", ENTRIES, "github:repo:acme/tool:ref:refs/heads/main", NOW)[0]


def test_a_token_says_what_it_was_minted_for():
    token, minted = MintingKey(KEY).mint("an-id", ENTRIES, "github:acme", NOW)
    read = MintingKey(KEY).read(token, NOW)
    assert read == minted
    assert (minted.jti, dict(minted.entries), minted.subject) == ("an-id", ENTRIES, "github:acme")
    assert minted.expires >= NOW + LIFE_S, "PEP 807: not less than 15 minutes"


@pytest.mark.parametrize(("seconds", "is_valid"), [(0, True), (899, True), (901, False), (10_000, False)])
def test_it_ends_after_fifteen_minutes(seconds: int, is_valid: bool):
    assert (MintingKey(KEY).read(minted(), NOW + seconds) is not None) is is_valid


def test_it_is_neither_a_jwt_nor_a_token_of_an_entry():
    token = minted()
    assert "." not in token
    assert not token.startswith("pywharf_")
    assert token.startswith(PREFIX)
    assert len(token) <= MAX_TOKEN


def with_mac_of(key: bytes) -> str:
    """Return the token's content signed with another key."""
    blob = minted().removeprefix(PREFIX)
    body = base64.urlsafe_b64decode(blob + "=" * (-len(blob) % 4))[32:]
    return PREFIX + base64.urlsafe_b64encode(hmac.digest(key, body, "sha256") + body).rstrip(b"=").decode()


FORGED = {
    "another session key": minted(b"another"),
    "signed with the session key itself": with_mac_of(KEY),
    "signed with the key of cookies": with_mac_of(hashlib.sha256(b"pywharf session\0" + KEY).digest()),
    "signed with an empty key": with_mac_of(b""),
    "one more character": minted() + "A",
    "one fewer character": minted()[:-1],
    "another content": minted()[:-6] + "AAAAAA",
    "no content": PREFIX,
    "no base64": PREFIX + "=" * 40,
    "letters of the other alphabet": minted()[:-3] + "+/=",
    "a zero": minted() + "\0",
    "too long": minted() + "A" * MAX_TOKEN,
    "beyond ASCII": minted()[:-1] + "é",
    "another prefix": "pywharf_" + minted(),
    "nothing": "",
}


@pytest.mark.parametrize("token", FORGED.values(), ids=FORGED)
def test_a_forged_token_is_none(token: str):
    assert MintingKey(KEY).read(token, NOW) is None


def test_a_token_may_be_recognized_by_its_form():
    assert is_plausible(minted())
    assert not is_plausible("pywharf_minted-abc")
    assert not is_plausible("eyJhbGciOiJSUzI1NiJ9.e30.c2ln")


def test_a_repo_with_many_entries_leaves_room_for_the_others():
    many = {RepoName("crowded"): tuple(f"{'e' * 60}-{n}:{n:024}" for n in range(64)), RepoName("small"): ("release:1",)}
    token, _ = MintingKey(KEY).mint("an-id", many, "somebody", NOW)
    read = MintingKey(KEY).read(token, NOW)
    assert read is not None
    assert len(token) <= MAX_TOKEN
    assert read.entries[RepoName("small")] == ("release:1",)
    kept = read.entries[RepoName("crowded")]
    assert 0 < len(kept) < 64
    assert kept == many[RepoName("crowded")][: len(kept)]


@pytest.mark.parametrize(("length", "least"), [(1, MAX_REPOS), (50, 15)])
def test_the_last_repos_are_left_out_if_not_all_fit(length, least):
    many = {RepoName(f"{'r' * length}-{n}"): (f"{'e' * length}:{n:024}",) for n in range(100)}
    token, minted = MintingKey(KEY).mint("an-id", many, "somebody", NOW)
    assert MintingKey(KEY).read(token, NOW) == minted
    assert len(token) <= MAX_TOKEN
    assert least <= len(minted.entries) <= MAX_REPOS
    assert list(minted.entries) == list(many)[: len(minted.entries)]


def test_one_repo_always_fits():
    worst = {RepoName("r" * 63): tuple(f"{'e' * 63}:{n:024}" for n in range(64))}
    _, minted = MintingKey(KEY).mint("an-id", worst, "\0" * 300, NOW)
    assert len(minted.entries) == 1
