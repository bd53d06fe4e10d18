"""Find out who sent a secret, before any repo is asked what that allows."""

import functools
from collections.abc import Sequence
from typing import Protocol

import msgspec

from pywharf.core.access.identities import Identity, TokenHolder
from pywharf.core.access.tokens import digest_of, has_checksum, is_token


class Unverified(msgspec.Struct, frozen=True):
    """A secret that proves no identity."""

    reason: str
    """Why, in a word such as `token-checksum`. It is for the audit alone, never for the client."""


Identified = Identity | Unverified


class Verifier(Protocol):
    """One kind of proof: tokens named by digest, JSON Web Tokens, tokens that this server minted."""

    def plausible(self, secret: str) -> bool:
        """Return whether a text has the form of such a proof. Cheap: it is called for every unknown secret.

        The first verifier that says so decides, and no storage is asked about the secret. So it must be sure: a token
        of GitHub's may have dots as well, but does not begin as a JSON Web Token does.
        """

    async def identify(self, secret: str, address: str) -> Identified:
        """Return whose proof the client at an address sent, or why it proves nothing.

        Raises UnavailableError if that cannot be found out now. It must not depend on any repo.
        """


class TokenVerifier:
    """The verifier of tokens that entries name by their digest."""

    def plausible(self, secret: str) -> bool:
        """Return whether a text begins as a token does."""
        return is_token(secret)

    async def identify(self, secret: str, address: str) -> Identified:
        """Return the token's holder, unless a character was mistyped."""
        del address
        return _holder(secret)


@functools.lru_cache(maxsize=1024)  # clients send the same token with every request
def _holder(token: str) -> Identified:
    return TokenHolder(digest_of(token)) if has_checksum(token) else Unverified("token-checksum")


class Identification:
    """All verifiers of one server, asked in their order."""

    def __init__(self, verifiers: Sequence[Verifier] = ()) -> None:
        self._verifiers = (TokenVerifier(), *verifiers)

    async def identify(self, secret: str, address: str) -> Identified | None:
        """Return whose proof it is, or why it proves nothing; None if it has the form of no proof.

        Raises UnavailableError.
        """
        for verifier in self._verifiers:
            if verifier.plausible(secret):
                return await verifier.identify(secret, address)
        return None
