"""Count what code does: bounds of its work hold on every machine, those of its time do not."""

import sys
from collections.abc import Callable
from types import FrameType


def calls(run: Callable[[], object]) -> int:
    """Return how many functions are called while `run` runs, those written in C included."""
    count = 0

    def note(frame: FrameType, event: str, arg: object) -> None:
        del frame, arg
        nonlocal count
        count += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(before)
    return count
