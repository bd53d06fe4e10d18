"""Check which published keys verify tokens, and how a missing library is reported."""

import sys
from typing import Any

import pytest

from pywharf.core.access.jwt_keys import MAX_KEYS, BadKeysError, KeySet, read_keys
from pywharf.core.errors import InvalidConfigError
from support.identity.tokens import jwks, signing_key

RSA, EC, LONG_EC, ED = (
    signing_key("rsa"),
    signing_key("ec", "ES256"),
    signing_key("ec384", "ES384"),
    signing_key("ed", "EdDSA"),
)


def test_each_kind_of_key_has_the_algorithms_of_its_type():
    listed = [{name: value for name, value in key.jwk().items() if name != "alg"} for key in (RSA, EC, LONG_EC, ED)]
    found = read_keys({"keys": listed})
    assert {kid: tuple(key.verifying) for kid, key in found.keys.items()} == {
        "rsa": ("RS256", "PS256"),
        "ec": ("ES256",),
        "ec384": ("ES384",),
        "ed": ("EdDSA",),
    }
    named = read_keys(jwks(RSA))
    assert tuple(named.keys["rsa"].verifying) == ("RS256",), "the key names its algorithm"


UNUSABLE: dict[str, object] = {
    "for encryption": RSA.jwk(use="enc"),
    "for other operations": RSA.jwk(key_ops=["encrypt"]),
    "operations in a text": RSA.jwk(key_ops="verify"),
    "a shared secret's algorithm": RSA.jwk(alg="HS256"),
    "another hash": RSA.jwk(alg="RS512"),
    "an algorithm that is null": RSA.jwk(alg=None),
    "no kid": RSA.jwk(kid=None),
    "a kid that is a number": RSA.jwk(kid=7),
    "an empty kid": RSA.jwk(kid=""),
    "a long kid": RSA.jwk(kid="x" * 513),
    "a tiny modulus": RSA.jwk(n="AQAB"),
    "a modulus that is no base64": RSA.jwk(n="no base64 é"),
    "an exponent of one": RSA.jwk(e="AQ"),
    "a huge exponent": RSA.jwk(e="_" * 100),
    "another type": RSA.jwk(kty="oct"),
    "a type that is a list": RSA.jwk(kty=["RSA"]),
    "1024 bits": signing_key("short", "RS256", 1024).jwk(),
    "a short coordinate": EC.jwk(x="AAAA"),
    "another curve": EC.jwk(crv="secp256k1"),
    "no point of the curve": EC.jwk(y=EC.jwk()["x"]),
    "another curve of Edwards": ED.jwk(crv="Ed448"),
    "a short point": ED.jwk(x="AA"),
    "a text": "a text",
    "null": None,
}


@pytest.mark.parametrize("unusable", UNUSABLE.values(), ids=UNUSABLE)
def test_a_key_that_cannot_verify_is_left_out(unusable):
    assert read_keys({"keys": [unusable, ED.jwk()]}).keys.keys() == {"ed"}
    with pytest.raises(BadKeysError, match="none of its keys can be used"):
        read_keys({"keys": [unusable]})


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (None, "it has no list of keys"),
        ([], "it has no list of keys"),
        ({}, "it has no list of keys"),
        ({"keys": {}}, "it has no list of keys"),
        ({"keys": []}, "none of its keys can be used"),
        ({"keys": [RSA.jwk(kid=f"{n}") for n in range(MAX_KEYS + 1)]}, "it has 65 keys; at most 64 are taken"),
        ({"keys": [RSA.jwk(), EC.jwk(d="AAAA")]}, "it holds a private or shared key"),
        ({"keys": [RSA.jwk(), {"kty": "oct", "k": "AAAA"}]}, "it holds a private or shared key"),
    ],
)
def test_sets_that_cannot_be_used(document, said):
    with pytest.raises(BadKeysError) as raised:
        read_keys(document)
    assert str(raised.value).startswith(said)


def test_the_first_key_of_an_id_counts():
    other = signing_key("other", "ES256")
    found = read_keys({"keys": [EC.jwk(kid="one"), other.jwk(kid="one")]})
    assert dict(found.keys["one"].members)["x"] == EC.jwk()["x"]


def test_a_set_that_lacks_or_changes_a_key():
    both, one = read_keys(jwks(RSA, EC)), read_keys(jwks(RSA))
    changed = read_keys({"keys": [RSA.jwk(), signing_key("other", "ES256").jwk(kid="ec")]})
    assert both.holds_all_of(one)
    assert both.holds_all_of(read_keys(jwks(EC, RSA)))
    assert one.holds_all_of(KeySet({}))
    assert not one.holds_all_of(both)
    assert not changed.holds_all_of(both)


@pytest.mark.parametrize("missing", ["jwt.algorithms", "jwt"])
def test_a_library_that_is_not_installed_is_an_error_with_its_remedy(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(InvalidConfigError, match=r"not installed; install pywharf\[identity\]\.$"):
        read_keys(jwks(RSA))


def test_half_of_the_library_is_not_enough(monkeypatch):
    import jwt.algorithms  # noqa: PLC0415

    published = jwks(RSA)
    monkeypatch.setattr(jwt.algorithms, "has_crypto", False)
    with pytest.raises(InvalidConfigError, match=r"install pywharf\[identity\]"):
        read_keys(published)


def test_a_second_spelling_of_a_number_is_another_key():
    padded: dict[str, Any] = RSA.jwk(n=f"{RSA.jwk()['n']}=")
    assert not read_keys({"keys": [padded]}).holds_all_of(read_keys(jwks(RSA)))
