"""Compare texts with what stands between the `*` of a pattern."""

from collections.abc import Sequence


def fits_pieces(pieces: Sequence[str], text: str) -> bool:
    """Return whether the text consists of the pieces in their order, with any characters between them.

    There are at least two pieces. One pass without going back: the time is bounded whatever the pattern and the text.
    """
    first, *middle, last = pieces
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    at, end = len(first), len(text) - len(last)
    for piece in middle:
        found = text.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True
