"""Keep the pull-through cache within its bounds: remove files and pages that were not used for long, and leftovers.

Of several servers with one cache, one at a time lists and evicts. What it found is kept as a page, from which the
others report the same numbers.
"""

import asyncio
import contextlib
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

import msgspec

from pywharf.core.errors import BackendUnavailableError, PywharfError, StorageFullError
from pywharf.core.msgspec_warmup import warmed_up
from pywharf.index.ports import CacheStore, KeptFile
from pywharf.index.upstream.eviction import Census, Eviction, PinnedFiles
from pywharf.index.upstream.file_fetching import FetchResult, FileCounts, PassReason
from pywharf.index.upstream.leases import lease
from pywharf.index.upstream.page_upkeep import PageUpkeep

CHECK_S = 300.0
"""Seconds between two checks."""
_SOONEST_S = 30.0
"""Seconds between two checks that something asked for."""
_SWEEP_S = 3600.0
"""Seconds between two removals of leftovers, and between two counts of the pages' bytes."""
_OLDEST_USAGE_S = 6 * 3600.0
"""Seconds after which the files are listed again, even if this server has kept none."""
_LEFT = 0.9
"""The part of the limit that an eviction leaves."""
_ASKING = 0.05
"""The part of the limit that, once this server has kept as much, brings a check forward."""
_SPARE = 1024**3
"""Bytes that the cache leaves free on its volume, at most a tenth of its limit: others write there, too."""
_MAX_USAGE_BYTES = 4096
_TOGETHER = 1000
"""Files that are removed after one reading of the pins."""
_REST = 3.0
"""How much longer than a portion took a listing rests after it, so that it takes a quarter of a processor at most."""
_MOST_REST_S = 1.0

_logger = logging.getLogger(__name__)


def _name_of(what: str) -> str:
    return hashlib.sha256(f"pywharf upkeep: {what}".encode()).hexdigest()


USAGE_KEY = _name_of("usage")
"""The key of the page that holds the `Usage`."""
_EVICTING, _SWEEPING = _name_of("evicting"), _name_of("sweeping")


@warmed_up
class Usage(msgspec.Struct, frozen=True):
    """What a cache held when it was listed."""

    files: int
    file_bytes: int
    page_bytes: int
    listed_at: float
    """Unix seconds at which the listing began."""


class UpkeepShown(Protocol):
    """What shows the cache's usage."""

    def set_cache_usage(self, files: int, file_bytes: int, page_bytes: int) -> None:
        """Show how much is kept."""

    def count_evicted(self, reason: str, files: int, size: int) -> None:
        """Count files that were evicted, and their bytes. The reason is `limit` or `full`."""


class CountsForUpkeep:
    """The counts of what happens to files, of which the upkeep learns what it needs."""

    def __init__(self, counts: FileCounts, upkeep: "Upkeep") -> None:
        self._upkeep = upkeep
        self._counts = counts
        self.found = counts.found
        self.missed = counts.missed

    def fetched(self, result: FetchResult, size: int) -> None:
        """Count one fetch. What was fetched is kept."""
        self._counts.fetched(result, size)
        if result == "fetched":
            self._upkeep.added(size)

    def passed_through(self, reason: PassReason) -> None:
        """Count a file that is not kept."""
        self._counts.passed_through(reason)
        if reason == "store full":
            self._upkeep.is_full()
        elif reason == "no room":
            self._upkeep.ask()


