"""Struct types that msgspec has looked at before threads use them.

Its first look at a struct type is not safe among threads: two at once end the whole process with a segmentation fault
(seen with 0.22.0). So each type that is decoded is looked at when its module is imported, or under a lock.
"""

import threading
from typing import TypeVar

import msgspec

K = TypeVar("K", bound=type[msgspec.Struct])

_lock = threading.Lock()
_known: set[type[msgspec.Struct]] = set()


def decodable(kind: K) -> K:
    """Have msgspec look at a struct type and those in its fields, once; gives it back, so it can decorate a class."""
    if kind not in _known:
        with _lock:
            msgspec.json.Decoder(kind)
            _known.add(kind)
    return kind
