"""The wait before a retry: it doubles with each failure up to a limit, and a random part of it spreads the load."""

import random
from collections.abc import Callable

_MAX_DOUBLINGS = 64
"""Doublings after which every limit is reached; many more would overflow a float."""


def backoff_s(
    attempt: int,
    *,
    first_s: float,
    longest_s: float,
    jitter: float = 0.0,
    chance: Callable[[], float] = random.random,
) -> float:
    """Return the seconds to wait after the failed attempt number `attempt`, counted from 0.

    `jitter` is the part of the wait that is random, from 0 (none) to 1 (all): the wait is never longer than without it.
    `chance` returns random numbers from 0 to 1.
    """
    whole_s = min(first_s * 2.0 ** min(attempt, _MAX_DOUBLINGS), longest_s)
    return whole_s * (1 - jitter * (1 - chance())) if jitter else whole_s
