"""Write the file of a compiled feed, entry by entry."""

import hashlib
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import BinaryIO, Final, NamedTuple

import msgspec

from pywharf.core.advisories.entry import Affected, Entry
from pywharf.core.advisories.store_format import (
    ALIGNMENT,
    HEADER,
    KEY_BYTES,
    MAGIC,
    SIZE_BITS,
    TRAILER,
    Listed,
    ProjectEntries,
    StoreMeta,
    key,
    packed_group,
    packed_json,
)
from pywharf.core.advisories.versions import Interval, parsed
from pywharf.core.msgspec_warmup import warmed_up
from pywharf.core.names import ProjectName

MAX_ENTRIES: Final = 1_000_000
MAX_TABLE_BYTES: Final = 256 * 1024 * 1024
MAX_FILE_BYTES: Final = 2 * 1024 * 1024 * 1024


class TooLargeFeedError(ValueError):
    """A feed over a limit."""


_Notes = dict[ProjectName, list[bytes]]
"""What is kept of the entries about each project."""


@warmed_up
class _Noted(msgspec.Struct, array_like=True):
    """What is kept of an entry about one project until all entries are read."""

    id: str
    place: int
    """The place of its entry: that of another one with the same identifier may have been noted before."""
    versions: list[str]
    intervals: tuple[Interval, ...]


class Skipped(msgspec.Struct):
    """The entries of a feed that cannot be used."""

    entries: int = 0
    malware: int = 0
    """Those among them that report malware."""
    first: str = ""
    """Why the first of them cannot be used."""

    def add(self, fault: str, *, malware: bool) -> None:
        """Count one."""
        self.entries += 1
        self.malware += malware
        self.first = self.first or fault[:300]


class _Seen(NamedTuple):
    """An entry."""

    place: int
    modified: float
    reports_malware: bool


