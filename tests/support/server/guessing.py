"""A client that sends one wrong secret after the other."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

FREE = 60
"""Wrong secrets of an address at a repo that are answered without a brake."""


def exhaust(guess: Callable[[], int]) -> None:
    """Send so many wrong secrets that the next ones are braked for 10 seconds. `guess` returns the answer's status.

    They are sent concurrently: a braked answer takes a second, and one more is free after each second.
    """
    with ThreadPoolExecutor(15) as pool:
        statuses = list(pool.map(lambda _: guess(), range(FREE + 20)))
    assert set(statuses) == {401, 429}
    assert statuses.count(401) >= FREE
