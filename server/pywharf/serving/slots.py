"""Slots for work that clients keep going, such as uploads: a bounded number, which no single holder can use up."""

import contextlib
from collections import Counter
from collections.abc import Iterator

from pywharf.core.errors import BusyError


class Slots:
    """A bounded number of slots. A holder gets another one only while it holds fewer than are free.

    So one holder alone has at most half of them, and one slot is left for a holder that has none.
    """

    def __init__(self, count: int, what: str) -> None:
        self._free = self._count = count
        self._what = what
        self._held: Counter[str] = Counter()

    @contextlib.contextmanager
    def one(self, holder: str) -> Iterator[None]:
        """Hold a slot within the context. Raises BusyError if there is none for this holder."""
        if self._held[holder] >= self._free:
            held = self._held[holder]
            raise BusyError(
                f"{self._count - self._free} of at most {self._count} {self._what} are under way, {held} of them "
                "yours; try again in some seconds."
            )
        self._free -= 1
        self._held[holder] += 1
        try:
            yield
        finally:
            self._free += 1
            self._held[holder] -= 1
            if not self._held[holder]:
                del self._held[holder]
