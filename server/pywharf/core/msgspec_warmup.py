"""Prepare struct types for msgspec before threads use them.

msgspec's first inspection of a struct type is not thread-safe: two concurrent inspections end the whole process with a
segmentation fault (seen with 0.22.0). So each decoded type is inspected when its module is imported, or under a lock.
"""

import threading
from typing import TypeVar

import msgspec

K = TypeVar("K", bound=type[msgspec.Struct])

_lock = threading.Lock()
_known: set[type[msgspec.Struct]] = set()


def warmed_up(kind: K) -> K:
    """Have msgspec inspect a struct type and the types of its fields once. Returns it, so it can decorate a class."""
    if kind not in _known:
        with _lock:
            msgspec.json.Decoder(kind)
            _known.add(kind)
    return kind
