"""One entry of a feed, in OSV's format (schema 1.x): what the server needs of it, within bounds."""

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from pywharf.core.advisories.versions import EVERYTHING, Event, Interval, intervals_of, key_of
from pywharf.core.errors import InvalidNameError
from pywharf.core.filenames import MAX_VERSION
from pywharf.core.msgspec_warmup import warmed_up
from pywharf.core.names import ProjectName, normalize

MAX_ENTRY_BYTES = 4 * 1024 * 1024
"""Bytes of one entry's JSON; the largest known ones have some hundred kilobytes."""
ECOSYSTEM = "PyPI"
_MALWARE = "MAL-"
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}\Z")

_Text = Annotated[str, Meta(max_length=1024)]


class BadEntryError(ValueError):
    """An entry that cannot be used."""


class _Package(msgspec.Struct, frozen=True, gc=False):
    ecosystem: _Text = ""
    name: _Text = ""


class _Range(msgspec.Struct, frozen=True):
    type: _Text = ""
    events: Annotated[list[Event], Meta(max_length=1000)] = []


@warmed_up
class _Affected(msgspec.Struct, frozen=True):
    package: _Package | None = None
    versions: Annotated[list[str | None], Meta(max_length=50_000)] | None = None
    ranges: Annotated[list[_Range], Meta(max_length=1000)] | None = None


@warmed_up
class _Raw(msgspec.Struct, frozen=True):
    id: _Text
    modified: Annotated[datetime, Meta(tz=True)]
    withdrawn: _Text | None = None
    affected: Annotated[list[msgspec.Raw], Meta(max_length=10_000)] | None = None


class Affected(msgspec.Struct, frozen=True):
    """The versions of one project that an entry is about."""

    project: ProjectName
    versions: frozenset[str] = frozenset()
    """Keys of versions; see `pywharf.core.advisories.versions`."""
    intervals: tuple[Interval, ...] = ()


class Entry(msgspec.Struct, frozen=True):
    """An entry that concerns PyPI."""

    id: str
    modified: float
    """Unix seconds."""
    is_withdrawn: bool
    affected: tuple[Affected, ...]

    @property
    def is_malware(self) -> bool:
        """Return whether the entry reports malware."""
        return is_malware(self.id)


def is_malware(identifier: str) -> bool:
    """Return whether an entry of that identifier reports malware."""
    return identifier.startswith(_MALWARE)


def is_identifier(text: str) -> bool:
    """Return whether an entry can have that identifier."""
    return _ID.match(text) is not None


def parse_entry(content: bytes) -> Entry | None:
    """Return what an entry's JSON says about PyPI; None if it is about other ecosystems. Raises BadEntryError."""
    if len(content) > MAX_ENTRY_BYTES:
        raise BadEntryError(f"it has over {MAX_ENTRY_BYTES} bytes")
    try:
        raw = msgspec.json.decode(content, type=_Raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadEntryError(str(error)) from None
    if not is_identifier(raw.id):
        raise BadEntryError(f"its id is {raw.id[:80]!r}")
    found, fault = _by_project(raw.affected or (), malware=is_malware(raw.id))
    if not found:
        if fault:
            raise BadEntryError(fault)
        return None
    try:
        modified = raw.modified.astimezone(UTC).timestamp()
    except (OverflowError, ValueError) as error:
        raise BadEntryError(f"its time of change: {error}") from None
    return Entry(id=raw.id, modified=modified, is_withdrawn=bool(raw.withdrawn), affected=found)


def _by_project(items: Iterable[msgspec.Raw], *, malware: bool) -> tuple[tuple[Affected, ...], str]:
    """Return one Affected for each project of PyPI, and what is wrong with the first item that cannot be used.

    An item that cannot be used takes nothing from the others.
    """
    found: dict[ProjectName, tuple[set[str], list[Interval]]] = {}
    fault = ""
    for item in items:
        try:
            one = _of_pypi(item)
            if one is None:
                continue
            project, raw = one
            of_item = _versions(project, raw, malware=malware)
        except BadEntryError as error:
            fault = fault or str(error)
            continue
        versions, intervals = found.setdefault(project, (set(), []))
        versions |= of_item[0]
        intervals += of_item[1]
    return tuple(_joined(found)), fault


def _of_pypi(item: msgspec.Raw) -> tuple[ProjectName, _Affected] | None:
    """Return the project and what is said about it; None for another ecosystem. Raises BadEntryError."""
    try:
        one = msgspec.json.decode(item, type=_Affected)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadEntryError(f"one of the affected packages: {error}") from None
    if one.package is None or one.package.ecosystem != ECOSYSTEM:
        return None
    try:
        return normalize(one.package.name), one
    except InvalidNameError:
        raise BadEntryError(f"it names the project {one.package.name[:80]!r}") from None


def _versions(project: ProjectName, one: _Affected, *, malware: bool) -> tuple[set[str], list[Interval]]:
    """Return the versions and intervals that are affected. Raises BadEntryError.

    Malware without any that can be read, or with a range that cannot be read, affects every version.
    """
    listed = [text for text in one.versions or () if text is not None and len(text) <= MAX_VERSION]
    intervals: list[Interval] = []
    fault = ""
    for of_range in one.ranges or ():
        if of_range.type != "ECOSYSTEM":
            continue
        try:
            intervals += intervals_of(of_range.events)
        except ValueError as error:
            fault = f"a range of {project}: {error}"
    if malware:
        if fault or not (listed or intervals):
            intervals.append(EVERYTHING)
    elif fault and not (listed or intervals):  # the list, which feeds derive from the ranges, says the same
        raise BadEntryError(fault)
    return set(map(key_of, listed)), intervals


def _joined(found: Mapping[ProjectName, tuple[set[str], list[Interval]]]) -> Iterator[Affected]:
    for project, (versions, intervals) in found.items():
        if any(interval.is_everything for interval in intervals):
            yield Affected(project, frozenset(), (EVERYTHING,))
        else:
            yield Affected(project, frozenset(versions), tuple(dict.fromkeys(intervals)))
