"""The port for fetching files of other indexes, and what the cache reports about them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol

import msgspec

from pywharf.core.errors import (
    BackendUnavailableError,
    NotFoundError,
    StorageFullError,
    UpstreamTimeoutError,
    WrongContentError,
)
from pywharf.index.upstream.source import Source

FetchResult = Literal["fetched", "missing", "failed", "timeout", "wrong", "abandoned"]
FetchKind = Literal["kept", "metadata", "passed"]
"""What a response is for. Each kind has requests of its own: a slow client holds up those for files that are passed
through, and neither a file that others wait for nor a resolver."""
PassReason = Literal["no room", "store failed", "store full", "locked"]


class Arriving(msgspec.Struct, frozen=True):
    """A response whose body is arriving."""

    size: int | None
    """The bytes that the other index announces; None: it does not say."""
    chunks: AsyncIterator[bytes]
    """The body as it arrives. Raises UpstreamError, or UpstreamTimeoutError if no byte comes for long."""


class FileFetcher(Protocol):
    """An HTTP client that fetches files, with a deadline for each byte but none for the whole."""

    def fetch(
        self,
        url: str,
        filename: str,
        source: Source,
        kind: FetchKind,
        *,
        prepare: Callable[[], Awaitable[None]] | None = None,
    ) -> AbstractAsyncContextManager[Arriving]:
        """Request a file, and yield the response when its head is there.

        Parameters:
            url: The file's address, from a page of the source.
            filename: The file's name, for errors.
            source: The index. Its credentials are sent to its own origin alone.
            kind: What the response is for.
            prepare: It is awaited when the request may be sent, before it is. Its errors are raised.

        Raises:
            NotFoundError: The other index no longer has the file.
            BusyError: Too many files of the source are being fetched.
            UpstreamError: It failed, or the address may not be connected to; UpstreamTimeoutError: it is too slow;
                UpstreamAwayError: it cannot be reached.
        """


class FileCounts(Protocol):
    """What happens to files, to be counted."""

    def found(self, size: int) -> None:
        """Count a request for a file of so many bytes that was kept."""

    def missed(self) -> None:
        """Count a request for a file that was not kept."""

    def fetched(self, result: FetchResult, size: int) -> None:
        """Count one fetch, with the bytes that came."""

    def passed_through(self, reason: PassReason) -> None:
        """Count a file that clients got but that is not kept, or was not fetched by one server for all."""


class Received:
    """The bytes of one fetch that have come so far."""

    size = 0


@contextlib.contextmanager
def counting(counts: FileCounts) -> Iterator[Received]:
    """Count the fetch that the context is: its result, and the bytes that are noted in what is yielded."""
    received = Received()
    try:
        yield received
    except BaseException as error:
        counts.fetched(_result_of(error), received.size)
        raise
    counts.fetched("fetched", received.size)


def _result_of(error: BaseException) -> FetchResult:
    """Return how a fetch that ended with an error is counted."""
    match error:
        case NotFoundError():
            return "missing"
        case WrongContentError():
            return "wrong"
        case UpstreamTimeoutError() | TimeoutError():
            return "timeout"
        case asyncio.CancelledError() | GeneratorExit() | StorageFullError() | BackendUnavailableError():
            return "abandoned"
        case _:
            return "failed"
