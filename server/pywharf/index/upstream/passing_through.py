"""Files of other indexes for which there is no room on disk: each client's own request, passed on as it arrives."""

import hashlib
import time
from collections.abc import AsyncGenerator, AsyncIterator

from pywharf.core.errors import BusyError, UpstreamTimeoutError, WrongContentError
from pywharf.index.ports.packages import StreamContent
from pywharf.index.upstream.file_fetching import FileCounts, FileFetcher, counting
from pywharf.index.upstream.spool import WITHHELD
from pywharf.index.upstream.wanted_file import WantedFile, seconds_for


def passed_through(fetcher: FileFetcher, wanted: WantedFile, counts: FileCounts, size: int | None) -> StreamContent:
    """Return the content of a new request, made when it is read. Raises BusyError if the size is not known.

    The bytes are hashed like those of a file that is kept, and the last ones wait for the digest.
    """
    if size is None:
        raise BusyError(
            f"The server has no room to fetch {wanted.file.filename!r} now, and nobody says how large it is; "
            "try again in some seconds."
        )
    known = size
    return StreamContent(known, lambda first, last: _stream(fetcher, wanted, counts, known, first, last))


async def _stream(  # noqa: PLR0913, PLR0917 - the request, and the part of it
    fetcher: FileFetcher, wanted: WantedFile, counts: FileCounts, size: int, first: int, last: int
) -> AsyncGenerator[bytes, None]:
    part, digest = _Part(first, last), hashlib.sha256()
    with counting(counts) as received:
        async with fetcher.fetch(wanted.url, wanted.file.filename, wanted.source, "passed") as arriving:
            wanted.size_of(arriving.size)
            async for chunk in _in_time(arriving.chunks, seconds_for(size)):
                if received.size + len(chunk) > size:
                    raise WrongContentError(f"The upstream index sends more than the {size} bytes that it announced.")
                digest.update(chunk)  # some 64 KiB: too little for a thread
                if sent := part.feed(received.size, chunk):
                    yield sent
                received.size += len(chunk)
            if received.size != size or (wanted.sha256 and digest.hexdigest() != wanted.sha256):
                raise WrongContentError("The upstream index sent other content than its page says.")
    yield part.rest()


class _Part:
    """The bytes from `first` to `last` of what is fed, of which the end is withheld."""

    def __init__(self, first: int, last: int) -> None:
        self._first, self._last = first, last
        self._waiting = bytearray()

    def feed(self, position: int, chunk: bytes) -> bytes:
        """Take the bytes from `position` on, and return those that may be sent."""
        self._waiting += chunk[max(0, self._first - position) : max(0, self._last + 1 - position)]
        count = max(0, len(self._waiting) - WITHHELD)
        sent = bytes(self._waiting[:count])
        del self._waiting[:count]
        return sent

    def rest(self) -> bytes:
        """Return the withheld bytes."""
        return bytes(self._waiting)


async def _in_time(chunks: AsyncIterator[bytes], seconds: float) -> AsyncGenerator[bytes, None]:
    until = time.monotonic() + seconds
    async for chunk in chunks:
        yield chunk
        if time.monotonic() > until:
            raise UpstreamTimeoutError("The upstream index did not send this file in time; try again later.")
