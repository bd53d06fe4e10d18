"""Read the feed of advisories in the one worker of a server that holds the lock, and compile it for all of them."""

import asyncio
import fcntl
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pywharf.core.advisories.feed import BadFeedError
from pywharf.core.advisories.store_format import StoreMeta
from pywharf.core.errors import PywharfError
from pywharf.core.os_errors import reason_of
from pywharf.egress.advisory_feed import FeedClient, FeedUnavailableError, Validators
from pywharf.index.threads import on_storage
from pywharf.serving.advisories import kept_feed
from pywharf.serving.advisories.compiling import CompilingFailedError, compiled
from pywharf.serving.advisories.opening import open_store
from pywharf.serving.advisories.source import PATH_S, FeedSource, Mark, mark_of, pause_s
from pywharf.serving.metrics import Metrics

_logger = logging.getLogger(__name__)
_WATCH_S: Final = 1.0
"""Seconds between two checks whether the worker that reads has ended."""
_SETTLED_S: Final = 2.0
"""Seconds that a file must be unchanged: somebody may still be copying it."""
_KEEPING_S: Final = 300.0
_LOSABLE: Final = 0.1
"""The part of its malware that a feed may lose: reports are seldom withdrawn."""
_FEW: Final = 5
"""Reports that any feed may lose."""

STORE: Final = "advisories"
"""The compiled feed, in the workers' folder."""
_NEW, _FEED, _LOCK = "advisories.new", "advisories.feed", "advisories.lock"


