"""Who may do what: decisions on secrets, in constant time."""

import enum
import functools
import hashlib
import hmac

import msgspec


class Permission(enum.IntEnum):
    """What a client may do with a repo. Each level includes the ones below it."""

    NONE = 0
    READ = 1
    WRITE = 2


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """A repo's own secrets; None: nobody gets that permission by a secret."""

    read: str | None = None
    write: str | None = None
    anonymous_read: bool = False
    storage: str = ""
    """The one that is asked about clients where there is no secret."""

    @property
    def has_secrets(self) -> bool:
        """Whether these decide alone; else a storage that knows clients itself is asked."""
        return self.read is not None or self.write is not None

    def __repr__(self) -> str:
        """Nothing of the secrets, so that no log or traceback can hold them."""
        return "Credentials(...)"


def permission_of(secret: str | None, credentials: Credentials) -> Permission:
    """What a client may do that sent `secret`; None or empty: it sent none. A wrong one allows nothing."""
    if not secret:
        return Permission.READ if credentials.anonymous_read else Permission.NONE
    # Always both comparisons, so that the time does not tell which secret was near.
    reads, writes = _equal(secret, credentials.read), _equal(secret, credentials.write)
    if writes:
        return Permission.WRITE
    return Permission.READ if reads else Permission.NONE


def fingerprint(credentials: Credentials, key: bytes) -> str:
    """A hex digest that changes when a secret does, or who is asked instead; without `key` it tells nothing of them."""
    digest = hmac.new(key, digestmod=hashlib.sha256)
    for secret in (credentials.read, credentials.write):
        digest.update(b"-" if secret is None else b"+" + _digest(secret))
    if not credentials.has_secrets:
        digest.update(credentials.storage.encode())
    return digest.hexdigest()


def _equal(secret: str, expected: str | None) -> bool:
    # Digests have one length, so that the time tells nothing of the expected secret's either.
    return hmac.compare_digest(_digest(secret), _digest(expected or "")) and bool(expected)


@functools.lru_cache(maxsize=1024)
def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
