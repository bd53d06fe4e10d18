"""PURE. Parse a JWT strictly before anything in it is believed (RFC 7515, RFC 7519, RFC 8725)."""

import base64
import binascii
import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from pywharf.core.access.jwt_reasons import Reason, RefusedTokenError
from pywharf.core.redaction import Redacted

MAX_BYTES: Final = 8192
MAX_TEXT: Final = 512
"""Characters of a header or claim by which something is compared or named."""
ALGORITHMS: Final = frozenset({"RS256", "PS256", "ES256", "ES384", "EdDSA"})
_MAX_DEPTH: Final = 16
_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]+\Z")
_FORBIDDEN_HEADERS: Final = ("crit", "b64", "jku", "jwk", "x5u", "x5c")
"""Extensions, and what would let the token choose the key that it is verified with."""
_JWE_PARTS: Final = 5
_JWS_PARTS: Final = 3


class Jwt(Redacted, frozen=True):
    """A token with the right form. Nothing of it is proved."""

    algorithm: str
    key_id: str
    claims: Mapping[str, Any]
    signed_token_part: bytes
    """What the signature is about."""
    token_signature: bytes


def is_plausible(text: str) -> bool:
    """Return whether a client's secret is meant as a JWT or a JWE. A JSON object begins with `ey` in base64url."""
    return text.startswith("ey") and text.count(".") >= _JWS_PARTS - 1


def parse(text: str) -> Jwt:
    """Parse a token. Raises RefusedTokenError."""
    if len(text) > MAX_BYTES:
        raise RefusedTokenError(Reason.TOO_LONG)
    parts = text.split(".")
    if len(parts) == _JWE_PARTS:
        raise RefusedTokenError(Reason.ENCRYPTED)
    if len(parts) != _JWS_PARTS:
        raise RefusedTokenError(Reason.MALFORMED)
    algorithm, key_id = _checked_header(_object(_decoded(parts[0])))
    claims = _object(_decoded(parts[1]))
    return Jwt(algorithm, key_id, claims, f"{parts[0]}.{parts[1]}".encode(), _decoded(parts[2]))


def _decoded(part: str) -> bytes:
    """Decode base64url without padding, in the one form that RFC 4648 makes of these bytes."""
    if not _BASE64URL.match(part):
        raise RefusedTokenError(Reason.MALFORMED)
    try:
        content = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except binascii.Error:
        raise RefusedTokenError(Reason.MALFORMED) from None
    if base64.urlsafe_b64encode(content).decode().rstrip("=") != part:
        raise RefusedTokenError(Reason.MALFORMED)
    return content


def _object(content: bytes) -> dict[str, Any]:
    """Parse a JSON object in which each name stands once. Texts hold neither NUL nor half characters."""
    try:
        found = json.loads(content.decode(), object_pairs_hook=_unique, parse_constant=_refuse_constant)
        _check(found, 0)
    except (ValueError, RecursionError):  # a UnicodeDecodeError is a ValueError, and so is a number of 5,000 digits
        raise RefusedTokenError(Reason.MALFORMED) from None
    if not isinstance(found, dict):
        raise RefusedTokenError(Reason.MALFORMED)
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise RefusedTokenError(Reason.DUPLICATE_NAME)
    return found


def _refuse_constant(name: str) -> NoReturn:
    """Refuse NaN and the infinities, which Python reads and JSON does not have."""
    raise ValueError(name)


def _check(value: object, depth: int) -> None:
    """Raise ValueError for what a later reader could read in another way, or not at all."""
    if depth > _MAX_DEPTH:
        raise ValueError("too deep")
    if isinstance(value, str):
        if "\0" in value:
            raise ValueError("NUL")
        value.encode()  # half a surrogate pair raises UnicodeEncodeError
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("too large")
    elif isinstance(value, dict):
        for name, each in value.items():
            _check(name, depth + 1)
            _check(each, depth + 1)
    elif isinstance(value, list):
        for each in value:
            _check(each, depth + 1)


def _checked_header(header: Mapping[str, Any]) -> tuple[str, str]:
    """Return algorithm and key id."""
    if "enc" in header or "zip" in header:
        raise RefusedTokenError(Reason.ENCRYPTED)
    if any(name in header for name in _FORBIDDEN_HEADERS):
        raise RefusedTokenError(Reason.HEADER)
    if "cty" in header:
        raise RefusedTokenError(Reason.NESTED)
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.upper() != "JWT":
        raise RefusedTokenError(Reason.HEADER)
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise RefusedTokenError(Reason.ALGORITHM)
    if "kid" not in header:
        raise RefusedTokenError(Reason.NO_KEY_ID)
    key_id = header["kid"]
    if not isinstance(key_id, str) or not 0 < len(key_id) <= MAX_TEXT:
        raise RefusedTokenError(Reason.HEADER)
    return algorithm, key_id
