"""Locks of the cache's store that one replica holds while it fetches a file, and renews until it ends or dies."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Literal, Protocol

from pywharf.core.errors import PywharfError
from pywharf.index.threads import within

_logger = logging.getLogger(__name__)
LEASE_S = 60.0
"""Seconds after which others may take the lock of a replica that was killed."""
_RENEWED_S = 20.0
_CALL_S = 5.0

Taken = Literal["taken", "held by another", "store failed"]


class Locks(Protocol):
    """The part of a CacheStore that is needed here."""

    async def lock(self, name: str, seconds: float) -> bool:
        """See CacheStore."""

    async def extend(self, name: str, seconds: float) -> bool:
        """See CacheStore."""

    async def unlock(self, name: str) -> None:
        """See CacheStore."""


@contextlib.asynccontextmanager
async def lease(store: Locks, name: str) -> AsyncIterator[Taken]:
    """Take the lock, and extend it within the context if that succeeded."""
    taken = await _take(store, name)
    if taken != "taken":
        yield taken
        return
    renewing = asyncio.create_task(_renew(store, name))
    try:
        yield taken
    finally:
        renewing.cancel()
        await asyncio.wait([renewing])
        await _release(store, name)


async def _take(store: Locks, name: str) -> Taken:
    try:
        async with within(_CALL_S):
            return "taken" if await store.lock(name, LEASE_S) else "held by another"
    except PywharfError as error:
        _logger.debug("A file of another index is fetched without a lock: %s", error)
        return "store failed"


async def _renew(store: Locks, name: str) -> None:
    while True:
        await asyncio.sleep(_RENEWED_S)
        try:
            async with within(_CALL_S):
                is_held = await store.extend(name, LEASE_S)
        except PywharfError as error:
            _logger.debug("A lock of the cache is not extended: %s", error)
            continue
        if not is_held:  # this process was stopped for longer than the lock lasts; another may have it now
            await _take(store, name)


async def _release(store: Locks, name: str) -> None:
    """Release the lock; where that fails, it ends by itself."""
    with contextlib.suppress(PywharfError):
        async with within(_CALL_S):
            await store.unlock(name)
