"""Tell the time by the store's clock, which dates its objects; servers' clocks differ from it and from each other."""

import asyncio
import time
import uuid
from collections.abc import Callable

from pywharf.backends.object_store.client import ObjectClient, ObjectMissingError
from pywharf.core.errors import BackendUnavailableError

_MEASURED_S = 3600.0
"""Seconds after which the clock is read again: two that are never set drift apart by less than a second an hour."""


class StoreClock:
    """The clock of one store, read from the date of an object that this process writes."""

    def __init__(self, client: ObjectClient, folder: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._folder = folder
        self._monotonic = monotonic
        self._reading = asyncio.Lock()
        self._offset_s = 0.0
        self._measured_at = float("-inf")

    async def now(self) -> float:
        """Return Unix seconds by the store's clock, never later than it is there, and a few seconds earlier at most."""
        async with self._reading:
            if self._monotonic() - self._measured_at >= _MEASURED_S:
                await self._measure()
        return self._monotonic() + self._offset_s

    async def _measure(self) -> None:
        key = f"{self._folder}/clock-{uuid.uuid4().hex}"
        await self._client.put(key, b"now")
        written_at = self._monotonic()
        try:
            written = (await self._client.head(key)).modified.timestamp()
        except ObjectMissingError as error:
            raise BackendUnavailableError("The store does not find an object that it has just stored.") from error
        finally:
            await self._client.delete([key])
        # The object was dated before `written_at`, so what follows from it is never too late.
        self._offset_s = written - written_at
        self._measured_at = written_at
