"""The tokens that one worker has verified, bounded in number and in memory: their holders choose what they claim."""

import sys
from typing import Final

import msgspec
from cachetools import FIFOCache

from pywharf.core.access.identities import Claims, ServiceAccount

MAX_TOKENS: Final = 4096
MAX_BYTES: Final = 16 * 1024 * 1024
"""Bytes of memory that the claims of all tokens take together."""


class Verified(msgspec.Struct, frozen=True):
    """Whose token it is."""

    identity: ServiceAccount | Claims
    until: float
    """Monotonic time from which the token must be verified again, whatever its own end is."""


VerifiedTokens = FIFOCache[bytes, Verified]
"""By the digest of the token, so that no token is kept. The oldest ones go first."""


def no_tokens() -> VerifiedTokens:
    """Return an empty cache."""
    return FIFOCache(MAX_BYTES, _size)


def _size(verified: Verified) -> int:
    """Return the bytes that a token counts. Each counts so many that no more than MAX_TOKENS fit."""
    identity = verified.identity
    return max(_memory(identity.claims) if isinstance(identity, Claims) else 0, MAX_BYTES // MAX_TOKENS)


def _memory(value: object) -> int:
    """Return the bytes of memory of what JSON may hold."""
    parts: list[object] = []
    if isinstance(value, dict):
        parts = [*value.keys(), *value.values()]
    elif isinstance(value, list):
        parts = value
    return sys.getsizeof(value) + sum(map(_memory, parts))
