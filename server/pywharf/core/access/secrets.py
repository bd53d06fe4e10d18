"""Decide what a client may do with a repo by its own secrets, compared in constant time."""

import functools
import hashlib
import hmac

import msgspec

from pywharf.core.access.deciding import NO_ENTRIES, CompiledEntries
from pywharf.core.access.permission import Permission


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """A repo's own secrets, and its access entries. None means that no secret grants that permission."""

    read: str | None = None
    write: str | None = None
    anonymous_read: bool = False
    storage: str = ""
    """Identifies the storage that decides about clients if the repo has no secret."""
    entries: CompiledEntries = NO_ENTRIES
    """Who else may do what. The secrets are compared first, and nothing of the entries counts in their fingerprint."""

    @property
    def has_secrets(self) -> bool:
        """Whether these secrets alone decide. Otherwise a storage that knows clients itself decides."""
        return self.read is not None or self.write is not None

    def __repr__(self) -> str:
        """Leave out the secrets, so that no log or traceback can contain them."""
        return "Credentials(...)"


def permission_of(secret: str | None, credentials: Credentials) -> Permission:
    """Return the permission of a client that sent `secret` (None or empty: none). A wrong secret allows nothing."""
    if not secret:
        return Permission.READ if credentials.anonymous_read else Permission.NONE
    # Always compare with both, so that the time does not reveal which secret was close.
    reads, writes = _equal(secret, credentials.read), _equal(secret, credentials.write)
    if writes:
        return Permission.WRITE
    return Permission.READ if reads else Permission.NONE


def fingerprint(credentials: Credentials, key: bytes) -> str:
    """Return a hex digest that changes with the secrets, or with the storage that decides instead.

    Without `key` the digest reveals nothing about them.
    """
    digest = hmac.new(key, digestmod=hashlib.sha256)
    for secret in (credentials.read, credentials.write):
        digest.update(b"-" if secret is None else b"+" + _digest(secret))
    if not credentials.has_secrets:
        digest.update(credentials.storage.encode())
    return digest.hexdigest()


def _equal(secret: str, expected: str | None) -> bool:
    # All digests have one length, so that the time does not reveal the expected secret's length either.
    return hmac.compare_digest(_digest(secret), _digest(expected or "")) and bool(expected)


@functools.lru_cache(maxsize=1024)
def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
