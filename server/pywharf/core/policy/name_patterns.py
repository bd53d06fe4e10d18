"""Find the patterns that match a project's name, without trying each of them."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from pywharf.core.names import ProjectName

Value = TypeVar("Value")

_SEPARATORS = re.compile(r"[-_.]+")
_STARS = re.compile(r"\*+")
_GRAM = 3
"""Characters of the parts of a name by which patterns are found."""


def normalized_pattern(raw: str) -> str:
    """Return a pattern in the form of PEP 503, like the names that it matches. Runs of `*` become one."""
    return _STARS.sub("*", _SEPARATORS.sub("-", raw).lower())


class NamePatterns(Generic[Value]):
    """Values by the patterns of the project names that they are about.

    A pattern without `*` is found in a dict. Any other is filed under a part of at most three characters that its
    names contain: of its parts, the one that the fewest patterns share.
    """

    def __init__(self, items: Iterable[tuple[str, Value]]) -> None:
        self._exact: dict[str, list[Value]] = {}
        self._every: list[Value] = []
        self._by_gram: dict[str, list[tuple[tuple[str, ...], Value]]] = {}
        self._lengths: tuple[int, ...] = ()
        patterns: list[tuple[tuple[str, ...], Value]] = []
        for raw, value in items:
            pattern = normalized_pattern(raw)
            if pattern == "*":
                self._every.append(value)
            elif "*" in pattern:
                patterns.append((tuple(pattern.split("*")), value))
            else:
                self._exact.setdefault(pattern, []).append(value)
        self._file(patterns)

    def _file(self, patterns: list[tuple[tuple[str, ...], Value]]) -> None:
        choices = {pieces: tuple(_choices(pieces)) for pieces, _ in patterns}
        shared = Counter(gram for grams in choices.values() for gram in grams)
        for pieces, value in patterns:
            gram = min(choices[pieces], key=lambda choice: (shared[choice], choice))
            self._by_gram.setdefault(gram, []).append((pieces, value))
        self._lengths = tuple(sorted({len(gram) for gram in self._by_gram}))

    def matching(self, name: ProjectName) -> list[Value]:
        """Return the values whose pattern matches the name."""
        found = [*self._every, *self._exact.get(name, ())]
        if self._by_gram:
            found += self._by_pattern(name)
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
        if self._by_gram:
            return [name for name in names if self.match(name)]
        return [name for name in names if name in self._exact] if self._exact else []

    def _by_pattern(self, name: str) -> Iterator[Value]:
        for length in self._lengths:
            for gram in {name[at : at + length] for at in range(len(name) - length + 1)}:
                for pieces, value in self._by_gram.get(gram, ()):
                    if _fits(pieces, name):
                        yield value


def _choices(pieces: tuple[str, ...]) -> set[str]:
    """Return the parts of a pattern under which it may be filed. All are in every name that it matches."""
    longest = max(len(piece) for piece in pieces)
    length = min(longest, _GRAM)
    return {piece[at : at + length] for piece in pieces for at in range(len(piece) - length + 1)}


def _fits(pieces: tuple[str, ...], name: str) -> bool:
    """Return whether the name consists of the pieces in their order, with any characters between them."""
    first, *middle, last = pieces
    if len(name) < len(first) + len(last) or not name.startswith(first) or not name.endswith(last):
        return False
    at, end = len(first), len(name) - len(last)
    for piece in middle:
        found = name.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True
