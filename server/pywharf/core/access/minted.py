"""PURE. Make and read minted tokens: what a server gives a client of trusted publishing for its OIDC token.

A token is `pywharf-minted-` and one base64url text: an HMAC-SHA256, then what it signs. It has no dot, so it is no JWT,
and its prefix differs from that of the tokens whose digests entries name. Every server with the same session key reads
it.
"""

import base64
import binascii
import hashlib
import hmac
import itertools
import math
from collections.abc import Mapping

import msgspec

from pywharf.core.access.identities import Minted
from pywharf.core.msgspec_warmup import warmed_up
from pywharf.core.names import RepoName

PREFIX = "pywharf-minted-"
MAX_TOKEN = 4096
"""Most characters of a token."""
MAX_REPOS = 32
"""Most repos of a token."""
LIFE_S = 900
"""Seconds from minting to the end; PEP 807 allows no fewer."""
_LABEL = b"pywharf minted token"
_MAC_BYTES = hashlib.sha256().digest_size
_MAX_BODY = (MAX_TOKEN - len(PREFIX)) * 3 // 4 - _MAC_BYTES
_MAX_SUBJECT = 256


@warmed_up
class _Body(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a token says, without the names of fields."""

    jti: str
    expires: int
    subject: str
    entries: dict[RepoName, tuple[str, ...]]


class MintingKey:
    """The key that signs minted tokens. It follows from the session key, and tells nothing about it."""

    def __init__(self, session_key: bytes) -> None:
        self._key = hmac.digest(session_key, _LABEL, "sha256")

    def mint(
        self, jti: str, entries: Mapping[RepoName, tuple[str, ...]], subject: str, now: float
    ) -> tuple[str, Minted]:
        """Return a token, and whom it proves.

        A repo with many entries holds fewer of them in the token, so that it leaves room for the others. Repos that do
        not fit all the same are left out, the last ones first.
        """
        first = dict(itertools.islice(entries.items(), MAX_REPOS))
        body = _Body(jti, math.ceil(now) + LIFE_S, subject[:_MAX_SUBJECT], first)
        raw = _encoded(body)
        blob = base64.urlsafe_b64encode(self._mac(raw) + raw).rstrip(b"=").decode()
        return PREFIX + blob, _holder(body)

    def read(self, token: str, now: float) -> Minted | None:
        """Return who holds a token; None if this key did not sign it, or if it has ended."""
        if not is_plausible(token):
            return None
        blob = token[len(PREFIX) :]
        try:
            raw = base64.b64decode(blob + "=" * (-len(blob) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        mac, signed = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(signed)):
            return None
        try:
            body = msgspec.json.decode(signed, type=_Body)
        except msgspec.MsgspecError:  # a newer server's form
            return None
        if now >= body.expires:
            return None
        return _holder(body)

    def _mac(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, "sha256")


def is_plausible(token: str) -> bool:
    """Return whether a text has the form of a minted token."""
    return token.startswith(PREFIX) and len(token) <= MAX_TOKEN and token.isascii()


def _holder(body: _Body) -> Minted:
    return Minted(jti=body.jti, entries=body.entries, subject=body.subject, expires=body.expires)


def _encoded(body: _Body) -> bytes:
    """Encode a token's body. Removes entries from it until it is short enough; one of one repo always is."""
    raw = msgspec.json.encode(body)
    while len(raw) > _MAX_BODY:
        largest = max(body.entries, key=lambda repo: len(body.entries[repo]))
        if (count := len(body.entries[largest])) > 1:
            body.entries[largest] = body.entries[largest][: count // 2]
        else:
            body.entries.popitem()
        raw = msgspec.json.encode(body)
    return raw
