"""Patterns of claims: `*` stands for any characters, also none, but never for a `/`. They are compiled once."""

import re
from typing import Final

from pywharf.core.star_pieces import fits_pieces

MAX_STARS: Final = 8
"""Most `*` of a pattern."""
MAX_LENGTH: Final = 512
"""Characters of a pattern, and of a text that may fit one."""
_STARS: Final = re.compile(r"\*+")


class ClaimPattern:
    """A compiled pattern. What a comparison costs is bounded by MAX_STARS and MAX_LENGTH, whatever the text is."""

    __slots__ = ("_bound", "_pattern", "_segments")

    def __init__(self, pattern: str) -> None:
        self._pattern = _STARS.sub("*", pattern)
        self._segments = self._pattern.split("/")
        self._bound = [(at, one.split("*")) for at, one in enumerate(self._segments) if "*" in one]
        """The segments that have a `*`, each as what stands between them."""

    def fits(self, text: str) -> bool:
        """Return whether a text fits. None with more than MAX_LENGTH characters does."""
        if not self._bound:
            return text == self._pattern
        if len(text) > MAX_LENGTH:
            return False
        parts = text.split("/")
        if len(parts) != len(self._segments):
            return False
        found = [(pieces, parts[at]) for at, pieces in self._bound]
        for at, _ in self._bound:
            parts[at] = self._segments[at]
        return parts == self._segments and all(fits_pieces(pieces, part) for pieces, part in found)
