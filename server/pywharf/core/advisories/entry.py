"""One entry of a feed, in OSV's format (schema 1.x): what the server needs of it, within bounds."""

import re
from collections.abc import Iterator
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


class _Affected(msgspec.Struct, frozen=True):
    package: _Package | None = None
    versions: Annotated[list[str], Meta(max_length=50_000)] | None = None
    ranges: Annotated[list[_Range], Meta(max_length=1000)] | None = None


@warmed_up
class _Raw(msgspec.Struct, frozen=True):
    id: _Text
    modified: Annotated[datetime, Meta(tz=True)]
    withdrawn: _Text | None = None
    affected: Annotated[list[_Affected], Meta(max_length=10_000)] | None = None


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
    concerned = [one for one in raw.affected or () if one.package is not None and one.package.ecosystem == ECOSYSTEM]
    if not concerned:
        return None
    return Entry(
        id=raw.id,
        modified=raw.modified.astimezone(UTC).timestamp(),
        is_withdrawn=bool(raw.withdrawn),
        affected=tuple(_by_project(concerned, malware=is_malware(raw.id))),
    )


def _by_project(concerned: list[_Affected], *, malware: bool) -> Iterator[Affected]:
    """Yield one Affected for each project. Raises BadEntryError."""
    found: dict[ProjectName, tuple[set[str], list[Interval]]] = {}
    for one in concerned:
        assert one.package is not None  # noqa: S101 - those without are left out before
        try:
            project = normalize(one.package.name)
        except InvalidNameError:
            raise BadEntryError(f"it names the project {one.package.name[:80]!r}") from None
        versions, intervals = found.setdefault(project, (set(), []))
        listed = [text for text in one.versions or () if len(text) <= MAX_VERSION]
        versions.update(map(key_of, listed))
        ranges = [one for one in one.ranges or () if one.type == "ECOSYSTEM"]
        try:
            intervals += [interval for of_range in ranges for interval in intervals_of(of_range.events)]
        except ValueError as error:
            # The list, which feeds derive from the ranges, says the same.
            if not listed:
                raise BadEntryError(f"a range of {project}: {error}") from None
        if malware and not one.versions and not one.ranges:
            # A malware report that names no version means the whole project.
            intervals.append(EVERYTHING)
    for project, (versions, intervals) in found.items():
        if any(interval.is_everything for interval in intervals):
            yield Affected(project, frozenset(), (EVERYTHING,))
        else:
            yield Affected(project, frozenset(versions), tuple(dict.fromkeys(intervals)))
