"""Find the patterns that match a project's name, without trying each of them."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Generic, TypeVar

from pywharf.core.names import ProjectName
from pywharf.core.star_pieces import fits_pieces

Value = TypeVar("Value")

_SEPARATORS = re.compile(r"[-_.]+")
_STARS = re.compile(r"\*+")
_NAME_PATTERN = re.compile(r"[A-Za-z0-9*]([A-Za-z0-9._*-]*[A-Za-z0-9*])?\Z")
_GRAM = 3
"""Characters of the parts of a name by which patterns are found."""
_Pieces = tuple[str, ...]
"""What stands between the `*` of a pattern."""


def is_name_pattern(raw: str) -> bool:
    """Return whether a text is a project's name in which `*` stands for any characters."""
    return _NAME_PATTERN.match(raw) is not None


def normalized_pattern(raw: str) -> str:
    """Return a pattern in the form of PEP 503, like the names that it matches. Runs of `*` become one."""
    return _STARS.sub("*", _SEPARATORS.sub("-", raw).lower())


def is_costly(raw: str) -> bool:
    """Return whether a pattern may have to be tried for names: no name itself, nor `*`, nor one such as `acme-*`."""
    return "*" in raw and "*" in normalized_pattern(raw)[:-1]  # most are names, and limits ask of thousands


class NamePatterns(Generic[Value]):
    """Values by the patterns of the project names that they are about.

    A pattern without `*`, or whose only one is its end, is found in a dict. Any other is filed under a part of at most
    three characters that its names contain: of its parts, the one that the fewest patterns share.
    """

    def __init__(self, items: Iterable[tuple[str, Value]]) -> None:
        self._exact: dict[str, list[Value]] = {}
        self._every: list[Value] = []
        self._by_beginning: dict[str, list[Value]] = {}
        self._by_gram: dict[str, list[tuple[_Pieces, list[Value]]]] = {}
        costly: dict[_Pieces, list[Value]] = {}
        for raw, value in items:
            pattern = normalized_pattern(raw)
            if pattern == "*":
                self._every.append(value)
            elif is_costly(pattern):
                costly.setdefault(tuple(pattern.split("*")), []).append(value)
            elif pattern.endswith("*"):
                self._by_beginning.setdefault(pattern[:-1], []).append(value)
            else:
                self._exact.setdefault(pattern, []).append(value)
        self._beginnings = tuple(sorted({len(beginning) for beginning in self._by_beginning}))
        self._file(costly)
        self._lengths = tuple(sorted({len(gram) for gram in self._by_gram}))

    def _file(self, costly: Mapping[_Pieces, list[Value]]) -> None:
        choices = {pieces: tuple(_choices(pieces)) for pieces in costly}
        shared = Counter(gram for grams in choices.values() for gram in grams)
        for pieces, values in costly.items():
            gram = min(choices[pieces], key=lambda choice: (shared[choice], choice))
            self._by_gram.setdefault(gram, []).append((pieces, values))

    def matching(self, name: ProjectName) -> list[Value]:
        """Return the values whose pattern matches the name."""
        found = [*self._every, *self._exact.get(name, ())]
        for values in self._by_pattern(name):
            found += values
        return found

    def match(self, name: ProjectName) -> bool:
        """Return whether any pattern matches the name."""
        if self._every or name in self._exact:
            return True
        return any(True for _ in self._by_pattern(name))

    def matched(self, names: Iterable[ProjectName]) -> list[ProjectName]:
        """Return those of the names that any pattern matches, in their order."""
        if self._every:
            return list(names)
        if self._by_gram or self._by_beginning:
            return [name for name in names if self.match(name)]
        return [name for name in names if name in self._exact] if self._exact else []

    def _by_pattern(self, name: str) -> Iterator[list[Value]]:
        for length in self._beginnings:
            if (values := self._by_beginning.get(name[:length])) is not None and length <= len(name):
                yield values
        for length in self._lengths:
            for gram in {name[at : at + length] for at in range(len(name) - length + 1)}:
                for pieces, values in self._by_gram.get(gram, ()):
                    if fits_pieces(pieces, name):
                        yield values


def _choices(pieces: _Pieces) -> set[str]:
    """Return the parts of a pattern under which it may be filed. All are in every name that it matches."""
    longest = max(len(piece) for piece in pieces)
    length = min(longest, _GRAM)
    return {piece[at : at + length] for piece in pieces for at in range(len(piece) - length + 1)}
