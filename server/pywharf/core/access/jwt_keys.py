"""PURE. The public keys of an issuer (RFC 7517), and verifying a token's signature with one of them.

The library that verifies is part of the extra `identity`. It is imported where keys are read, so that a server without
an identity document needs none.
"""

import base64
import binascii
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Final

import msgspec

from pywharf.core.access.jwt_parsing import MAX_TEXT, Jwt
from pywharf.core.access.jwt_reasons import Reason, RefusedTokenError
from pywharf.core.errors import InvalidConfigError

MAX_KEYS: Final = 64
_RSA_BITS: Final = range(2048, 4097)
"""Shorter keys are broken, and longer ones let forged tokens cost more than a millisecond each."""
_MAX_EXPONENT: Final = 2**32
_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})

_Verify = Callable[[bytes, bytes], bool]


class Key(msgspec.Struct, frozen=True):
    """A public key."""

    members: tuple[tuple[str, str], ...]
    """What makes it this key: its type and its numbers."""
    verifying: Mapping[str, _Verify]
    """A function of what was signed and of the signature, by the algorithms that fit the key."""


class KeySet(msgspec.Struct, frozen=True):
    """The usable keys of one issuer."""

    keys: Mapping[str, Key]
    """By `kid`."""

    def holds_all_of(self, other: "KeySet") -> bool:
        """Return whether every key of the other set is here, too, and is the same."""
        return all(kid in self.keys and self.keys[kid].members == key.members for kid, key in other.keys.items())


class BadKeysError(ValueError):
    """A set of keys that cannot be used. The text continues a sentence."""


def read_keys(document: object) -> KeySet:
    """Read the usable keys of a JWK set; others are ignored, as RFC 7517 asks, and so is a second one of a `kid`.

    Raises BadKeysError if no key is left or one is private, InvalidConfigError if the library is not installed.
    """
    listed = document.get("keys") if isinstance(document, Mapping) else None
    if not isinstance(listed, list):
        raise BadKeysError("it has no list of keys")
    if len(listed) > MAX_KEYS:
        raise BadKeysError(f"it has {len(listed)} keys; at most {MAX_KEYS} are taken")
    keys: dict[str, Key] = {}
    for given in listed:
        if not isinstance(given, Mapping):
            continue
        if not _PRIVATE.isdisjoint(given):
            raise BadKeysError("it holds a private or shared key; only public ones belong there")
        kid = given.get("kid")
        if not isinstance(kid, str) or not 0 < len(kid) <= MAX_TEXT or kid in keys:
            continue
        key = _key(given)
        if key is not None:
            keys[kid] = key
    if not keys:
        raise BadKeysError(
            "none of its keys can be used: each needs a kid, and must be RSA of 2048 to 4096 bits, EC on P-256 or "
            "P-384, or Ed25519"
        )
    return KeySet(keys)


def verify(token: Jwt, keys: KeySet) -> None:
    """Verify the signature by exactly the key that the token names. Raises RefusedTokenError."""
    key = keys.keys.get(token.key_id)
    checks = key.verifying.get(token.algorithm) if key is not None else None
    if checks is None:
        raise RefusedTokenError(Reason.KEY)
    if not checks(token.signed_token_part, token.token_signature):
        raise RefusedTokenError(Reason.SIGNATURE)


def _key(given: Mapping[str, Any]) -> Key | None:
    """Return the key, or None if it is not one to verify tokens with."""
    if given.get("use", "sig") != "sig":
        return None
    operations = given.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    found = _form(given)
    if found is None:
        return None
    members, fitting = found
    if "alg" in given:
        fitting = tuple(name for name in fitting if name == given["alg"])
    verifying = {name: check for name in fitting if (check := _verifier(name, members)) is not None}
    return Key(tuple(sorted(members.items())), verifying) if verifying else None


def _form(given: Mapping[str, Any]) -> tuple[dict[str, str], tuple[str, ...]] | None:
    """Return the members that make the key, and the algorithms that its type allows; None for any other key."""
    match given:
        case {"kty": "RSA", "n": str(n), "e": str(e)}:
            if _number(n).bit_length() not in _RSA_BITS or not 1 < _number(e) < _MAX_EXPONENT:
                return None
            return {"kty": "RSA", "n": n, "e": e}, ("RS256", "PS256")
        case {"kty": "EC", "crv": "P-256" | "P-384" as curve, "x": str(x), "y": str(y)}:
            return {"kty": "EC", "crv": curve, "x": x, "y": y}, ("ES256" if curve == "P-256" else "ES384",)
        case {"kty": "OKP", "crv": "Ed25519", "x": str(x)}:
            return {"kty": "OKP", "crv": "Ed25519", "x": x}, ("EdDSA",)
    return None


def _number(text: str) -> int:
    """Return the number that base64url stands for; 0 for what is none."""
    try:
        return int.from_bytes(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, binascii.Error):
        return 0


def _verifier(algorithm: str, members: dict[str, str]) -> _Verify | None:
    library = check_library()
    verifies = library.algorithms.get_default_algorithms()[algorithm]
    try:
        public = verifies.from_jwk(members)
    except (library.InvalidKeyError, ValueError, TypeError):
        return None

    def check(signed: bytes, signature: bytes) -> bool:
        return bool(verifies.verify(signed, public, signature))

    return check


def check_library() -> ModuleType:
    """Return the library. Raises InvalidConfigError if it or what it needs is not installed."""
    try:
        import jwt.algorithms  # noqa: PLC0415 - only where tokens are verified

        if jwt.algorithms.has_crypto:
            return jwt
    except ImportError:
        pass
    raise InvalidConfigError(
        "Identities cannot be verified: PyJWT and cryptography are not installed; install pywharf[identity]."
    )
