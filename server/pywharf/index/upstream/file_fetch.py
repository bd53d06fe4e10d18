"""One fetch of a file of another index: for all clients of this process, under a lock that other replicas respect."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager

import msgspec

from pywharf.core.errors import (
    BackendUnavailableError,
    PywharfError,
    StorageFullError,
    UpstreamError,
    UpstreamTimeoutError,
)
from pywharf.index.ports.cache_store import CacheStore
from pywharf.index.ports.packages import Content
from pywharf.index.threads import within
from pywharf.index.upstream.file_fetching import FileCounts, FileFetcher, counting
from pywharf.index.upstream.first_digests import FirstDigests
from pywharf.index.upstream.leases import Taken, lease
from pywharf.index.upstream.spool import Spool
from pywharf.index.upstream.spool_room import SpoolRoom, SpoolShare
from pywharf.index.upstream.wanted_file import WantedFile, seconds_for, too_large

_logger = logging.getLogger(__name__)
_WAIT_S, _MAX_WAIT_S, _WAIT_RATE = 10.0, 25.0, 5_000_000
"""Seconds to wait for another replica that fetches the same file, at least and at most, and bytes per second beyond.

pip asks again after 15 s without a byte and joins the same fetch; uv fails after 30 s.
"""
_FIRST_POLL_S, _POLL_S = 0.1, 1.0

Find = Callable[[WantedFile], Awaitable[Content | None]]
"""Looks for the file in the store. Raises nothing."""


class NoRoom(msgspec.Struct, frozen=True):
    """There is no room to spool the file."""

    size: int | None
    """The file's size; None: nobody says it."""


Begun = Spool | Content | NoRoom
"""The file as it arrives, the content that another replica kept meanwhile, or that there is no room."""


class Fetching(msgspec.Struct, frozen=True):
    """What every fetch works with."""

    store: CacheStore
    fetcher: FileFetcher
    counts: FileCounts
    room: SpoolRoom
    first: FirstDigests
    find: Find
    finishing: AbstractContextManager[object]
    """Within it, files that are complete are kept: a server that stops waits for that. It may be entered repeatedly."""


class FileFetch:
    """A fetch that goes on whatever becomes of the clients that wait for it. `run` it in a task of its own."""

    def __init__(self, wanted: WantedFile, shared: Fetching) -> None:
        self._wanted = wanted
        self._shared = shared
        self._begun: asyncio.Future[Begun] = asyncio.get_running_loop().create_future()

    async def begun(self) -> Begun:
        """Wait until the first bytes are about to come. Raises NotFoundError, UpstreamError."""
        if not self._begun.done():
            await asyncio.wait([self._begun])  # not asyncio.shield: see SingleFlight
        return self._begun.result()

    async def run(self) -> None:
        """Fetch the file, verify it and keep it.

        Raises NotFoundError, UpstreamError; StorageFullError, BackendUnavailableError if the file cannot be kept.
        """
        try:
            async with contextlib.AsyncExitStack() as held:
                taken = await held.enter_async_context(lease(self._shared.store, self._wanted.key))
                kept = await self._kept_by_another(taken, held)
                if kept is not None:
                    self._begun.set_result(kept)
                    return
                await self._fetch()
        except BaseException as error:
            if not self._begun.done():
                self._begun.set_exception(_failure_of(error))
                self._begun.exception()  # retrieved here, or asyncio would report it if every client is gone
            raise

    async def _kept_by_another(self, taken: Taken, held: contextlib.AsyncExitStack) -> Content | None:
        """Return what another replica kept meanwhile; None: this one is to fetch the file."""
        pause, until = _FIRST_POLL_S, time.monotonic() + wait_s(self._wanted.file.size)
        while True:
            kept = await self._shared.find(self._wanted) if taken != "store failed" else None
            if kept is not None or taken != "held by another":
                return kept
            if time.monotonic() >= until:
                # Clients would wait too long. This process fetches it as well, once for all of them.
                self._shared.counts.passed_through("locked")
                return None
            await asyncio.sleep(pause)
            pause = min(2 * pause, _POLL_S)
            # The other one may have failed, or died.
            taken = await held.enter_async_context(lease(self._shared.store, self._wanted.key))

    async def _fetch(self) -> None:
        async with contextlib.AsyncExitStack() as held:
            spool, digest = await self._receive(held)
            await self._keep(spool, digest)

    async def _receive(self, held: contextlib.AsyncExitStack) -> tuple[Spool, str]:
        """Return the complete file and its digest. `held` keeps its room, and removes it in the end."""
        wanted = self._wanted
        wanted.size_of(None)  # what is too large is not asked for
        spooling = _Spooling(self._shared, wanted, held)
        try:
            with counting(self._shared.counts) as received:
                async with (
                    asyncio.timeout(seconds_for(wanted.file.size or 0)) as deadline,
                    self._shared.fetcher.fetch(
                        wanted.url, wanted.file.filename, wanted.source, "kept", prepare=spooling.prepare
                    ) as arriving,
                ):
                    spool, share = await spooling.begin(wanted.size_of(arriving.size))
                    self._begun.set_result(spool)
                    async for chunk in arriving.chunks:
                        received.size += len(chunk)
                        await self._write(spool, share, chunk)
                        size = spool.written if spool.size is None else spool.size
                        deadline.reschedule(spooling.began + seconds_for(size))
                    first = wanted.sha256 or await self._first_digest()
                    held.enter_context(self._shared.finishing)
                    digest = spool.complete(first)
        except BaseException as error:
            failure = _failure_of(error)
            if spooling.no_room is not None:
                self._begun.set_result(spooling.no_room)
            spooling.fail(failure)
            if isinstance(error, TimeoutError):
                raise failure from error
            raise
        return spool, digest

    async def _write(self, spool: Spool, share: SpoolShare, chunk: bytes) -> None:
        if spool.written + len(chunk) > self._wanted.max_bytes:
            raise too_large(self._wanted)
        share.take(len(chunk))
        await spool.write(chunk)

    async def _first_digest(self) -> str:
        """Return the digest that another fetch of the same file has recorded since this one began, or ""."""
        wanted = self._wanted
        return (await self._shared.first.known(wanted.source, wanted.project, wanted.file)).sha256

    async def _keep(self, spool: Spool, digest: str) -> None:
        wanted, shared = self._wanted, self._shared
        try:
            if not wanted.sha256:
                await shared.first.note(wanted.source, wanted.project, wanted.file.filename, digest, spool.written)
            async with within(seconds_for(spool.written), "The cache's storage"):
                await shared.store.keep(digest, spool.path, wanted.about)
        except (StorageFullError, BackendUnavailableError) as error:
            is_full = isinstance(error, StorageFullError)
            shared.counts.passed_through("store full" if is_full else "store failed")
            _logger.warning("The file %s was served, but the cache cannot keep it: %s", wanted.file.filename, error)
            raise


