"""The room on disk for files that are being fetched: bounded, and never more than the disk has free."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

from pywharf.core.errors import PywharfError, StorageFullError
from pywharf.core.os_errors import of_storage
from pywharf.index.threads import on_storage

_CALL_S = 10.0
_SPARE = 64 * 1024 * 1024
"""Bytes of the disk that are left to others."""
_MOST_FILES = 256
"""Files that are being fetched or moved into the store."""
_WAIT_S = 20.0
"""Seconds to wait until there are fewer: small files come faster than a store syncs them."""


class SpoolRoom:
    """The bytes that all files being fetched may take."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._taken = 0
        self._unwritten = 0
        self._files = asyncio.Semaphore(_MOST_FILES)

    @contextlib.asynccontextmanager
    async def share(self, folder: Path, size: int | None) -> AsyncIterator["SpoolShare"]:
        """Hold room for a file of that size within the context; without a size it is taken as bytes come.

        Raises StorageFullError if there is none now, BackendUnavailableError if the disk does not answer.
        """
        wanted = size or 0
        if wanted > self._most_bytes - self._taken:
            raise no_room()
        try:
            async with asyncio.timeout(_WAIT_S):
                await self._files.acquire()
        except TimeoutError:
            raise no_room() from None
        share = SpoolShare(self, folder)
        try:
            await share.announce(wanted)
            yield share
        finally:
            self._files.release()
            self._taken -= share.held
            self._unwritten -= share.unwritten

    async def expect(self, folder: Path, count: int) -> None:
        """Note that so many bytes that were taken are to come. Raises StorageFullError if the disk has no room."""
        self._unwritten += count
        if await _free(folder) < self._unwritten + _SPARE:
            raise no_room()

    def take(self, count: int) -> None:
        """Take bytes that were not announced. Raises StorageFullError."""
        if count > self._most_bytes - self._taken:
            raise no_room()
        self._taken += count

    def wrote(self, count: int) -> None:
        """Note that so many of the announced bytes are on the disk."""
        self._unwritten -= count


class SpoolShare:
    """The room that one file holds."""

    def __init__(self, room: SpoolRoom, folder: Path) -> None:
        self._room = room
        self._folder = folder
        self.held = self.unwritten = 0

    async def announce(self, count: int) -> None:
        """Take bytes that are to come, before they do. Raises StorageFullError, BackendUnavailableError."""
        self._room.take(count)
        self.held += count
        self.unwritten += count
        await self._room.expect(self._folder, count)

    def take(self, count: int) -> None:
        """Take bytes that are about to be written. Raises StorageFullError."""
        announced = min(count, self.unwritten)
        if count > announced:
            self._room.take(count - announced)
            self.held += count - announced
        self._room.wrote(announced)
        self.unwritten -= announced


def no_room() -> PywharfError:
    """Return the error for a file that cannot be spooled now."""
    return StorageFullError("The server has no room to fetch this file into its cache now; try again later.")


async def _free(folder: Path) -> int:
    try:
        return (await on_storage(_CALL_S, shutil.disk_usage, folder)).free
    except OSError as error:
        raise of_storage(error) from error
