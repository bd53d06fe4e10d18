"""The browser's session: a signed cookie that holds repo, permission and expiry, never the secret.

The signature also covers the fingerprint of the repo's secrets, so a rotated secret ends its sessions. A session that
a browser has ended is recorded where all servers of a ROOT see it: docs/decisions/0016-session-revocation.md.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
import time
from typing import Protocol

import msgspec

from pywharf.core.access.permission import Permission
from pywharf.core.access.secrets import Credentials, fingerprint
from pywharf.core.msgspec_warmup import warmed_up
from pywharf.core.names import RepoName

_MAX_COOKIE = 1024
_ID_BYTES = 16


@warmed_up
class Session(msgspec.Struct, frozen=True):
    """The content of a cookie. Times are Unix seconds."""

    id: str
    """A random text that nobody can guess."""
    repo: RepoName
    permission: Permission
    issued_at: int
    read_until: int
    write_until: int

    def permission_at(self, now: float) -> Permission:
        """Return what the session allows at the time `now`."""
        if now >= self.read_until:
            return Permission.NONE
        if self.permission is Permission.WRITE and now >= self.write_until:
            return Permission.READ
        return self.permission


class EndedSessions(Protocol):
    """The record of sessions that were ended early. Both methods raise UnavailableError."""

    async def add(self, repo: RepoName, session: str, issued_at: int, until: int) -> None:
        """Record an ended session until `until`.

        Every worker and replica that shares the records knows it within 2 seconds.
        """

    async def holds(self, repo: RepoName, session: str, issued_at: int) -> bool:
        """Return whether a session issued at `issued_at` was ended."""


class Sessions:
    """The issuer and verifier of cookies, with the key that the replicas share."""

    def __init__(self, key: bytes, read_expires_s: int, write_expires_s: int, ended: EndedSessions) -> None:
        self._ended = ended
        self._key = hashlib.sha256(b"pywharf session\0" + key).digest()
        self._read_expires_s = read_expires_s
        self._write_expires_s = write_expires_s

    @property
    def max_age_s(self) -> int:
        """Return the seconds for which a browser keeps the cookie."""
        return self._read_expires_s

    def issue(self, repo: RepoName, permission: Permission, credentials: Credentials) -> str:
        """Issue a session and return its cookie's value."""
        now = int(time.time())
        session = Session(
            id=secrets.token_urlsafe(_ID_BYTES),
            repo=repo,
            permission=permission,
            issued_at=now,
            read_until=now + self._read_expires_s,
            write_until=now + self._write_expires_s,
        )
        payload = base64.urlsafe_b64encode(msgspec.json.encode(session)).rstrip(b"=").decode()
        return f"{payload}.{self._sign(payload, credentials)}"

    @staticmethod
    def unverified(cookie: str) -> Session | None:
        """Return what the cookie claims, to find the repo whose credentials verify it, or None if it is unreadable."""
        payload = cookie.partition(".")[0]
        if len(cookie) > _MAX_COOKIE or not cookie.isascii():
            return None
        try:
            raw = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
            return msgspec.json.decode(raw, type=Session)
        except (binascii.Error, ValueError, msgspec.MsgspecError):
            return None

    def verify(self, cookie: str, credentials: Credentials) -> bool:
        """Return whether the cookie was signed with this server's key and the repo's current secrets."""
        payload, _, signature = cookie.partition(".")
        return hmac.compare_digest(self._sign(payload, credentials).encode(), signature.encode())

    async def end(self, session: Session) -> None:
        """End a verified session early."""
        await self._ended.add(session.repo, session.id, session.issued_at, session.read_until)

    async def is_ended(self, session: Session) -> bool:
        """Return whether a verified session was ended early."""
        return await self._ended.holds(session.repo, session.id, session.issued_at)

    def _sign(self, payload: str, credentials: Credentials) -> str:
        text = f"{payload}.{fingerprint(credentials, self._key)}"
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()
