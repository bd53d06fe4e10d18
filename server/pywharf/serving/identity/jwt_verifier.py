"""Verify JSON Web Tokens: those of the cluster's ServiceAccounts, and those of OIDC issuers."""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, Self

from pywharf.core.access import jwt_parsing
from pywharf.core.access.identities import Claims, ServiceAccount
from pywharf.core.access.jwt_claims import identity_of, issuer_of
from pywharf.core.access.jwt_keys import verify
from pywharf.core.access.jwt_reasons import Reason, RefusedTokenError
from pywharf.core.access.trusted_issuers import TrustedIssuer
from pywharf.core.errors import IdentityUnavailableError
from pywharf.serving.definitions import NO_IDENTITY, ServedIdentity
from pywharf.serving.identification import Identified, Unverified
from pywharf.serving.identity.followed_keys import FollowedKeys, KeyFetcher
from pywharf.serving.identity.reviews import KEPT_S, Reviewer, Reviews
from pywharf.serving.identity.verified_tokens import Verified, no_tokens
from pywharf.serving.metrics import Metrics

_FOREVER: Final = float("inf")
_FORBIDDEN_AGAIN_S: Final = 10.0
_RIGHT_AGAIN_S: Final = 300.0
"""Seconds between two checks of the right to review tokens. A right that was taken away shows at a client's token."""
_FIRST_CHECK_S: Final = 1.0
"""Less than the operator waits for an answer of the internal port."""


class JwtVerifier:
    """The verifier of one worker. Use as an async context, which ends the fetching of keys."""

    def __init__(
        self,
        fetcher: KeyFetcher,
        reviewer: Reviewer,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` gives Unix seconds."""
        self._fetcher = fetcher
        self._metrics = metrics
        self._clock = clock
        self._monotonic = monotonic
        self._served: ServedIdentity = NO_IDENTITY
        self._followed: Mapping[str, FollowedKeys] = {}
        """By `iss`."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._verified = no_tokens()
        self._reviews = Reviews(reviewer, monotonic)
        self._checking: asyncio.Task[None] | None = None
        """The task that checks the right to review tokens, while an issuer needs it."""
        self._checked = asyncio.Event()
        """Set after the first check."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = [*self._tasks.values(), *([self._checking] if self._checking is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def replace(self, served: ServedIdentity) -> None:
        """Believe these issuers from now on, and no others. Nothing that was verified before counts any longer.

        Keys of an issuer that stays are kept.
        """
        if served.digest == self._served.digest:
            return
        self._served = served
        self._forget()
        followed: dict[str, FollowedKeys] = {}
        for iss, issuer in served.issuers.items():
            if not issuer.is_followed:
                continue
            known, name = self._followed.get(iss), issuer.expected.name
            if known is None or known.name != name:
                known = FollowedKeys(
                    iss, name, self._fetcher, self._metrics, on_lost=self._forget, clock=self._monotonic
                )
            followed[iss] = known
        for iss, one in self._followed.items():
            if followed.get(iss) is not one:
                self._tasks.pop(iss).cancel()
        self._followed = followed
        self._check_right(needed=any(issuer.is_reviewed for issuer in served.issuers.values()))
        for iss, one in followed.items():
            if iss not in self._tasks:
                self._tasks[iss] = asyncio.create_task(one.run())

    def _check_right(self, *, needed: bool) -> None:
        if needed and self._checking is None:
            self._checked.clear()
            self._checking = asyncio.create_task(self._keep_checking_right())
        elif not needed and self._checking is not None:
            self._checking.cancel()
            self._checking = None

    async def _keep_checking_right(self) -> None:
        while True:
            await self._reviews.check_right()
            self._checked.set()
            await asyncio.sleep(_FORBIDDEN_AGAIN_S if self._reviews.is_forbidden else _RIGHT_AGAIN_S)

    async def reviews_forbidden(self) -> bool:
        """Return whether the server must review tokens and may not. Waits a second for the first check."""
        if self._checking is None:
            return False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_CHECK_S):
                await self._checked.wait()
        return self._reviews.is_forbidden

    def _forget(self) -> None:
        self._verified = no_tokens()
        self._reviews.forget()

    def plausible(self, secret: str) -> bool:
        """Return whether a text has the form of a JWT; see `identification.Verifier`.

        Also on a server that believes no issuer, which would send somebody's token to a storage otherwise.
        """
        return jwt_parsing.is_plausible(secret)

    async def identify(self, secret: str, address: str) -> Identified:
        """Return whose token the client at an address sent; see `identification.Verifier`."""
        digest = hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
        known = self._verified.get(digest)
        if known is not None and self._clock() < known.identity.expires and self._monotonic() < known.until:
            return known.identity
        try:
            identity = await self._verify(secret, digest, address)
        except RefusedTokenError as error:
            self._metrics.identity_verifications.labels(error.reason.value).inc()
            return Unverified(str(error))
        except IdentityUnavailableError:
            self._metrics.identity_verifications.labels("unavailable").inc()
            raise
        self._metrics.identity_verifications.labels("verified").inc()
        return identity

    async def _verify(self, secret: str, digest: bytes, address: str) -> ServiceAccount | Claims:
        """Verify a token and keep the result. Raises RefusedTokenError, UnavailableError."""
        token = jwt_parsing.parse(secret)
        while True:
            verified, issuer = self._verified, self._served.issuers.get(issuer_of(token.claims))
            if issuer is None:
                raise RefusedTokenError(Reason.ISSUER)
            identity = identity_of(token.claims, issuer.expected, self._clock())
            try:
                until = await self._prove(token, secret, digest, issuer, identity, address)
            except IdentityUnavailableError:
                if verified is self._verified:
                    raise
                continue
            if verified is self._verified:
                verified[digest] = Verified(identity, until)
                return identity
            # Issuers or keys were replaced meanwhile, so what was proved may hold no longer.

    async def _prove(  # noqa: PLR0913, PLR0917 - the token, whose it should be, and who sent it
        self,
        token: jwt_parsing.Jwt,
        secret: str,
        digest: bytes,
        issuer: TrustedIssuer,
        identity: ServiceAccount | Claims,
        address: str,
    ) -> float:
        """Check that the token is its issuer's. Returns the monotonic time until which that holds."""
        if issuer.is_reviewed and isinstance(identity, ServiceAccount):
            began = self._monotonic()
            await self._reviews.check(secret, digest, issuer.expected.audience, identity, address)
            return began + KEPT_S
        if issuer.keys is not None:
            verify(token, issuer.keys)
            return _FOREVER
        followed = self._followed[issuer.issuer]
        verify(token, await followed.keys_for(token.key_id))
        return followed.held_until()
