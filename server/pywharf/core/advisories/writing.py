"""Write the file of a compiled feed, entry by entry."""

import hashlib
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO, Final

import msgspec

from pywharf.core.advisories.entry import Affected, Entry
from pywharf.core.advisories.store_format import (
    ALIGNMENT,
    HEADER,
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


@warmed_up
class _Noted(msgspec.Struct, array_like=True):
    """What is kept of an entry about one project until all entries are read."""

    id: str
    versions: list[str]
    intervals: tuple[Interval, ...]


class StoreWriter:
    """A file of a compiled feed that is being written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._at = 0
        self._seen: dict[str, tuple[int, float]] = {}
        """Entries by identifier: their place in the file, and when they were changed."""
        self._noted: dict[ProjectName, list[bytes]] = {}
        self._noted_bytes = 0
        self._malware = 0
        self._newest = 0.0

    def add(self, entry: Entry, content: bytes, newest: float) -> bool:
        """Add an entry with its JSON; False if there is one of that identifier.

        A change after `newest`, in Unix seconds, does not count for the age of the feed. Raises TooLargeFeedError,
        OSError.
        """
        if entry.id in self._seen:
            return False
        if len(self._seen) >= MAX_ENTRIES:
            raise TooLargeFeedError(f"it has more than {MAX_ENTRIES} entries about PyPI")
        packed = packed_json(content)
        if self._at + len(packed) > MAX_FILE_BYTES:
            raise TooLargeFeedError(f"its entries take more than {MAX_FILE_BYTES} bytes")
        self._file.write(packed)
        self._seen[entry.id] = (self._at << SIZE_BITS | len(packed), entry.modified)
        self._at += len(packed)
        if entry.modified <= newest:
            self._newest = max(self._newest, entry.modified)
        if not entry.is_withdrawn:
            self._malware += entry.is_malware
            for affected in entry.affected:
                self._note(entry.id, affected)
        return True

    def _note(self, identifier: str, affected: Affected) -> None:
        note = msgspec.msgpack.encode(_Noted(identifier, list(affected.versions), affected.intervals))
        self._noted_bytes += len(note)
        if self._noted_bytes > MAX_TABLE_BYTES:
            raise TooLargeFeedError(f"its lists of versions take more than {MAX_TABLE_BYTES} bytes")
        self._noted.setdefault(affected.project, []).append(note)

    def finish(self, source: str, validators: tuple[str, str], skipped: int, first_skipped: str) -> StoreMeta:
        """Write the tables, and return what the file says about itself. `validators`: ETag and Last-Modified."""
        meta = StoreMeta(
            source=source,
            etag=validators[0],
            last_modified=validators[1],
            newest=self._newest,
            entries=len(self._seen),
            malware=self._malware,
            projects=len(self._noted),
            skipped=skipped,
            first_skipped=first_skipped,
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
        keys, ends, groups = list[int](), [0], bytearray()
        for number, projects in _grouped(self._noted):
            keys.append(number)
            groups += packed_group(projects)
            ends.append(len(groups))
        by_key = sorted((key(identifier), *place) for identifier, place in self._seen.items())
        text = msgspec.json.encode(meta)
        yield HEADER.pack(len(text), len(keys), len(by_key), len(groups))
        yield _little(keys)
        yield _little(ends)
        yield _little([number for number, _, _ in by_key])
        yield _little([place for _, place, _ in by_key])
        yield b"".join(struct.pack("<d", modified) for _, _, modified in by_key)
        yield bytes(groups)
        yield text


def _little(numbers: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(numbers)}Q", *numbers)


def _grouped(noted: dict[ProjectName, list[bytes]]) -> Iterator[tuple[int, list[ProjectEntries]]]:
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
