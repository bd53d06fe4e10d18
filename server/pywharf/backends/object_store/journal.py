"""The journal in a bucket: an object for each entry, under keys that sort by time.

Readers list what is new. The keys' times come from the writers, whose clocks may differ, and a slow writer's entry may
appear after a later one was read. So a writer's times never go back behind those it has read, a poll lists again what
was new in the last minutes, and now and then everything.

An object whose key sorts last changes with each fold. Every list has it, so readers see a fold without another request.
"""

import asyncio
import hashlib
import itertools
import re
import time
import uuid
from collections.abc import Callable, Iterable, Sequence

import msgspec

from pywharf.backends.object_store.client import ObjectClient, ObjectMissingError, Stat
from pywharf.core.errors import BackendUnavailableError
from pywharf.core.msgspec_warmup import warmed_up
from pywharf.core.names import ProjectName
from pywharf.index.limits import MAX_LINE_BYTES, fault_of
from pywharf.index.ports import JournalEntry, JournalRead

_KEY = re.compile(r"(\d{17})-[0-9a-f]{12}\.json\Z")
_FOLDED = "~folded"
_WINDOW_US = 600 * 1_000_000
"""Microseconds before the newest entry that a poll lists again."""
_WHOLE_INTERVAL_S = 60.0
"""Seconds between two lists of the whole journal."""
_FUTURE_US = 24 * 3600 * 1_000_000
"""Microseconds that a key may be ahead of this machine's clock and still move the times of new entries."""
_MAX_ENTRIES = 150_000
_CONCURRENT = 32
_CURSORS = 64
"""Cursors whose positions are remembered."""

warmed_up(JournalEntry)


class _Known:
    """What was read since the last fold, in the order of reading."""

    def __init__(self, fold: str) -> None:
        self.fold = fold
        self.keys: dict[str, None] = {}
        self.entries: list[JournalEntry] = []
        self.distinct: set[tuple[object, ...]] = set()
        self.newest_us = 0
        self.digest = 0
        self.cursors: dict[str, tuple[int, int]] = {}
        """The number of entries and of keys at each cursor that was given out."""

    def cursor(self) -> str:
        """Return a text that all readers of the same entries give."""
        return f"{self.fold}:{len(self.keys)}:{self.digest:032x}"

    def add(self, key: str, entry: JournalEntry | None) -> None:
        """Add an entry; None: it cannot be read, and is not read again."""
        if key in self.keys:
            return
        self.keys[key] = None
        self.digest = (self.digest + int.from_bytes(hashlib.blake2b(key.encode(), digest_size=16).digest())) % 2**128
        # Two uploads of the same bytes may both have written an entry.
        if entry is not None and (identity := _identity(entry)) not in self.distinct:
            self.distinct.add(identity)
            self.entries.append(entry)

    def remember(self) -> str:
        """Return the cursor, and remember which entries are behind it."""
        cursor = self.cursor()
        self.cursors.pop(cursor, None)
        self.cursors[cursor] = (len(self.entries), len(self.keys))
        while len(self.cursors) > _CURSORS:
            del self.cursors[next(iter(self.cursors))]
        return cursor


