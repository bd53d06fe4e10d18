"""Ask the API server about ServiceAccount tokens, as seldom as that is possible."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Final, Protocol

from cachetools import FIFOCache

from pywharf.core.access.identities import ServiceAccount
from pywharf.core.access.jwt_reasons import Reason, RefusedTokenError
from pywharf.core.addresses import site
from pywharf.core.errors import BusyError, IdentityUnavailableError
from pywharf.egress.token_review import ReviewForbiddenError, ReviewStatus, ReviewUnavailableError
from pywharf.index.fair_slots import FairSlots
from pywharf.index.single_flight import SingleFlight
from pywharf.serving.slots import Slots

_logger = logging.getLogger(__name__)
KEPT_S: Final = 10.0
"""Seconds for which an answer is kept; a token that was revoked is accepted for as long."""
_KEPT: Final = 10_000
_MAX_CONCURRENT: Final = 8
"""Reviews that run, of which one address alone has at most four."""
_MAX_WAITING: Final = 512
"""Reviews that run or wait, of which one address alone has at most half."""
_WAIT_S: Final = 5.0
"""Seconds that a review waits until it may run."""


class Reviewer(Protocol):
    """What asks the API server."""

    async def review(self, token: str, audience: str) -> ReviewStatus:
        """Return what the API server says about a token. Raises ReviewUnavailableError. Bounded in time and size."""

    async def check_right(self) -> None:
        """Ask about the own token. Raises ReviewUnavailableError; ReviewForbiddenError without the right to ask."""


class Reviews:
    """The reviews of one worker. Tokens that it refused are kept here, tokens that it knows by the verifier."""

    def __init__(self, reviewer: Reviewer, clock: Callable[[], float] = time.monotonic) -> None:
        self._reviewer = reviewer
        self._clock = clock
        self._refused: FIFOCache[bytes, float] = FIFOCache(_KEPT)
        """When it was asked about a token that it does not know, by the token's digest."""
        self._asking = SingleFlight[bytes, ReviewStatus]()
        self._waiting = Slots(_MAX_WAITING, "reviews of tokens")
        self._running = FairSlots(_MAX_CONCURRENT)
        self._fault = ""
        self.is_forbidden = False
        """Whether the API server last refused to be asked."""

    async def check_right(self) -> None:
        """Ask the API server once, without a client, so that a missing right is known before one comes."""
        try:
            await self._reviewer.check_right()
        except ReviewUnavailableError as error:
            self._failed(error)
        else:
            self._succeeded()

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
            found = await self._asking.run(digest, lambda: self._ask(token, audience, site(address)))
        except ReviewUnavailableError as error:
            self._failed(error)
            raise IdentityUnavailableError from error
        self._succeeded()
        # One that ignores spec.audiences answers without them: the token may be for anybody.
        if not found.authenticated or audience not in found.audiences or found.user.username != claimed.subject:
            self._refused[digest] = began
            raise RefusedTokenError(Reason.REVIEW)

    async def _ask(self, token: str, audience: str, client: str) -> ReviewStatus:
        """Ask as soon as a slot is free for the client. Raises BusyError if it waits for too many, or for too long."""
        with self._waiting.one(client):
            async with contextlib.AsyncExitStack() as held:
                try:
                    async with asyncio.timeout(_WAIT_S):
                        await held.enter_async_context(self._running.one(client))
                except TimeoutError as error:
                    raise BusyError(
                        "The API server is being asked about many other tokens; try again in some seconds."
                    ) from error
                return await self._reviewer.review(token, audience)

    def _succeeded(self) -> None:
        self._fault, self.is_forbidden = "", False

    def _failed(self, error: ReviewUnavailableError) -> None:
        self.is_forbidden = isinstance(error, ReviewForbiddenError)
        fault = str(error)
        if fault != self._fault:
            self._fault = fault
            _logger.error("ServiceAccount tokens cannot be reviewed: %s.", fault)
