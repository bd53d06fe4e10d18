"""The advisories of a compiled feed: those about a version, and the JSON of an entry."""

import bisect
import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import cachetools
import msgspec

from pywharf.core.advisories.entry import MAX_ENTRY_BYTES, is_malware
from pywharf.core.advisories.store_format import (
    HEADER,
    KEY_BYTES,
    MAGIC,
    SIZE_BITS,
    TRAILER,
    ProjectEntries,
    StoreMeta,
    key,
    unpacked_group,
    unpacked_json,
)
from pywharf.core.advisories.versions import Interval, asked
from pywharf.core.msgspec_warmup import warmed_up
from pywharf.core.names import ProjectName
from pywharf.core.policy.advisories import Advisory

_CACHED_BYTES: Final = 3 * 1024 * 1024
"""Bytes, about, of the projects that are kept unpacked."""


class BrokenStoreError(ValueError):
    """A file that is no compiled feed of this format."""


class Place(msgspec.Struct, frozen=True):
    """Where the tables lie in the file."""

    begin: int
    size: int
    digest: bytes


def place_of(trailer: bytes, file_size: int) -> Place:
    """Return where the tables lie, from the last `TRAILER.size` bytes of the file. Raises BrokenStoreError."""
    if len(trailer) != TRAILER.size:
        raise BrokenStoreError("it is too short")
    magic, begin, size, digest = TRAILER.unpack(trailer)
    if magic != MAGIC:
        raise BrokenStoreError("it has another format")
    if begin + size + TRAILER.size != file_size:
        raise BrokenStoreError("it is cut off")
    return Place(begin, size, digest)


class _Project(msgspec.Struct, frozen=True, gc=False):
    """A project unpacked."""

    positions: Mapping[str, int]
    """The place of each listed version."""
    entries: tuple[tuple[Advisory, tuple[int, ...], tuple[Interval, ...]], ...]


class AdvisoryStore:
    """The advisories of one feed; see `pywharf.core.policy.advisories.Advisories`. It never changes."""

    def __init__(self, tables: memoryview, place: Place, read: Callable[[int, int], bytes]) -> None:
        """Take the tables, and a function that returns the bytes of the file at a position.

        It takes a moment, because it reads the tables wholly. Raises BrokenStoreError.
        """
        if hashlib.sha256(tables).digest() != place.digest:
            raise BrokenStoreError("its tables are damaged")
        text_size, projects, entries, groups_size = HEADER.unpack_from(tables)
        sizes = [projects * KEY_BYTES, (projects + 1) * KEY_BYTES, *[entries * KEY_BYTES] * 3, groups_size, text_size]
        if HEADER.size + sum(sizes) != len(tables):
            raise BrokenStoreError("its tables do not fit")
        parts = list(_parts(tables, HEADER.size, sizes))
        self._keys, self._ends, self._ids, self._places = (part.cast("Q") for part in parts[:4])
        self._modified = parts[4].cast("d")
        self._groups = parts[5]
        self.meta = msgspec.json.decode(parts[6], type=StoreMeta)
        self._read = read
        answers = hashlib.sha256(parts[0])
        answers.update(parts[5])
        self._revision = answers.hexdigest()[:32]
        self._unpacked: cachetools.LRUCache[int, Mapping[str, _Project]] = cachetools.LRUCache(
            _CACHED_BYTES, lambda found: sum(map(_size, found.values()))
        )
        self._cache_lock = threading.Lock()

    @property
    def revision(self) -> str:
        """Return the identity of the content."""
        return self._revision

    def concerns(self, project: ProjectName) -> bool:
        """Return whether any entry is about the project."""
        return self._position(project) is not None

    def matching(self, project: ProjectName, version: str | None) -> Sequence[Advisory]:
        """Return the entries about a version; None: those about every version of the project."""
        found = self._project(project)
        if found is None:
            return ()
        if version is None:
            return [
                advisory
                for advisory, _, intervals in found.entries
                if any(interval.is_everything for interval in intervals)
            ]
        wanted = asked(version)
        listed = [found.positions[one] for one in wanted.keys if one in found.positions]
        return [
            advisory
            for advisory, runs, intervals in found.entries
            if any(bisect.bisect_right(runs, position) & 1 for position in listed)
            or any(one.is_everything or (wanted.version is not None and one.holds(wanted.version)) for one in intervals)
        ]

    def of_project(self, project: ProjectName) -> Sequence[Advisory]:
        """Return all entries about any version of the project."""
        found = self._project(project)
        return () if found is None else [advisory for advisory, _, _ in found.entries]

    def modified(self, identifier: str) -> float | None:
        """Return when an entry was changed, in Unix seconds; None if there is none."""
        number = key(identifier)
        at = bisect.bisect_left(self._ids, number)
        return self._modified[at] if at < len(self._ids) and self._ids[at] == number else None

    def entry(self, identifier: str) -> bytes | None:
        """Return an entry's JSON as the feed has it, or None. Reads the file. Raises OSError, BrokenStoreError."""
        number = key(identifier)
        at = bisect.bisect_left(self._ids, number)
        while at < len(self._ids) and self._ids[at] == number:
            place = self._places[at]
            try:
                content = unpacked_json(self._read(place >> SIZE_BITS, place & (1 << SIZE_BITS) - 1), MAX_ENTRY_BYTES)
                if msgspec.json.decode(content, type=_Identified).id == identifier:
                    return content
            except ValueError as error:
                raise BrokenStoreError(f"the entry {identifier}: {error}") from error
            at += 1
        return None

    def _position(self, project: str) -> int | None:
        number = key(project)
        at = bisect.bisect_left(self._keys, number)
        return at if at < len(self._keys) and self._keys[at] == number else None

    def _project(self, project: str) -> _Project | None:
        at = self._position(project)
        if at is None:
            return None
        with self._cache_lock:  # pages are also made in threads
            found = self._unpacked.get(at)
        if found is None:
            group = unpacked_group(bytes(self._groups[self._ends[at] : self._ends[at + 1]]))
            found = {one.project: _prepared(one) for one in group}
            with self._cache_lock, contextlib.suppress(ValueError):  # larger than the whole cache
                self._unpacked[at] = found
        return found.get(project)


@warmed_up
class _Identified(msgspec.Struct):
    id: str


def _size(project: _Project) -> int:
    """Return about how many bytes a project takes."""
    return (
        1000
        + 150 * len(project.positions)
        + sum(400 + 40 * len(runs) + 200 * len(intervals) for _, runs, intervals in project.entries)
    )


def _parts(tables: memoryview, at: int, sizes: Sequence[int]) -> Iterator[memoryview]:
    for size in sizes:
        yield tables[at : at + size]
        at += size


def _prepared(project: ProjectEntries) -> _Project:
    return _Project(
        {version: position for position, version in enumerate(project.versions)},
        tuple((Advisory(entry.id, is_malware(entry.id)), entry.runs, entry.intervals) for entry in project.entries),
    )