class _Spooling:
    """The file that a fetch writes to, created before the other index is asked.

    Without room for it, clients get the content passed through, each by a request of its own.
    """

    def __init__(self, shared: Fetching, wanted: WantedFile, held: contextlib.AsyncExitStack) -> None:
        """`held` keeps the file's room, and removes the file in the end."""
        self._shared = shared
        self._size = wanted.file.size
        self._held = held
        self._made: tuple[Spool, SpoolShare] | None = None
        self._failure: PywharfError | None = None
        self.no_room: NoRoom | None = None
        self.began = 0.0
        """When the request could be sent, by the event loop's clock."""

    async def prepare(self) -> None:
        """Create the file. Raises StorageFullError, BackendUnavailableError if there is no room."""
        self.began = asyncio.get_running_loop().time()
        try:
            folder = self._shared.store.spool_folder
            share = await self._held.enter_async_context(self._shared.room.share(folder, self._size))
            spool = Spool(folder, self._size)
            self._held.push_async_callback(spool.remove)
            await spool.create()
            self._made = spool, share
        except (StorageFullError, BackendUnavailableError) as error:
            if self._size is not None:
                self.no_room = NoRoom(self._size)
                raise
            self._failure = error  # the head of the response says the size, without which clients cannot be answered

    async def begin(self, size: int | None) -> tuple[Spool, SpoolShare]:
        """Return the file, and its room, for content of that size. Raises as `prepare`."""
        try:
            if self._made is None:
                assert self._failure is not None  # noqa: S101 - `prepare` has ended
                raise self._failure
            spool, share = self._made
            if spool.size is None and size is not None:
                await share.announce(size)
                spool.size = size
        except (StorageFullError, BackendUnavailableError):
            self.no_room = NoRoom(size)
            raise
        return spool, share

    def fail(self, error: PywharfError) -> None:
        """Let those who read the file fail."""
        if self._made is not None:
            self._made[0].fail(error)


def wait_s(size: int | None) -> float:
    """Return how many seconds to wait for another replica that fetches a file of that size."""
    return _MAX_WAIT_S if size is None else min(_MAX_WAIT_S, _WAIT_S + size / _WAIT_RATE)


def _failure_of(error: BaseException) -> PywharfError:
    """Return the error that clients get: whatever happens, none of them may wait forever."""
    match error:
        case PywharfError():
            return error
        case TimeoutError():
            return UpstreamTimeoutError("The upstream index did not send this file in time; try again later.")
        case asyncio.CancelledError():
            return UpstreamTimeoutError("The server stops, and no longer fetches this file; try again.")
        case _:
            return UpstreamError("This file could not be fetched; the server's log says why.")