class FeedReader:
    """The reader of one worker. `folder` is private to the server's workers, on a local disk; `root` is its ROOT."""

    def __init__(  # noqa: PLR0913 - what it reads, and where it keeps it
        self,
        source: FeedSource,
        interval_s: float,
        *,
        client: FeedClient | None,
        folder: Path,
        root: Path,
        metrics: Metrics,
    ) -> None:
        """`client` is needed for a source that is a URL."""
        self._source = source
        self._interval_s = interval_s
        self._client = client
        self._folder = folder
        self._root = root
        self._metrics = metrics
        self._meta: StoreMeta | None = None
        """Of the last good feed, in the worker that reads it."""
        self._validators = Validators()
        """Of the last feed that was fetched, even if it was refused: it needs no second look."""
        self._mark: Mark | None = None
        """Of the last file that was read, even if it was refused."""
        self._tried: Mark | None = None
        """Of the file at the last attempt, even if it could not be read."""
        self._refused = ""
        """Why that feed was refused, as the metrics call it; "" if it was taken."""
        self._fault = ""
        """What was logged last."""

    async def run(self) -> None:
        """Read the feed once this worker is the one to do so."""
        with (self._folder / _LOCK).open("wb") as lock:
            while not _is_locked(lock.fileno()):  # noqa: ASYNC110 - the holder may be killed, and then says nothing
                await asyncio.sleep(_WATCH_S)
            await self._restore()
            attempt = 0
            while True:
                attempt = 0 if await self._read() else attempt + 1
                await self._pause(attempt)

    async def _pause(self, attempt: int) -> None:
        """Wait for the next attempt; a file that has changed does not wait out the pause after a failure."""
        left_s = pause_s(attempt, self._interval_s, is_url=self._source.is_url)
        while left_s > 0:
            step_s = left_s if self._source.is_url else min(left_s, PATH_S)
            await asyncio.sleep(step_s)
            left_s -= step_s
            if not self._source.is_url and await asyncio.to_thread(mark_of, Path(self._source.text)) != self._tried:
                return

    async def _restore(self) -> None:
        """Begin with the last good feed: another worker's, or the one on the server's disk."""
        store = self._folder / STORE
        try:
            if store.exists():
                self._meta = (await asyncio.to_thread(open_store, store)).meta
            else:
                self._meta = await on_storage(_KEEPING_S, kept_feed.restore, self._root, store, self._source.digest)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, it is only a copy
            _logger.warning("The feed of advisories on disk cannot be used (%s); the feed is read again.", error)
        if self._meta is not None:
            self._validators = Validators(self._meta.etag, self._meta.last_modified)

    async def _read(self) -> bool:
        """Read the feed if it has changed. Returns whether that worked."""
        try:
            has_new = await (self._fetch() if self._source.is_url else self._read_file())
        except tuple(_RESULTS) as error:
            return self.report(str(error), _RESULTS[type(error)])
        except OSError as error:
            return self.report(f"it cannot be stored ({reason_of(error)})", "failed")
        except Exception as error:
            _logger.exception("The feed of advisories cannot be read.")
            return self.report(f"internal error ({type(error).__name__})", "failed")
        self._metrics.advisory_reads.labels(self._refused or ("taken" if has_new else "unchanged")).inc()
        if not self._refused:
            self._fault = ""
            self._metrics.checked_advisories()
        return True

    def report(self, fault: str, result: str) -> bool:
        """Count a failure, and log it if it is not the last one's. Returns False."""
        self._metrics.advisory_reads.labels(result).inc()
        if fault != self._fault:
            self._fault = fault
            rest = "there is none yet" if self._meta is None else "the last good one stays in use"
            _logger.error("The feed of advisories cannot be used: %s; %s.", fault, rest)
        return False

    async def _fetch(self) -> bool:
        assert self._client is not None  # noqa: S101 - see the constructor
        received = self._folder / _FEED
        try:
            validators = await self._client.fetch(received, self._validators)
            if validators is None:
                return False
            await self._compile(received, validators)
        finally:
            received.unlink(missing_ok=True)
        return True

    async def _read_file(self) -> bool:
        path = Path(self._source.text)
        mark = self._tried = await asyncio.to_thread(mark_of, path)
        if mark is None:
            raise FeedUnavailableError("there is no readable file at its path")
        if mark == self._mark or 0 <= time.time() - mark[1] / 1e9 < _SETTLED_S:
            return False
        await self._compile(path, Validators())
        return True

    def _compare(self, meta: StoreMeta) -> None:
        """Raise an error if a feed is older than the last one, or lost much of its malware."""
        last = self._meta
        if last is None:
            return
        if meta.newest < last.newest:
            self._refused = "older"
            raise _OlderFeedError(
                f"its newest entry is of {_shown(meta.newest)}, that of the last one of {_shown(last.newest)}"
            )
        lost = last.malware - meta.malware
        if lost > max(_FEW, last.malware * _LOSABLE):
            self._refused = "shrunk"
            raise _ShrunkFeedError(
                f"it reports malware {meta.malware} times, the last one {last.malware} times; if that is right, stop"
                f" the server, delete the folder {kept_feed.FOLDER} in its ROOT, and start it"
            )

    async def _compile(self, feed: Path, validators: Validators) -> None:
        """Compile a feed, and hand it to all workers unless it is older than the last one or has shrunk."""
        new, store = self._folder / _NEW, self._folder / STORE
        mark = mark_of(feed)
        try:
            try:
                meta = await compiled(
                    feed,
                    new,
                    source=self._source.digest,
                    etag=validators.etag,
                    last_modified=validators.last_modified,
                )
            except BadFeedError:
                self._validators, self._mark, self._refused = validators, mark, "broken"
                raise
            self._validators, self._mark, self._refused = validators, mark, ""
            self._compare(meta)
            await asyncio.to_thread(new.replace, store)
        finally:
            new.unlink(missing_ok=True)
        self._meta = meta
        _logger.log(
            logging.WARNING if meta.skipped_malware else logging.INFO,
            "Advisories: %d entries, %d of them malware, the newest of %s; %d were skipped%s.",
            meta.entries,
            meta.malware,
            _shown(meta.newest),
            meta.skipped,
            f", {meta.skipped_malware} of them malware ({meta.first_skipped})" if meta.skipped else "",
        )
        try:
            await on_storage(_KEEPING_S, kept_feed.keep, store, self._root)
        except (OSError, PywharfError) as error:
            _logger.warning("The feed of advisories cannot be kept on disk (%s); a restart reads it again.", error)


class _OlderFeedError(Exception):
    """The error for a feed that is older than the last one. The text continues a sentence."""


class _ShrunkFeedError(Exception):
    """The error for a feed that lost much of its malware. The text continues a sentence."""


_RESULTS: Final[Mapping[type[Exception], str]] = {
    FeedUnavailableError: "unreachable",
    CompilingFailedError: "failed",
    BadFeedError: "broken",
    _OlderFeedError: "older",
    _ShrunkFeedError: "shrunk",
}
"""What a failure is called in the metrics."""


def _is_locked(fd: int) -> bool:
    """Return whether this worker now holds the lock. Its end, however it comes, frees it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _shown(unix_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(unix_s))
