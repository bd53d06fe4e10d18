"""Put a file from this machine's disk into the bucket under a key that has no object yet.

A small file is one request, from memory. A large one goes in parts to a key of its own, and is copied from there, so
that nobody ever reads half of it, and of concurrent calls one wins.
"""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

from pywharf.backends.object_store.client import ObjectClient
from pywharf.core.errors import BackendUnavailableError
from pywharf.index.threads import on_storage

SMALL_BYTES = 8 * 1024 * 1024
"""Bytes of a file that is written with one request, from memory."""
_READ_S = 300.0
_CONCURRENT_SMALL = 4
_CONCURRENT_LARGE = 2
"""Large files that are sent concurrently; each takes a few parts of memory."""


class FileUploads:
    """The uploads of one process to one bucket. `folder` is that of uploads in progress."""

    def __init__(self, client: ObjectClient, folder: str) -> None:
        self._client = client
        self._folder = folder
        self._in_memory = asyncio.Semaphore(_CONCURRENT_SMALL)
        self._large = asyncio.Semaphore(_CONCURRENT_LARGE)

    @contextlib.asynccontextmanager
    async def staged(self, path: Path, size: int) -> AsyncIterator[str | None]:
        """Put a large file into the bucket under a key of its own; yield the key. A small file needs none."""
        if size <= SMALL_BYTES:
            yield None
            return
        key = f"{self._folder}/{uuid.uuid4().hex}"
        try:
            async with self._large:
                await self._client.upload(key, path)
            yield key
        finally:
            # Otherwise it is removed with other leftovers after a day.
            with contextlib.suppress(BackendUnavailableError):
                await self._client.delete([key])

    async def create(self, key: str, path: Path, staged: str | None) -> None:
        """Create the object, from its staged copy if there is one. Raises ObjectExistsError: see `ObjectClient`."""
        if staged is not None:
            await self._client.copy_new(staged, key)
            return
        async with self._in_memory:
            await self._client.create(key, await on_storage(_READ_S, path.read_bytes))
