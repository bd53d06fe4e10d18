"""Mint a token for an OIDC token, for all repos with entries that its claims fit, and read minted tokens."""

import asyncio
import hashlib
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from pywharf.core.access.deciding import CompiledEntries, CompiledEntry, matching
from pywharf.core.access.identities import Claims, Minted
from pywharf.core.access.identity_document import IdentityDocument
from pywharf.core.access.minted import MintingKey, is_plausible
from pywharf.core.access.permission import Permission
from pywharf.core.errors import TokenRefusedError
from pywharf.core.names import RepoName
from pywharf.serving.identification import Identified, Unverified, Verifier
from pywharf.serving.trusted_publishing.used_tokens import Burned, UsedTokens, oidc_token_id

_LEEWAY_S: Final = 60
"""Seconds for which a token may still be taken for valid after its end, because clocks differ."""
_LONGEST_S: Final = 24 * 3600
"""Longest validity of a token that may be exchanged. Until its end it is remembered that it was used."""
_ENTRIES_AT_A_TIME: Final = 64
"""Entries that are compared with claims before others run. A repo counts as one more."""
_ID_BYTES: Final = 12
_SHOWN: Final = 40
"""Characters of a claim that the audit shows."""

_Granted = Mapping[RepoName, Sequence[CompiledEntry]]
"""Entries that let somebody publish, by repo."""

_NOT_VALID = TokenRefusedError(
    "invalid-token",
    "The token is not valid for this server: check its issuer, its audience (GET /_/oidc/audience) and its age.",
)


class Issued(msgspec.Struct, frozen=True):
    """A token that was minted."""

    token: str
    minted: Minted

    def __repr__(self) -> str:
        """Return a text without the token."""
        return f"Issued({self.minted.jti})"


class Minting:
    """The minting of one worker. Its tokens hold on every server with the same session key."""

    def __init__(
        self,
        key: MintingKey,
        verifier: Verifier,
        *,
        entries: Callable[[], Mapping[RepoName, CompiledEntries]],
        used: UsedTokens,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`verifier` verifies OIDC tokens; `entries` returns the access entries of each repo that has any."""
        self._key = key
        self._verifier = verifier
        self._entries = entries
        self._used = used
        self._audience: str | None = None
        self._clock = clock

    @property
    def audience(self) -> str | None:
        """Return the audience that an OIDC token needs; None if no issuer is believed."""
        return self._audience

    def replace(self, document: IdentityDocument) -> None:
        """Offer minting to these issuers from now on."""
        self._audience = document.audience if document.issuers else None

    async def mint(self, token: str, address: str, only: RepoName | None = None) -> Issued:
        """Exchange an OIDC token, which is used up by that; with `only`, for that repo alone.

        Raises TokenRefusedError, UnavailableError.
        """
        claims = await self._verified(token, address)
        granted, asked = await self._granted(claims)
        wanted = granted if only is None else {name: keys for name, keys in granted.items() if name == only}
        if not wanted:
            raise TokenRefusedError(
                "invalid-publisher",
                "The token is valid, but no entry lets it publish. Compare the entry's fields with the claims of the "
                "token: repository, owner's number, workflow and environment, or project, pipeline, namespace and ref.",
                reason=f"not-named: {_shown(claims, sorted(asked))}",
                subject=claims.subject,
            )
        identifier = oidc_token_id(claims, token)
        order = sorted(wanted, key=lambda repo: _rank(repo, wanted[repo], identifier))
        # Also for those that are not asked for, so that the same token is not exchanged for them later.
        used = await self._used.use_up(order, granted.keys() - wanted.keys(), identifier, self._until(claims))
        if not used:
            raise TokenRefusedError(
                "token-used",
                "The token was exchanged before; ask the issuer for a new one.",
                reason="replayed",
                subject=claims.subject,
            )
        keys = {repo: tuple(one.key for one in wanted[repo]) for repo in used}
        return Issued(*self._key.mint(secrets.token_urlsafe(_ID_BYTES), keys, claims.subject, self._clock()))

    async def burn(self, token: str) -> Burned | None:
        """End a minted token. Return where that was done; None for any other text."""
        minted = self._key.read(token, self._clock())
        return None if minted is None else await self._used.burn(minted)

    async def _verified(self, token: str, address: str) -> Claims:
        found = await self._verifier.identify(token, address) if self._verifier.plausible(token) else None
        if isinstance(found, Unverified):
            raise _NOT_VALID.because(found.reason)
        if not isinstance(found, Claims):
            raise _NOT_VALID.because("no-oidc-token", getattr(found, "subject", ""))
        if found.expires - self._clock() > _LONGEST_S:
            raise TokenRefusedError(
                "invalid-token",
                "The token is valid for more than a day; ask the issuer for one with a shorter life.",
                reason="lives-too-long",
                subject=found.subject,
            )
        return found

    async def _granted(self, claims: Claims) -> tuple[_Granted, Collection[str]]:
        """Return the entries that let these claims publish, by repo, and the claims that entries ask for.

        Others run meanwhile: a server may have ten thousand repos.
        """
        now = self._clock()
        granted: dict[RepoName, list[CompiledEntry]] = {}
        asked: set[str] = set()
        compared = 0
        for repo, compiled in self._entries().items():
            more = 1 + compiled.count_about(claims.issuer)
            if compared and compared + more > _ENTRIES_AT_A_TIME:
                compared = 0
                await asyncio.sleep(0)
            compared += more
            asked |= compiled.claims_about(claims.issuer) & claims.claims.keys()
            found = [one for one in matching(compiled, claims, now) if one.permission is Permission.WRITE]
            if found:
                granted[repo] = found
        return granted, asked

    def _until(self, claims: Claims) -> int:
        """Return when nobody can take the token for valid any longer. It is the same at each call."""
        return int(claims.expires) + _LEEWAY_S


class MintedVerifier:
    """The verifier of minted tokens. Whether one was burned is asked of its repos; see `UsedTokens.is_spent`."""

    def __init__(self, key: MintingKey, clock: Callable[[], float] = time.time) -> None:
        self._key = key
        self._clock = clock

    def plausible(self, secret: str) -> bool:
        """Return whether a text has the form of a minted token."""
        return is_plausible(secret)

    async def identify(self, secret: str, address: str) -> Identified:
        """Return the token's holder."""
        del address
        return self._key.read(secret, self._clock()) or Unverified("minted-token")


def _shown(claims: Claims, names: Collection[str]) -> str:
    """Return the claims of these names, each shortened."""

    def text(value: Any) -> str:  # noqa: ANN401 - a claim
        return f"{value if isinstance(value, str | int | bool) else type(value).__name__}"[:_SHOWN]

    return ", ".join(f"{name}={text(claims.claims[name])}" for name in names if name in claims.claims) or claims.issuer


def _rank(repo: RepoName, entries: Iterable[CompiledEntry], identifier: str) -> tuple[bool, bytes]:
    """Return the position of a repo among those of one token: first those whose entries name one repository.

    The rest follows from the token, so that nobody's name comes first in each of them.
    """
    names_one = any(one.names_one for one in entries)
    return not names_one, hashlib.sha256(f"{identifier}\0{repo}".encode("utf-8", "surrogatepass")).digest()
