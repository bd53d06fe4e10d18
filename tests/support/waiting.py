"""Waiting for a condition, never for a fixed time."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
LONGEST_S = 30.0
_MOST_STRETCHED = 8.0


def stretched(seconds: float) -> float:
    """Return a limit that a busy machine meets: `seconds` times the load average for each processor (1 to 8)."""
    waiting = os.getloadavg()[0] / (os.cpu_count() or 1)
    return seconds * min(max(waiting, 1.0), _MOST_STRETCHED)


def wait_for(condition: Callable[[], T], what: str, *, longest_s: float = LONGEST_S) -> T:
    """Poll until the condition is true; returns its result.

    Raises AssertionError (naming `what`) after `longest_s`, or more on a busy machine (`stretched`).
    """
    began = time.monotonic()
    while True:
        found = condition()
        if found:
            return found
        waited = time.monotonic() - began
        assert waited < stretched(longest_s), f"waited {waited:.1f} s for {what}"
        time.sleep(0.02)


async def until(condition: Callable[[], T], what: str = "a condition", *, longest_s: float = LONGEST_S) -> T:
    """Poll like `wait_for`, but on the event loop."""
    began = time.monotonic()
    while True:
        found = condition()
        if found:
            return found
        waited = time.monotonic() - began
        assert waited < stretched(longest_s), f"waited {waited:.1f} s for {what}"
        await asyncio.sleep(0.005)


async def until_true(condition: Callable[[], Awaitable[object]], what: str = "a condition") -> None:
    """Await `condition` again and again until what it returns is true."""
    began = time.monotonic()
    while not await condition():
        waited = time.monotonic() - began
        assert waited < stretched(LONGEST_S), f"waited {waited:.1f} s for {what}"
        await asyncio.sleep(0.02)
