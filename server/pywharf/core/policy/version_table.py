"""Match many version specifiers with the versions of one project.

`packaging` defines the answers (`tests/unit/core/policy/test_version_table.py` compares them), but it tries one version
at a time: thousands of rules about a project with thousands of versions would take it minutes. Here a project's
versions are sorted once, and a specifier matches a part of that order, written as the bits of a number.
"""

import bisect
import functools
from collections.abc import Iterable, Iterator

from packaging.specifiers import Specifier, SpecifierSet
from packaging.version import Version

from pywharf.core.policy.specifiers import parsed

_FEW = 64
"""Versions of a set up to which it is faster to take them out one by one than to go through all bits."""
_Family = tuple[int, tuple[int, ...]]
"""Epoch and release without trailing zeros. Pre-releases, post-releases and local versions share it."""


class VersionTable:
    """The versions of a project, in order. A set of them is a number: bit n stands for the version at n."""

    def __init__(self, versions: Iterable[str]) -> None:
        """Take versions in normal form."""
        pairs = sorted((_public(version), version) for version in {text: parsed(text) for text in versions}.values())
        self._public = [public for public, _ in pairs]
        self._versions = [version for _, version in pairs]
        self._texts = [str(version) for version in self._versions]
        self._positions = {text: position for position, text in enumerate(self._texts)}
        self._families = [_family(version) for version in self._public]
        self._every = (1 << len(pairs)) - 1

    def matching(self, specifiers: SpecifierSet) -> int:
        """Return the versions that all specifiers match, pre-releases included."""
        found = self._every
        for specifier in specifiers:
            found &= self._matching(specifier)
        return found

    def texts(self, found: int) -> Iterator[str]:
        """Yield the versions of a set, in normal form."""
        if found.bit_count() > _FEW:
            yield from (text for text, bit in zip(self._texts, reversed(f"{found:b}"), strict=False) if bit == "1")
            return
        while found:
            lowest = found & -found
            yield self._texts[lowest.bit_length() - 1]
            found ^= lowest

    def has(self, found: int, text: str) -> bool:
        """Return whether a set has a version of the table, in normal form."""
        return bool(found >> self._positions[text] & 1)

    def _matching(self, specifier: Specifier) -> int:
        operator, text = specifier.operator, specifier.version
        if operator == "===":
            position = self._positions.get(text.lower())
            return 0 if position is None else 1 << position
        if operator in {"==", "!="}:
            is_prefix = text.endswith(".*")
            found = self._with_prefix(parsed(text.removesuffix(".*"))) if is_prefix else self._equal(parsed(text))
            return found if operator == "==" else self._every ^ found
        return self._compared(operator, parsed(text))

    def _compared(self, operator: str, version: Version) -> int:
        match operator:
            case "<=":
                return self._range(0, bisect.bisect_right(self._public, version))
            case "<":
                # It does not match pre-releases of its version, unless that is one itself.
                end = version if version.is_prerelease else parsed(f"{version}.dev0")
                return self._range(0, bisect.bisect_left(self._public, end))
            case ">":
                return self._range(self._after(version))
        from_version = self._range(bisect.bisect_left(self._public, version))
        if operator == ">=":
            return from_version
        prefix = parsed(f"{version.epoch}!{'.'.join(map(str, version.release[:-1]))}")  # of ~=, the only one left
        return from_version & self._with_prefix(prefix)

    def _equal(self, version: Version) -> int:
        public = _public(version)
        found = self._range(bisect.bisect_left(self._public, public), bisect.bisect_right(self._public, public))
        if version.local is None:
            return found
        # Several texts may be equal versions, such as 1.0+a and 1.0.0+a.
        return found & sum(1 << position for position in self._local.get(version, ()))

    def _after(self, version: Version) -> int:
        """Return where `>` begins to match: after the post-releases of its version, unless that is one itself."""
        if version.is_postrelease or version.is_devrelease:
            return bisect.bisect_right(self._public, version)
        if version.pre is None:
            return bisect.bisect_right(self._families, _family(version))
        kind, number = version.pre
        return bisect.bisect_left(self._public, parsed(f"{version.base_version}{kind}{number + 1}.dev0"))

    def _with_prefix(self, prefix: Version) -> int:
        *most, last = prefix.release
        following = (prefix.epoch, (*most, last + 1))
        first = bisect.bisect_left(self._families, _family(prefix))
        return self._range(first, bisect.bisect_left(self._families, following))

    def _range(self, start: int, end: int | None = None) -> int:
        """Return the versions from `start` until before `end`."""
        stop = self._every if end is None else (1 << end) - 1
        return stop & ~((1 << start) - 1)

    @functools.cached_property
    def _local(self) -> dict[Version, list[int]]:
        """The positions of the versions that have a local part."""
        found: dict[Version, list[int]] = {}
        for position, version in enumerate(self._versions):
            if version.local is not None:
                found.setdefault(version, []).append(position)
        return found


def _public(version: Version) -> Version:
    return version if version.local is None else parsed(version.public)


def _family(version: Version) -> _Family:
    release = version.release
    end = len(release)
    while end and not release[end - 1]:
        end -= 1
    return version.epoch, release[:end]