class StoreWriter:
    """A file of a compiled feed that is being written."""

    def __init__(self, file: BinaryIO, pause: Callable[[], None] = lambda: None) -> None:
        """`pause` is called often while the tables are made, and may sleep."""
        self._file = file
        self._pause = pause
        self._at = 0
        self._seen: dict[str, _Seen] = {}
        """Entries by identifier."""
        self._has_replaced = False
        self._malware: _Notes = {}
        self._others: _Notes = {}
        self._noted_bytes = 0
        self._newest = 0.0

    def add(self, entry: Entry, content: bytes, newest: float) -> bool:
        """Add an entry with its JSON; False if one of that identifier was not changed earlier.

        A change after `newest`, in Unix seconds, does not count for the age of the feed. Raises TooLargeFeedError,
        OSError.
        """
        known = self._seen.get(entry.id)
        if known is not None:
            if known.modified >= entry.modified:
                return False
            self._has_replaced = True
        elif len(self._seen) >= MAX_ENTRIES:
            raise TooLargeFeedError(f"it has more than {MAX_ENTRIES} entries about PyPI")
        packed = packed_json(content)
        if self._at + len(packed) > MAX_FILE_BYTES:
            raise TooLargeFeedError(f"its entries take more than {MAX_FILE_BYTES} bytes")
        self._file.write(packed)
        place = self._at << SIZE_BITS | len(packed)
        self._seen[entry.id] = _Seen(place, entry.modified, entry.is_malware and not entry.is_withdrawn)
        self._at += len(packed)
        if entry.modified <= newest:
            self._newest = max(self._newest, entry.modified)
        if not entry.is_withdrawn:
            notes = self._malware if entry.is_malware else self._others
            for affected in entry.affected:
                self._note(notes, entry.id, place, affected)
        return True

    def _note(self, notes: _Notes, identifier: str, place: int, affected: Affected) -> None:
        note = msgspec.msgpack.encode(_Noted(identifier, place, list(affected.versions), affected.intervals))
        self._noted_bytes += len(note)
        if self._noted_bytes > MAX_TABLE_BYTES:
            raise TooLargeFeedError(f"its lists of versions take more than {MAX_TABLE_BYTES} bytes")
        notes.setdefault(affected.project, []).append(note)

    def _forget_replaced(self, notes: _Notes) -> None:
        """Drop what was noted of entries that newer ones of the same identifier replaced."""
        for project, of_project in list(notes.items()):
            decoded = ((note, msgspec.msgpack.decode(note, type=_Noted)) for note in of_project)
            kept = [note for note, noted in decoded if self._seen[noted.id].place == noted.place]
            if kept:
                notes[project] = kept
            else:
                del notes[project]

    def finish(self, source: str, validators: tuple[str, str], skipped: Skipped) -> StoreMeta:
        """Write the tables, and return what the file says about itself. `validators`: ETag and Last-Modified."""
        if self._has_replaced:
            self._forget_replaced(self._malware)
            self._forget_replaced(self._others)
        meta = StoreMeta(
            source=source,
            etag=validators[0],
            last_modified=validators[1],
            newest=self._newest,
            entries=len(self._seen),
            malware=sum(seen.reports_malware for seen in self._seen.values()),
            projects=len(self._malware.keys() | self._others.keys()),
            skipped=skipped.entries,
            skipped_malware=skipped.malware,
            first_skipped=skipped.first,
        )
        self._write(b"\0" * (-self._at % ALIGNMENT))
        begin, digest = self._at, hashlib.sha256()
        for part in self._tables(meta):
            digest.update(part)
            self._write(part)
        self._write(TRAILER.pack(MAGIC, begin, self._at - begin, digest.digest()))
        return meta

    def _write(self, content: bytes) -> None:
        self._file.write(content)
        self._at += len(content)

    def _tables(self, meta: StoreMeta) -> Iterator[bytes]:
        by_key = sorted((key(identifier), seen.place, seen.modified) for identifier, seen in self._seen.items())
        text = msgspec.json.encode(meta)
        tables = [self._table(notes) for notes in (self._malware, self._others)]
        sizes = [size for keys, _, groups in tables for size in (len(keys), len(groups))]
        yield HEADER.pack(len(text), len(by_key), *sizes)
        yield _little([number for number, _, _ in by_key])
        yield _little([place for _, place, _ in by_key])
        yield b"".join(struct.pack("<d", modified) for _, _, modified in by_key)
        for keys, ends, groups in tables:
            yield _little(keys)
            yield _little(ends)
            yield groups
        yield text

    def _table(self, notes: _Notes) -> tuple[list[int], list[int], bytes]:
        """Return the keys of projects, where each begins, and the projects; and empty `notes`."""
        keys, ends, groups = list[int](), [0], bytearray()
        for number, projects in _grouped(notes):
            self._pause()
            keys.append(number)
            groups += packed_group(projects)
            ends.append(len(groups))
        groups += b"\0" * (-len(groups) % KEY_BYTES)  # the next table's numbers are read where they lie
        return keys, ends, bytes(groups)


def _little(numbers: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(numbers)}Q", *numbers)


def _grouped(noted: _Notes) -> Iterator[tuple[int, list[ProjectEntries]]]:
    """Yield the projects by their keys, ascending, and take them out of `noted`."""
    names = sorted((key(name), name) for name in noted)
    group: list[ProjectEntries] = []
    for position, (number, name) in enumerate(names):
        group.append(_project(name, noted.pop(name)))
        if position + 1 == len(names) or names[position + 1][0] != number:
            yield number, group
            group = []


def _project(name: str, notes: Sequence[bytes]) -> ProjectEntries:
    entries = [msgspec.msgpack.decode(note, type=_Noted) for note in notes]
    versions = sorted({version for entry in entries for version in entry.versions}, key=_order)
    positions = {version: position for position, version in enumerate(versions)}
    listed = (
        Listed(entry.id, tuple(_runs(sorted(positions[version] for version in entry.versions))), entry.intervals)
        for entry in sorted(entries, key=lambda entry: entry.id)
    )
    return ProjectEntries(name, tuple(versions), tuple(listed))


def _order(text: str) -> tuple[int, object, str]:
    version = parsed(text)
    return (0, "", text) if version is None else (1, version, text)


def _runs(positions: Iterable[int]) -> Iterator[int]:
    last = None
    for position in positions:
        if position != last:
            if last is not None:
                yield last
            yield position
        last = position + 1
    if last is not None:
        yield last
