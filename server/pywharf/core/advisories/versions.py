"""Versions as advisories name them: lists of versions, and ranges of the type ECOSYSTEM by PEP 440."""

import functools
from collections.abc import Iterable, Sequence

import msgspec
from packaging.utils import canonicalize_version
from packaging.version import InvalidVersion, Version

from pywharf.core.filenames import MAX_VERSION

_START = "0"
"""What OSV calls the moment before every version, prereleases included."""


class Interval(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Versions from `introduced` (None: from the first one) to `end` (None: to the last one)."""

    introduced: str | None
    end: str | None
    includes_end: bool = False

    def holds(self, version: Version) -> bool:
        """Return whether the version lies in the interval."""
        if self.introduced is not None and version < _known(self.introduced):
            return False
        if self.end is None:
            return True
        end = _known(self.end)
        # A local version (2.0+cu118) is a build of the version before the plus sign, but greater.
        return version < end or (self.includes_end and _public(version) <= end)

    @property
    def is_everything(self) -> bool:
        """Return whether every version lies in the interval."""
        return self.introduced is None and self.end is None


EVERYTHING = Interval(None, None)


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event of a range; a known one has one field."""

    introduced: str | None = None
    fixed: str | None = None
    last_affected: str | None = None


def intervals_of(events: Sequence[Event]) -> tuple[Interval, ...]:
    """Return the intervals that the events of one range bound. Raises ValueError if a version cannot be read."""
    marks = sorted((mark for event in events for mark in _marks(event)), key=lambda mark: mark[:2])
    found: list[Interval] = []
    is_open, begin = False, None
    for _, kind, text in marks:
        if kind == _INTRODUCED:
            if not is_open:
                is_open, begin = True, None if text == _START else text
        elif is_open:
            found.append(Interval(begin, text, kind == _LAST))
            is_open = False
    if is_open:
        found.append(Interval(begin, None))
    return tuple(found)


# In the order in which events of one version count.
_FIXED, _INTRODUCED, _LAST = range(3)
_BEFORE_ALL = Version("0.dev0")


def _marks(event: Event) -> Iterable[tuple[Version, int, str]]:
    for kind, text in ((_INTRODUCED, event.introduced), (_FIXED, event.fixed), (_LAST, event.last_affected)):
        if text is None:
            continue
        version = _BEFORE_ALL if kind == _INTRODUCED and text == _START else parsed(text)
        if version is None:
            raise ValueError(f"{text[:80]!r} is no version")
        yield version, kind, text


def parsed(text: str) -> Version | None:
    """Return the version; None if PEP 440 does not know such a text."""
    if len(text) > MAX_VERSION:
        return None
    try:
        return Version(text)
    except InvalidVersion:
        return None


@functools.lru_cache(maxsize=65536)
def key_of(text: str) -> str:
    """Return the same key for every spelling of a version; a text that is no version is its own key."""
    version = parsed(text)
    return text.strip() if version is None else canonicalize_version(version)


class Asked(msgspec.Struct, frozen=True, gc=False):
    """A version that is looked for in lists and intervals."""

    keys: tuple[str, ...]
    """Its key, and that of the version whose build it is: as with `==` of PEP 440, a list with 2.0 means 2.0+cu118."""
    version: Version | None
    """None: it is no version, so it lies in no interval that has bounds."""


@functools.lru_cache(maxsize=8192)
def asked(text: str) -> Asked:
    """Return a version to look for."""
    version = parsed(text)
    if version is None:
        return Asked((key_of(text),), None)
    if version.local is None:
        return Asked((canonicalize_version(version),), version)
    return Asked((canonicalize_version(version), canonicalize_version(version.public)), version)


@functools.lru_cache(maxsize=8192)
def _known(text: str) -> Version:
    return Version(text)


def _public(version: Version) -> Version:
    return version if version.local is None else _known(version.public)
