"""Ask the API server about ServiceAccount tokens, as seldom as that is possible."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

from cachetools import FIFOCache

from pywharf.core.access.identities import ServiceAccount
from pywharf.core.access.jwt_reasons import Reason, RefusedTokenError
from pywharf.core.addresses import site
from pywharf.core.errors import BusyError, IdentityUnavailableError
from pywharf.egress.token_review import ReviewStatus, ReviewUnavailableError
from pywharf.index.single_flight import SingleFlight

_logger = logging.getLogger(__name__)
KEPT_S: Final = 10.0
"""Seconds for which an answer is kept; a token that was revoked is accepted for as long."""
_KEPT: Final = 10_000
_PER_ADDRESS: Final = 4
"""Reviews that one address may wait for, of the eight that run; so it never holds up all others."""


class Reviewer(Protocol):
    """What asks the API server."""

    async def review(self, token: str, audience: str) -> ReviewStatus:
        """Return what the API server says about a token. Raises ReviewUnavailableError. Bounded in time and size."""


class Reviews:
    """The reviews of one worker. Tokens that it refused are kept here, tokens that it knows by the verifier."""

    def __init__(self, reviewer: Reviewer, clock: Callable[[], float] = time.monotonic) -> None:
        self._reviewer = reviewer
        self._clock = clock
        self._refused: FIFOCache[bytes, float] = FIFOCache(_KEPT)
        """When it was asked about a token that it does not know, by the token's digest."""
        self._asking = SingleFlight[bytes, ReviewStatus]()
        self._waiting = Counter[str]()
        self._fault = ""

    def forget(self) -> None:
        """Forget all answers."""
        self._refused.clear()

    async def check(self, token: str, digest: bytes, audience: str, claimed: ServiceAccount, address: str) -> None:
        """Check that the token is the ServiceAccount's that it claims to be of, and for this audience.

        Raises RefusedTokenError, BusyError, IdentityUnavailableError.
        """
        asked_at = self._refused.get(digest)
        if asked_at is not None and self._clock() < asked_at + KEPT_S:
            raise RefusedTokenError(Reason.REVIEW)
        began = self._clock()
        try:
            found = await self._asking.run(digest, lambda: self._begin(token, audience, site(address)))
        except ReviewUnavailableError as error:
            self._report(str(error))
            raise IdentityUnavailableError from error
        self._fault = ""
        # One that ignores spec.audiences answers without them: the token may be for anybody.
        if not found.authenticated or audience not in found.audiences or found.user.username != claimed.subject:
            self._refused[digest] = began
            raise RefusedTokenError(Reason.REVIEW)

    def _begin(self, token: str, audience: str, client: str) -> Coroutine[Any, Any, ReviewStatus]:
        """Prepare a review. Raises BusyError if the client waits for many already."""
        if self._waiting[client] >= _PER_ADDRESS:
            raise BusyError("The API server is being asked about other tokens from your address; try again soon.")
        self._waiting[client] += 1
        return self._ask(token, audience, client)

    async def _ask(self, token: str, audience: str, client: str) -> ReviewStatus:
        try:
            return await self._reviewer.review(token, audience)
        finally:
            self._waiting[client] -= 1
            if not self._waiting[client]:
                del self._waiting[client]

    def _report(self, fault: str) -> None:
        if fault != self._fault:
            self._fault = fault
            _logger.error("ServiceAccount tokens cannot be reviewed: %s.", fault)
