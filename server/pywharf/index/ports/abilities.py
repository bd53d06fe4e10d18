"""The optional ports: what some backends can do besides. A backend has an ability if it has its methods."""

from typing import Protocol, runtime_checkable

import msgspec

from pywharf.core.access.permission import Permission


@runtime_checkable
class Probeable(Protocol):
    """A backend with a cheap probe that shows whether anything has changed. It is then read only after a change."""

    def probe(self) -> object:
        """Probe the state of journal and index. Called in a thread: it may block for a moment, and raise anything.

        Returns:
            An object to compare. Two equal results mean that a caller that read journal and index after the first
            result need not read them again.
        """


@runtime_checkable
class Authority(Protocol):
    """A backend whose storage knows clients itself; it is asked if a repo has no secrets of its own."""

    def is_plausible(self, secret: str) -> bool:
        """Return whether a text has the form of a secret that the storage may know. Sends no request.

        Parameters:
            secret: What a client sent as its password.

        Returns:
            False if the storage need not be asked about it.
        """

    async def permission_of(self, secret: str) -> Permission:
        """Ask the storage what the client that sent the secret may do.

        Parameters:
            secret: A plausible secret.

        Returns:
            The permission; Permission.NONE for an unknown secret.

        Raises:
            UnavailableError: The answer cannot be known now.
        """


MAX_CLAIM_S = 25 * 3600
"""Most seconds that a claim may have to be kept."""


@runtime_checkable
class Claims(Protocol):
    """A backend that keeps claims. A claim is a name that counts once, whichever server claims it first.

    Both calls that a request waits for raise UnavailableError if the storage cannot be asked. A claim that may or may
    not have been made counts as made by somebody else.
    """

    async def claim(self, name: str, until: int) -> bool:
        """Claim a name durably, unless any server has claimed it before.

        Parameters:
            name: 64 hex digits.
            until: Unix seconds until which the claim must be kept, at most `MAX_CLAIM_S` from now. It is the same for
                all claims of one name.

        Returns:
            True if this call made the claim. Of concurrent calls, through any number of servers, one returns True.

        Raises:
            UnavailableError: The storage cannot be asked, or holds too many claims.
        """

    async def is_claimed(self, name: str) -> bool:
        """Return whether any server has claimed a name. The answer is never older than the call.

        Parameters:
            name: 64 hex digits.

        Returns:
            True from the moment when `claim` returns until at least the claim's end.
        """

    async def remove_ended_claims(self) -> None:
        """Remove the claims that ended some minutes ago, so that clocks may differ. update_index calls it."""


class RateLimit(msgspec.Struct, frozen=True):
    """The number of requests that a storage still accepts."""

    limit: int
    remaining: int
    reset: int
    """Unix seconds when `remaining` becomes `limit` again."""


@runtime_checkable
class RateLimited(Protocol):
    """A backend whose storage counts requests."""

    @property
    def rate_limit(self) -> RateLimit | None:
        """Return the limit that the last response reported.

        Returns:
            The limit, which is shown as a metric; None before the first response.
        """