class BucketJournal:
    """The journal of one repo."""

    def __init__(self, client: ObjectClient, folder: str, clock: Callable[[], float] = time.time) -> None:
        self._client = client
        self._folder = folder
        self._clock = clock
        self._known = _Known("")
        self._last_us = 0
        self._whole_at = float("-inf")
        self._reading = asyncio.Lock()

    async def read(self, cursor: str | None = None) -> JournalRead:
        """See IndexStore.read_journal."""
        async with self._reading:
            await self._poll(whole=cursor is None)
            known = self._known
            begun = known.cursors.get(cursor) if cursor is not None else None
            current = known.remember()
            if cursor == current:
                return JournalRead((), current, restarted=False)
            if begun is None:
                return JournalRead(tuple(_ordered(known.entries)), current, restarted=True)
            return JournalRead(tuple(_ordered(known.entries[begun[0] :])), current, restarted=False)

    async def add(self, entry: JournalEntry) -> None:
        """Add an entry durably. Its key sorts after all that this process has seen."""
        now_us = int(self._clock() * 1_000_000)
        newest = self._known.newest_us if self._known.newest_us < now_us + _FUTURE_US else 0
        self._last_us = time_us = max(now_us, self._last_us + 1, newest + 1)
        key = f"{self._folder}/{time_us:017d}-{uuid.uuid4().hex[:12]}.json"
        await self._client.put(key, msgspec.json.encode(entry))

    async def holds(self, entry: JournalEntry) -> bool:
        """Return whether the journal has an equal entry now."""
        async with self._reading:
            await self._poll(whole=True)
            return _identity(entry) in self._known.distinct

    async def fold(self, cursor: str) -> None:
        """See IndexStore.fold_journal."""
        async with self._reading:
            if cursor not in self._known.cursors:
                await self._poll(whole=True)
                self._known.remember()
            known = self._known
            if cursor not in known.cursors:
                return  # another reader's, of another moment: the next run folds
            keys = list(itertools.islice(known.keys, known.cursors[cursor][1]))
            if not keys:
                return
            # Readers restart when they see the marker, so all is removed before; what is left after a crash is
            # folded by the next run.
            await self._client.delete(keys)
            await self._client.put(f"{self._folder}/{_FOLDED}", uuid.uuid4().hex.encode())
            self._known = _Known("")

    async def _poll(self, *, whole: bool) -> None:
        """Read what is new: one LIST, and a request for each new entry."""
        now = time.monotonic()
        whole = whole or now - self._whole_at >= _WHOLE_INTERVAL_S
        known = self._known
        after = None
        if not whole and known.newest_us > _WINDOW_US:
            after = f"{self._folder}/{known.newest_us - _WINDOW_US:017d}"
        listed, fold = await self._list(after)
        if fold != known.fold:
            known = _Known(fold)
            if after is not None:
                listed, known.fold = await self._list(None)
            whole = True
        await self._read_new(known, [key for key in listed if key not in known.keys])
        self._known = known
        if whole:
            self._whole_at = now

    async def _list(self, after: str | None) -> tuple[list[str], str]:
        """Return the keys of the entries, and which fold was the last one."""
        keys: list[str] = []
        fold = ""
        listed = 0
        async for page in self._client.pages(self._folder, after):
            keys.extend(stat.key for stat in page if _time_us(self._folder, stat.key) is not None)
            fold = next((_fold(stat) for stat in page if stat.key == f"{self._folder}/{_FOLDED}"), fold)
            listed += len(page)
            if listed > _MAX_ENTRIES:
                raise BackendUnavailableError(
                    f"The journal's folder has more than {_MAX_ENTRIES} objects; run update_index, which folds them."
                )
        return keys, fold

    async def _read_new(self, known: _Known, keys: Sequence[str]) -> None:
        for start in range(0, len(keys), _CONCURRENT):
            some = keys[start : start + _CONCURRENT]
            for key, entry in zip(some, await asyncio.gather(*(self._entry(key) for key in some)), strict=True):
                if entry is None and await self._is_gone(key):
                    continue
                known.add(key, entry)
                time_us = _time_us(self._folder, key) or 0
                if time_us < int(self._clock() * 1_000_000) + _FUTURE_US:
                    known.newest_us = max(known.newest_us, time_us)

    async def _entry(self, key: str) -> JournalEntry | None:
        """Return an entry; None if it was folded meanwhile, or is not in our format."""
        try:
            got = await self._client.get(key, MAX_LINE_BYTES)
        except ObjectMissingError:
            return None
        return _decoded(got.content)

    async def _is_gone(self, key: str) -> bool:
        try:
            await self._client.head(key)
        except ObjectMissingError:
            return True
        return False


def _decoded(content: bytes) -> JournalEntry | None:
    try:
        entry = msgspec.json.decode(content, type=JournalEntry)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if entry.file is not None and fault_of(entry.file) is not None:
        return None
    if (entry.file, entry.deletion, entry.status).count(None) != 2:  # noqa: PLR2004 - one of three is set
        return None
    return entry


def _identity(entry: JournalEntry) -> tuple[object, ...]:
    match entry:
        case JournalEntry(project, file=file) if file is not None:
            return project, file.filename, file.revision, file.sha256
        case JournalEntry(project, deletion=deletion) if deletion is not None:
            return project, deletion.filename, deletion.revision, None
    return entry.project, None, entry.status and entry.status.revision, None


def _time_us(folder: str, key: str) -> int | None:
    matched = _KEY.fullmatch(key.removeprefix(f"{folder}/"))
    return int(matched[1]) if matched else None


def _fold(stat: Stat) -> str:
    """Return which fold a marker stands for; without ':' for the cursor."""
    return hashlib.blake2b(f"{stat.version.e_tag} {stat.version.generation}".encode(), digest_size=8).hexdigest()


def _ordered(entries: Iterable[JournalEntry]) -> list[JournalEntry]:
    """Return the entries in their order, those of one file or status in the order of their revisions."""
    ordered = list(entries)
    groups: dict[tuple[ProjectName, str | None], list[int]] = {}
    for at, entry in enumerate(ordered):
        subject = entry.file or entry.deletion
        groups.setdefault((entry.project, subject.filename if subject is not None else None), []).append(at)
    for positions in groups.values():
        if len(positions) > 1:
            sorted_ = sorted((ordered[at] for at in positions), key=_entry_revision)
            for at, entry in zip(positions, sorted_, strict=True):
                ordered[at] = entry
    return ordered


def _entry_revision(entry: JournalEntry) -> int:
    change = entry.file or entry.deletion or entry.status
    return change.revision if change is not None else 0
