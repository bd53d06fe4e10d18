"""The work queue: each key is queued once, never worked on twice concurrently, and retried with a growing backoff."""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from pywharf.core.backoff import backoff_s
from pywharf_operator.spec import ObjectKey
from pywharf_operator.spec.faults import error_location

_logger = logging.getLogger(__name__)
_JITTER: Final = 0.5
"""Random part of the wait after a failure, so that keys that failed together are not all retried together."""


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """The delays and limits of the queue."""

    delay_s: float = 0.1
    """Seconds from the last event of a key to its work; events in between need no work of their own."""
    longest_delay_s: float = 0.5
    """Maximum seconds from the first event; a stream of events delays a key no longer."""
    first_backoff_s: float = 0.5
    longest_backoff_s: float = 60.0
    longest_event_delay_s: float = 2.0
    """Maximum seconds that a failed key is delayed if an event reports a change."""
    resync_s: tuple[float, float] = (300.0, 600.0)
    """Minimum and maximum seconds between two resyncs; the time between is random."""
    resync_retry_s: float = 15.0
    longest_work_s: float = 300.0
    """Seconds of work after which a key is stuck."""
    longest_wait_s: float = 120.0
    """Seconds after its due time when a waiting key is stuck."""


class _Entry(msgspec.Struct):
    added_at: float | None = None
    """When the first event came for which no work has begun."""
    due_at: float | None = None
    later_at: float | None = None
    """When to work on the key again even without an event."""
    retry_at: float | None = None
    not_before: float = 0.0
    failures: Annotated[int, Meta(ge=0)] = 0
    active_since: float | None = None

    def due(self) -> float | None:
        """Return when the key is due, or None to wait for an event."""
        moments = [moment for moment in (self.due_at, self.later_at, self.retry_at) if moment is not None]
        return min(moments) if moments else None


class Agenda:
    """PURE but for its memory: which key is due when. Every method that needs the time takes it as an argument."""

    def __init__(self, timing: Timing, chance: Callable[[], float] = random.random) -> None:
        self._timing = timing
        self._chance = chance
        """The source of random numbers from 0 to 1."""
        self._entries: dict[ObjectKey, _Entry] = {}

    def __len__(self) -> int:
        """Return how many keys wait because of an event or a failure."""
        return sum(entry.added_at is not None or entry.retry_at is not None for entry in self._entries.values())

    def keys(self) -> set[ObjectKey]:
        """Return every key that has work, now or later."""
        return set(self._entries)

    def add(self, key: ObjectKey, now: float) -> None:
        """Record an event of the key."""
        entry = self._entries.setdefault(key, _Entry())
        entry.added_at = now if entry.added_at is None else entry.added_at
        wanted = min(now + self._timing.delay_s, entry.added_at + self._timing.longest_delay_s)
        entry.due_at = max(wanted, entry.not_before)

    def add_after(self, key: ObjectKey, seconds: float, now: float) -> None:
        """Schedule the key in `seconds`, unless it is due earlier."""
        entry = self._entries.setdefault(key, _Entry())
        at = now + seconds
        entry.later_at = at if entry.later_at is None else min(at, entry.later_at)

    def take(self, now: float) -> ObjectKey | None:
        """Return the key that has been due for the longest time, or None. It is worked on until `done` is called."""
        due = [(at, key) for key, entry in self._entries.items() if (at := _takeable(entry)) is not None and at <= now]
        if not due:
            return None
        key = min(due)[1]
        entry = self._entries[key]
        entry.added_at = entry.due_at = entry.later_at = entry.retry_at = None
        entry.active_since = now
        return key

    def done(self, key: ObjectKey, now: float, *, failed: bool, next_s: float | None = None) -> None:
        """Record that the work on a key has ended; `next_s` is the seconds to its next work."""
        entry = self._entries[key]
        entry.active_since = None
        if failed:
            wait = backoff_s(
                entry.failures,
                first_s=self._timing.first_backoff_s,
                longest_s=self._timing.longest_backoff_s,
                jitter=_JITTER,
                chance=self._chance,
            )
            entry.failures += 1
            entry.retry_at = now + wait
            entry.not_before = now + min(wait, self._timing.longest_event_delay_s)
            if entry.due_at is not None:
                entry.due_at = max(entry.due_at, entry.not_before)
        else:
            entry.failures, entry.not_before = 0, 0.0
        if next_s is not None:
            self.add_after(key, next_s, now)
        if entry.due() is None:
            del self._entries[key]

    def has_news(self, key: ObjectKey) -> bool:
        """Return whether the key has an event for which no work has begun."""
        entry = self._entries.get(key)
        return entry is not None and entry.added_at is not None

    def next_due(self) -> float | None:
        """Return when the next key is due that is not being worked on, or None."""
        return min((at for entry in self._entries.values() if (at := _takeable(entry)) is not None), default=None)

    def stalled(self, now: float) -> list[str]:
        """Return what is stuck, as sentences."""
        found = []
        for key, entry in self._entries.items():
            if entry.active_since is not None:
                if (seconds := now - entry.active_since) > self._timing.longest_work_s:
                    found.append(f"{key} is worked on for {seconds:.0f} s.")
            elif (due := entry.due()) is not None and (seconds := now - due) > self._timing.longest_wait_s:
                found.append(f"{key} waits for {seconds:.0f} s.")
        return sorted(found)


def _takeable(entry: _Entry) -> float | None:
    return entry.due() if entry.active_since is None else None


