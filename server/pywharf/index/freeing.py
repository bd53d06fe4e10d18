"""Free a large dict without holding up the event loop: freeing hundreds of thousands of keys together takes a while.

Python frees an object in the thread that drops its last reference, and no other thread runs meanwhile.
"""

import contextlib
import sys
import threading
import time
from typing import Any

_MANY = 10_000
"""Entries up to which a dict is freed together; that takes about a millisecond."""
_SLICE = 1_000
"""Entries that are freed before other threads may run."""


def free_slowly(entries: dict[Any, Any]) -> None:
    """Free a dict that nothing else uses, in a thread of its own if it is large."""
    if len(entries) > _MANY and not sys.is_finalizing():  # then a thread would never start
        with contextlib.suppress(RuntimeError):  # the interpreter ends, and starts no thread
            threading.Thread(target=_free, args=(entries,), name="pywharf-freeing", daemon=True).start()


def _free(entries: dict[Any, Any]) -> None:
    while entries:
        for _ in range(min(_SLICE, len(entries))):
            entries.popitem()
        time.sleep(0)
