"""PURE. The wait before a watch is started again."""

import random
from typing import Final

_FIRST_S: Final = 0.5
_LONGEST_S: Final = 10.0


def backoff_s(failures: int) -> float:
    """Return the seconds to wait after this many failures in a row, with jitter."""
    longest = min(_FIRST_S * 2.0 ** min(failures - 1, 30), _LONGEST_S)
    return longest * (0.75 + random.random() / 4)  # noqa: S311 - it spreads load
