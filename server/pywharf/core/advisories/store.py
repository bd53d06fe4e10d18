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

_CACHED_BYTES: Final = 3 * 1024 * 1024 // 2
"""Bytes, about, of the projects that are kept unpacked: of those with malware, and of those with other entries."""


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
        text_size, entries, *of_tables = HEADER.unpack_from(tables)
        sizes = [entries * KEY_BYTES] * 3
        for projects, groups_size in (of_tables[:2], of_tables[2:]):
            sizes += [projects * KEY_BYTES, (projects + 1) * KEY_BYTES, groups_size]
        sizes.append(text_size)
        if HEADER.size + sum(sizes) != len(tables):
            raise BrokenStoreError("its tables do not fit")
        parts = list(_parts(tables, HEADER.size, sizes))
        self._ids, self._places = (part.cast("Q") for part in parts[:2])
        self._modified = parts[2].cast("d")
        self._malware, self._others = _Projects(*parts[3:6]), _Projects(*parts[6:9])
        self.meta = msgspec.json.decode(parts[9], type=StoreMeta)
        self._read = read

    @property
    def revision(self) -> str:
        """Return the identity of what is known about malware."""
        return self._malware.revision

    @property
    def whole_revision(self) -> str:
        """Return the identity of all that is known about versions."""
        return f"{self._malware.revision}-{self._others.revision}"

    def concerns(self, project: ProjectName) -> bool:
        """Return whether any entry is about the project."""
        return self._malware.has(project) or self._others.has(project)

    def concerns_malware(self, project: ProjectName) -> bool:
        """Return whether any malware report is about the project."""
        return self._malware.has(project)

    def malware_id(self, project: ProjectName, version: str | None) -> str | None:
        """Return the first malware report about a version; None: there is none."""
        found = self._malware.get(project)
        return None if found is None else min((one.id for one in _matching(found, version)), default=None)

    def matching(self, project: ProjectName, version: str | None) -> Sequence[Advisory]:
        """Return the entries about a version; None: those about every version of the project."""
        both = (self._malware.get(project), self._others.get(project))
        return [one for found in both if found is not None for one in _matching(found, version)]

    def of_project(self, project: ProjectName) -> Sequence[Advisory]:
        """Return all entries about any version of the project."""
        both = (self._malware.get(project), self._others.get(project))
        return [advisory for found in both if found is not None for advisory, _, _ in found.entries]

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


class _Projects:
    """Projects of the tables, found by their names. The ones asked for lately are kept unpacked."""

    def __init__(self, keys: memoryview, ends: memoryview, groups: memoryview) -> None:
        answers = hashlib.sha256(keys)
        answers.update(groups)
        self.revision = answers.hexdigest()[:32]
        self._keys, self._ends, self._groups = keys.cast("Q"), ends.cast("Q"), groups
        self._unpacked: cachetools.LRUCache[int, Mapping[str, _Project]] = cachetools.LRUCache(
            _CACHED_BYTES, lambda found: sum(map(_size, found.values()))
        )
        self._cache_lock = threading.Lock()

    def has(self, project: str) -> bool:
        """Return whether a project of that name, or one with its key, is among them."""
        return self._position(project) is not None

    def get(self, project: str) -> _Project | None:
        """Return a project unpacked, or None."""
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

    def _position(self, project: str) -> int | None:
        number = key(project)
        at = bisect.bisect_left(self._keys, number)
        return at if at < len(self._keys) and self._keys[at] == number else None


def _matching(project: _Project, version: str | None) -> Iterator[Advisory]:
    """Yield the entries about a version; None: those about every version."""
    if version is None:
        for advisory, _, intervals in project.entries:
            if any(interval.is_everything for interval in intervals):
                yield advisory
        return
    wanted = asked(version)
    listed = [project.positions[one] for one in wanted.keys if one in project.positions]
    for advisory, runs, intervals in project.entries:
        if any(bisect.bisect_right(runs, position) & 1 for position in listed) or any(
            one.is_everything or (wanted.version is not None and one.holds(wanted.version)) for one in intervals
        ):
            yield advisory


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
