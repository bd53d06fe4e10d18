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
