"""Tokens that an access entry names by their digest, so that the entry may stand in Git."""

import hashlib
import re
import secrets
import zlib

from pywharf.core.errors import InvalidInputError

PREFIX = "pywharf_"
"""What each token begins with. Secret scanners find tokens by it and by their length."""
TOKEN_PATTERN = r"pywharf_[0-9A-Za-z]{49}"  # noqa: S105 - their form
"""The form of a token: the prefix, 43 characters of base62 for 256 random bits, and 6 for the CRC-32 of those 43."""

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BITS = 256
_RANDOM = 43
_CHECK = 6
_TOKEN = re.compile(TOKEN_PATTERN + r"\Z")


def new_token() -> str:
    """Return a new random token."""
    body = _base62(secrets.randbits(_BITS), _RANDOM)
    return f"{PREFIX}{body}{_checksum(body)}"


def is_token(text: str) -> bool:
    """Return whether a text claims to be a token. Whether it is one says `has_checksum`."""
    return text.startswith(PREFIX)


def has_checksum(token: str) -> bool:
    """Return whether a text has the form of a token and the checksum is right, so that no character was mistyped."""
    if _TOKEN.match(token) is None:
        return False
    body = token[len(PREFIX) : -_CHECK]
    return _checksum(body) == token[-_CHECK:]


def digest_of(token: str) -> str:
    """Return the digest by which an entry names a token. Raises InvalidInputError for what is no token."""
    if not has_checksum(token):
        raise InvalidInputError(
            f"This is not a token of `pywharf token new`: it must be {PREFIX} and {_RANDOM + _CHECK} letters and "
            "digits, and its checksum must be right. Look for a character that is missing or mistyped."
        )
    return f"sha256:{hashlib.sha256(token.encode()).hexdigest()}"


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECK)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))
