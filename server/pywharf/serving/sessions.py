"""The browser's session: a signed cookie that holds repo, permission and expiry, never the secret.

The signature also covers the fingerprint of the repo's secrets, so a rotated secret ends its sessions. The session of
an identity holds that identity instead, and the keys of the entries that granted it something: at each request those of
them that still stand in the configuration decide again. A session that a browser has ended is recorded where all
servers of a ROOT see it: docs/decisions/0016-session-revocation.md.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
import time
from typing import Any, Protocol

import msgspec

from pywharf.core.access.deciding import Grant, digest_of_key
from pywharf.core.access.identities import Claims, Identity, ServiceAccount, TokenHolder
from pywharf.core.access.permission import Permission
from pywharf.core.access.secrets import Credentials, fingerprint
from pywharf.core.errors import InvalidInputError
from pywharf.core.msgspec_warmup import warmed_up
from pywharf.core.names import RepoName
from pywharf.serving.session_files import Holder

_MAX_COOKIE = 1024
_ID_BYTES = 16
_MEMBER_HEX = 16


@warmed_up
class Session(msgspec.Struct, frozen=True, omit_defaults=True):
    """The content of a cookie. Times are Unix seconds."""

    id: str
    """A random text that nobody can guess."""
    repo: RepoName
    permission: Permission
    issued_at: int
    read_until: int
    write_until: int
    token: str | None = None
    """Digest of the token whose holder signed in."""
    account: tuple[str, str] | None = None
    """Namespace and name of the ServiceAccount that signed in."""
    issuer: str | None = None
    """Name of the issuer of the OIDC token whose holder signed in."""
    claims: dict[str, Any] = {}
    """That token's claims, as far as the entries of the repo asked for them."""
    entries: tuple[str, ...] = ()
    """The digests in the keys of the entries that granted something."""

    @property
    def identity(self) -> Identity | None:
        """Return who signed in; None if the repo's own secret did."""
        if self.token is not None:
            return TokenHolder(self.token)
        if self.account is not None:
            return ServiceAccount(*self.account, expires=self.read_until)
        if self.issuer is not None:
            return Claims(self.issuer, self.claims, self.read_until)
        return None

    def permission_at(self, now: float) -> Permission:
        """Return what the session allows at the time `now`."""
        if now >= self.read_until:
            return Permission.NONE
        if self.permission is Permission.WRITE and now >= self.write_until:
            return Permission.READ
        return self.permission


class EndedSessions(Protocol):
    """The record of sessions that were ended early. Both methods raise UnavailableError."""

    async def add(self, repo: RepoName, holder: Holder, session: str, issued_at: int, until: int) -> None:
        """Record an ended session of a holder until `until`.

        Every worker and replica that shares the records knows it within 2 seconds.
        """

    async def holds(self, repo: RepoName, holder: Holder, session: str, issued_at: int) -> bool:
        """Return whether a holder's session issued at `issued_at` was ended."""


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
        return self._signed(session, credentials)

    def issue_to(self, repo: RepoName, grant: Grant, identity: Identity, credentials: Credentials) -> tuple[str, int]:
        """Issue a session to an identity. Return its cookie's value and the seconds for which it is valid.

        It never lasts longer than the proof of the identity. Raises InvalidInputError if its cookie would be too large,
        or for an identity that a cookie must not prolong.
        """
        now = int(time.time())
        fields: dict[str, Any]
        match identity:
            case TokenHolder(digest):
                fields, ends = {"token": digest}, None
            case ServiceAccount(namespace, name):
                fields, ends = {"account": (namespace, name)}, identity.expires
            case Claims(issuer, claims):
                asked = credentials.entries.claims_about(issuer) | {"sub"}
                kept = {claim: value for claim, value in claims.items() if claim in asked}
                fields, ends = {"issuer": issuer, "claims": kept}, identity.expires
            case _:
                raise InvalidInputError("A token for publishing opens no browser's session; sign in with another one.")
        ends = now + self._read_expires_s if ends is None else min(ends, now + self._read_expires_s)
        session = Session(
            id=secrets.token_urlsafe(_ID_BYTES),
            repo=repo,
            permission=grant.permission,
            issued_at=now,
            read_until=int(ends),
            write_until=min(int(ends), now + self._write_expires_s),
            entries=tuple(map(digest_of_key, grant.keys)),
            **fields,
        )
        cookie = self._signed(session, credentials)
        if len(cookie) > _MAX_COOKIE:
            raise InvalidInputError(
                f"This identity does not fit into a browser's cookie of {_MAX_COOKIE} bytes: too many access entries "
                "name it, or ask for too many or too long claims. Sign in with a token instead."
            )
        return cookie, session.read_until - now

    def _signed(self, session: Session, credentials: Credentials) -> str:
        payload = base64.urlsafe_b64encode(msgspec.json.encode(session)).rstrip(b"=").decode()
        return f"{payload}.{self._sign(payload, credentials, session)}"

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

    def verify(self, cookie: str, session: Session, credentials: Credentials) -> bool:
        """Return whether the cookie of a session was signed with this server's key and the repo's current secrets."""
        payload, _, signature = cookie.partition(".")
        return hmac.compare_digest(self._sign(payload, credentials, session).encode(), signature.encode())

    async def end(self, session: Session) -> None:
        """End a verified session early."""
        holder = self._holder(session)
        await self._ended.add(session.repo, holder, session.id, session.issued_at, session.read_until)

    async def is_ended(self, session: Session) -> bool:
        """Return whether a verified session was ended early."""
        return await self._ended.holds(session.repo, self._holder(session), session.id, session.issued_at)

    def _holder(self, session: Session) -> Holder:
        """Return whose records a session is among: those of its entry and identity, or of the secret.

        The names hold no `/`. Nobody without the key can choose an identity that shares its name with another.
        """
        identity = session.identity
        if identity is None:
            return Holder(session.permission.name.lower())
        subject = hmac.new(self._key, identity.subject.encode("utf-8", "surrogatepass"), hashlib.sha256)
        return Holder(session.entries[0] if session.entries else "none", subject.hexdigest()[:_MEMBER_HEX])

    def _sign(self, payload: str, credentials: Credentials, session: Session) -> str:
        # The entries decide about an identity, so the repo's secrets may change meanwhile.
        bound = fingerprint(credentials, self._key) if session.identity is None else "identity"
        text = f"{payload}.{bound}"
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()