async def _nothing() -> Iterable[ObjectKey]:
    return ()


class WorkQueue:
    """The queue that works on several keys concurrently.

    `work` gets a key and a function that returns whether a newer event has come. It returns the seconds to the key's
    next work (None: at the next event or resync); if it raises, the key is retried. `listing` reads all existing keys,
    for the resync. `finished` is called with each key, result and seconds. `describe` turns an error into a text
    without secrets.
    """

    def __init__(  # noqa: PLR0913 - all but the first are options
        self,
        work: Callable[[ObjectKey, Callable[[], bool]], Awaitable[float | None]],
        *,
        listing: Callable[[], Awaitable[Iterable[ObjectKey]]] = _nothing,
        finished: Callable[[ObjectKey, str, float], None] = lambda _key, _result, _seconds: None,
        describe: Callable[[Exception], str] = error_location,
        workers: int = 4,
        timing: Timing | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._work = work
        self._listing = listing
        self._finished = finished
        self._describe = describe
        self._workers = workers
        self._timing = timing or Timing()
        self._clock = clock
        self._agenda = Agenda(self._timing)
        self._known: set[ObjectKey] = set()
        self._messages: dict[ObjectKey, str] = {}
        """The message last logged for each failing key."""
        self._listing_message = ""
        self._running: dict[asyncio.Task[None], ObjectKey] = {}
        self._changed = asyncio.Event()
        self._wanted = asyncio.Event()
        self._started = False

    @property
    def depth(self) -> int:
        """The number of waiting keys."""
        return len(self._agenda)

    def add(self, key: ObjectKey) -> None:
        """Record an event of the key. Call it only from the event loop's own thread."""
        self._known.add(key)
        self._agenda.add(key, self._clock())
        self._changed.set()

    def add_after(self, key: ObjectKey, seconds: float) -> None:
        """Schedule the key in `seconds`."""
        self._agenda.add_after(key, seconds, self._clock())
        self._changed.set()

    def resync(self) -> None:
        """Queue every key as soon as the listing is read."""
        self._wanted.set()

    def stalled(self) -> list[str]:
        """Return what is stuck, as sentences; nothing unless the queue was started."""
        return self._agenda.stalled(self._clock()) if self._started else []

    async def run(self) -> None:
        """Work until cancelled; then `stop` waits for the work that still runs."""
        self._started = True
        resyncing = asyncio.create_task(self._resync_for_ever(), name="resync")
        try:
            while True:
                self._changed.clear()
                while len(self._running) < self._workers and (key := self._agenda.take(self._clock())) is not None:
                    task = asyncio.create_task(self._work_on(key), name=f"reconcile {key}")
                    self._running[task] = key
                    task.add_done_callback(self._ended)
                due = self._agenda.next_due() if len(self._running) < self._workers else None
                await _first(self._changed, None if due is None else max(due - self._clock(), 0.0))
        finally:
            self._started = False
            resyncing.cancel()

    async def stop(self, grace_s: float) -> None:
        """Let running work finish for `grace_s` seconds after `run` was cancelled, then cancel it."""
        if self._running:
            await asyncio.wait(self._running, timeout=grace_s)
        left = dict(self._running)
        for task, key in left.items():
            _logger.warning("%s: cut off; the next start goes on.", key)
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)
        self._changed.set()

    async def _work_on(self, key: ObjectKey) -> None:
        began = self._clock()
        failed, next_s = True, None
        try:
            next_s = await self._work(key, lambda: self._agenda.has_news(key))
            failed = False
        except Exception as error:  # noqa: BLE001 - one key's failure must not stop the others
            self._log_failure(key, error)
        else:
            if self._messages.pop(key, None) is not None:
                _logger.info("%s: works again.", key)
        finally:
            now = self._clock()
            self._agenda.done(key, now, failed=failed, next_s=next_s)
            self._finished(key, "error" if failed else "success", now - began)

    def _log_failure(self, key: ObjectKey, error: Exception) -> None:
        message = self._describe(error)
        if self._messages.get(key) != message:
            self._messages[key] = message
            _logger.warning("%s: failed and is tried again: %s", key, message)
        _logger.debug("%s: %s", key, error_location(error))

    async def _resync_for_ever(self) -> None:
        while True:
            listed = await self._resync_once()
            wait = random.uniform(*self._timing.resync_s) if listed else self._timing.resync_retry_s  # noqa: S311
            await _first(self._wanted, wait)
            # Faults of the watches often come together: one listing is enough for all.
            await asyncio.sleep(self._timing.delay_s)
            self._wanted.clear()

    async def _resync_once(self) -> bool:
        """Add every key, including servers gone since the last listing. Return whether the listing succeeded."""
        found: set[ObjectKey] | None = None
        try:
            found = set(await self._listing())
        except Exception as error:  # noqa: BLE001 - the known keys are still reconciled
            message = self._describe(error)
            if message != self._listing_message:
                _logger.warning("The objects cannot be listed, which is tried again: %s", message)
            self._listing_message = message
        else:
            if self._listing_message:
                _logger.info("The objects can be listed again.")
            self._listing_message = ""
        for key in self._known | (found or set()):
            self.add(key)
        if found is not None:
            # A key that is gone is worked on once more, and after that only if it has an event.
            left = self._agenda.keys()
            self._messages = {key: message for key, message in self._messages.items() if key in left}
            self._known = found
        return found is not None


async def _first(event: asyncio.Event, timeout_s: float | None) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await event.wait()
