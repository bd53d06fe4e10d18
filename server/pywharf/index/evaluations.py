"""Evaluate policies in a few threads of their own, if that takes long.

Then one tenant's policies hold up neither the event loop nor what else of the server runs in threads.
"""

import asyncio
import concurrent.futures
from collections.abc import Callable, Mapping
from typing import ParamSpec, TypeVar

import msgspec
from cachetools import LRUCache

from pywharf.core.names import ProjectName
from pywharf.core.policy.evaluation import Withheld
from pywharf.index.fair_slots import FairSlots

P = ParamSpec("P")
T = TypeVar("T")

_THREADS = 3
"""Threads, of which one repo takes two at most: newer policies need not wait for older ones."""
_MAX_FILES = 50_000
"""Files whose checks are kept, about 200 bytes each."""


class _Pool:
    threads: concurrent.futures.ThreadPoolExecutor | None = None


class CheckedFiles(msgspec.Struct, frozen=True):
    """What policies make of files, from the Unix seconds `since` until just before `until`."""

    withheld: Mapping[tuple[str, str], Withheld | None]
    """By name and digest."""
    since: float
    until: float


class SharedEvaluations:
    """What all repos of a worker share of their evaluations."""

    def __init__(self) -> None:
        self.slots = FairSlots(_THREADS)
        """Slots of the threads."""
        self.by_project: LRUCache[tuple[str, ProjectName, bool], CheckedFiles] = LRUCache(
            _MAX_FILES, lambda kept: len(kept.withheld)
        )
        """What was found lately about the files of projects with many rules. The key names an enforcement by its
        `pages`, and says whether the files are another index's."""


async def in_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a call in one of the threads."""
    if _Pool.threads is None:
        _Pool.threads = concurrent.futures.ThreadPoolExecutor(_THREADS, "pywharf-policies")
    return await asyncio.wrap_future(_Pool.threads.submit(function, *args, **kwargs))


def close() -> None:
    """Start no further calls; running ones are left to finish."""
    if _Pool.threads is not None:
        _Pool.threads.shutdown(wait=False, cancel_futures=True)
        _Pool.threads = None
