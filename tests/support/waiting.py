"""Waiting for a condition, never just for a while."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
LONGEST_S = 30.0


def wait_for(condition: Callable[[], T], what: str, *, longest_s: float = LONGEST_S) -> T:
    """Ask until the condition is true, and give what it said. An AssertionError says what did not happen in time."""
    end = time.monotonic() + longest_s
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, f"waited {longest_s} s for {what}"
        time.sleep(0.02)


async def until(condition: Callable[[], T], what: str = "a condition", *, longest_s: float = LONGEST_S) -> T:
    """`wait_for` on the event loop."""
    end = time.monotonic() + longest_s
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, f"waited {longest_s} s for {what}"
        await asyncio.sleep(0.005)