class Upkeep:
    """The upkeep of one cache by one worker. `run` is a task; `added` and `is_full` are for those who keep files."""

    def __init__(
        self,
        store: CacheStore,
        max_bytes: int,
        pages: PageUpkeep,
        shown: UpkeepShown,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._max_bytes = max_bytes
        self._spare = min(_SPARE, max_bytes // 10)
        self._shown = shown
        self._pages = pages
        self._clock = clock
        self._added = 0
        self._added_at = 0.0
        self._full = False
        self._asked = asyncio.Event()
        self._swept_at = 0.0
        self._said = ""

    def added(self, size: int) -> None:
        """Note that this worker has kept so many bytes more."""
        self._added += size
        self._added_at = self._clock()
        if self._added > self._max_bytes * _ASKING:
            self._asked.set()

    def is_full(self) -> None:
        """Note that the store had no room, so that less than the limit fits."""
        self._full = True
        self._asked.set()

    def ask(self) -> None:
        """Bring the next check forward: a volume may have little room left."""
        self._asked.set()

    async def run(self) -> None:
        """Check until cancelled. An error is logged once, and the next check tries again."""
        while True:
            try:
                await self.check()
                self._said = ""
            except PywharfError as error:
                self._say(str(error))
            except Exception:
                _logger.exception("The upkeep of the pull-through cache failed; it is tried again.")
            await self._wait()

    async def _wait(self) -> None:
        await asyncio.sleep(_SOONEST_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CHECK_S - _SOONEST_S):
                await self._asked.wait()
        self._asked.clear()

    def _say(self, text: str) -> None:
        if text != self._said:
            _logger.warning("The upkeep of the pull-through cache failed; it is tried again: %s", text)
        self._said = text

    async def check(self) -> None:
        """Remove what is due to be removed, and show how much is kept."""
        now = self._clock()
        usage = await self._usage()
        lacks_room = await self._lacks_room()
        if now - self._swept_at >= (CHECK_S if lacks_room else _SWEEP_S):
            self._swept_at = now
            with contextlib.suppress(BackendUnavailableError):  # to make room matters more
                await self._store.remove_leftovers()
            if await self._lock(_SWEEPING, _SWEEP_S) or lacks_room:
                pages = await self._pages.remove({USAGE_KEY})
                usage = msgspec.structs.replace(usage, page_bytes=pages) if usage else Usage(0, 0, pages, 0.0)
                await self._write(usage)
        if self._wants_listing(usage, now) or lacks_room:
            usage = await self._evict(usage)
        if usage is not None:
            self._shown.set_cache_usage(usage.files, usage.file_bytes, usage.page_bytes)

    def _wants_listing(self, usage: Usage | None, now: float) -> bool:
        if usage is None or self._full or not usage.listed_at <= now < usage.listed_at + _OLDEST_USAGE_S:
            return True
        if self._added_at < usage.listed_at:  # another server listed since
            self._added = 0
        return self._added > 0

    async def _lacks_room(self) -> bool:
        free = await self._store.free_bytes()
        return free is not None and free < self._spare

    async def _evict(self, known: Usage | None) -> Usage | None:
        # A store that is full or fails gives no lock. Then it matters more that somebody makes room than that one does.
        async with lease(self._store, _EVICTING) as taken:
            if taken == "held by another":
                return known
            return await self._list_and_evict(0 if known is None else known.page_bytes)

    async def _list_and_evict(self, page_bytes: int) -> Usage:
        began, full, added = self._clock(), self._full, self._added
        pinned = await self._pinned()
        census = Census(pinned, began)
        async for portion in _rested(self._store.kept()):
            await asyncio.to_thread(census.add, portion)
        files, size = census.files, census.size
        limit = max(0, self._max_bytes - page_bytes)
        free = await self._store.free_bytes()
        if free is not None and free < self._spare:
            limit, full = min(limit, size + free - self._spare), True
        elif full:
            limit = min(limit, size - 1)
        if size > limit:
            eviction = census.eviction(max(0, int(limit * _LEFT)))
            if eviction is not None:
                gone = await self._remove_chosen(eviction, "full" if full else "limit")
                files, size = files - gone[0], size - gone[1]
        self._added -= added
        self._full = False
        usage = Usage(files, size, page_bytes, began)
        await self._write(usage)
        return usage

    async def _remove_chosen(self, eviction: Eviction, reason: str) -> tuple[int, int]:
        """Remove the files of an eviction. Returns how many it removed, and their bytes."""
        removed: list[tuple[int, int]] = []
        chosen: list[KeptFile] = []
        async for portion in _rested(self._store.kept()):
            chosen += await asyncio.to_thread(eviction.choose, portion)
            if len(chosen) >= _TOGETHER:
                removed.append(await self._remove(chosen, reason))
                chosen.clear()
        removed.append(await self._remove(chosen, reason))
        return sum(files for files, _ in removed), sum(size for _, size in removed)

    async def _remove(self, chosen: Sequence[KeptFile], reason: str) -> tuple[int, int]:
        """Remove files but for those that were pinned since they were listed."""
        if not chosen:
            return 0, 0
        pinned = await self._pinned()
        chosen = [file for file in chosen if file.sha256 not in pinned]
        size = sum(file.size for file in chosen)
        await self._store.remove([file.sha256 for file in chosen])
        self._shown.count_evicted(reason, len(chosen), size)
        return len(chosen), size

    async def _pinned(self) -> PinnedFiles:
        pinned = PinnedFiles()
        for repo in await self._store.pinning_repos():
            pins = await self._store.pins(repo)
            await asyncio.to_thread(pinned.add, [pin.sha256 for pin in pins])
        return pinned

    async def _lock(self, name: str, seconds: float) -> bool:
        try:
            return await self._store.lock(name, seconds)
        except StorageFullError:  # then it matters more that somebody makes room than that only one does
            return True

    async def _usage(self) -> Usage | None:
        text = await self._store.read_page(USAGE_KEY, _MAX_USAGE_BYTES)
        try:
            return None if text is None else msgspec.json.decode(text, type=Usage)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None

    async def _write(self, usage: Usage) -> None:
        with contextlib.suppress(StorageFullError):
            await self._store.write_page(USAGE_KEY, msgspec.json.encode(usage))


async def _rested(portions: AsyncIterator[Sequence[KeptFile]]) -> AsyncIterator[Sequence[KeptFile]]:
    """Yield the portions, and leave the processor to the requests after each was worked on."""
    began = time.monotonic()
    async for portion in portions:
        yield portion
        await asyncio.sleep(min(_MOST_REST_S, _REST * (time.monotonic() - began)))
        began = time.monotonic()
