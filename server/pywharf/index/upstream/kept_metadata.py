"""Core metadata of other indexes' files: fetched, verified and kept by its own digest, and the last of it in memory."""

import asyncio
import contextlib
import hashlib
import logging
import time
import uuid
from pathlib import Path

import msgspec
from cachetools import LRUCache

from pywharf.core.errors import NotFoundError, PywharfError, StorageFullError, UpstreamTimeoutError, WrongContentError
from pywharf.core.filenames import METADATA_SUFFIX
from pywharf.core.metadata import MAX_METADATA_BYTES
from pywharf.core.os_errors import of_storage
from pywharf.index.ports.cache_store import CacheStore
from pywharf.index.ports.packages import Content, LocalContent, StreamContent
from pywharf.index.single_flight import SingleFlight
from pywharf.index.threads import on_storage, within
from pywharf.index.upstream.file_fetching import FileCounts, FileFetcher, counting
from pywharf.index.upstream.leases import lease
from pywharf.index.upstream.wanted_file import WantedFile, seconds_for

_logger = logging.getLogger(__name__)
_MEMORY = 16 * 1024 * 1024
_ENTRY = 512
"""Bytes that an entry takes besides its content."""
_CALL_S = 30.0


class Lately(msgspec.Struct, gc=False):
    """Core metadata in memory."""

    content: bytes
    noted: float
    """Monotonic seconds when its use was last noted in the store."""


class KeptMetadata:
    """The core metadata in one cache."""

    def __init__(self, store: CacheStore, fetcher: FileFetcher, counts: FileCounts) -> None:
        self._store = store
        self._fetcher = fetcher
        self._counts = counts
        self._lately: LRUCache[str, Lately] = LRUCache(_MEMORY, lambda kept: len(kept.content) + _ENTRY)
        self._running = SingleFlight[tuple[str, object], bytes]()

    def lately(self, sha256: str) -> Lately | None:
        """Return metadata that is in memory, or None."""
        return self._lately.get(sha256)

    async def read(self, wanted: WantedFile) -> bytes:
        """Return the verified metadata of the file. Raises NotFoundError, UpstreamError."""
        sha256 = wanted.file.metadata_sha256
        if sha256 is None:
            raise NotFoundError.no_core_metadata(wanted.file.filename)
        if (found := self._lately.get(sha256)) is not None:
            return found.content
        return await self._running.run((sha256, wanted.source), lambda: self._read(wanted, sha256))

    async def keep(self, wanted: WantedFile) -> None:
        """Ensure that the store has the file's metadata. Raises the store's errors too."""
        sha256 = wanted.file.metadata_sha256
        if sha256 is not None and await self._stored(sha256) is None:
            await self._keep(wanted, sha256, await self.read(wanted))

    async def _read(self, wanted: WantedFile, sha256: str) -> bytes:
        content: bytes | None = None
        with contextlib.suppress(PywharfError):
            content = await self._stored(sha256)
        if content is not None:
            self._counts.found(len(content))
            with contextlib.suppress(PywharfError):
                await self._store.note_use(sha256)
        else:
            self._counts.missed()
            # Others need not wait for so little: they fetch it, too.
            async with lease(self._store, sha256):
                content = await self._fetch(wanted, sha256)
                try:
                    await self._keep(wanted, sha256, content)
                except PywharfError as error:
                    self._counts.passed_through("store full" if isinstance(error, StorageFullError) else "store failed")
                    _logger.warning("The cache cannot keep core metadata of %s: %s", wanted.file.filename, error)
        with contextlib.suppress(ValueError):  # it is larger than the memory for it
            self._lately[sha256] = Lately(content, time.monotonic())
        return content

    async def _stored(self, sha256: str) -> bytes | None:
        """Return the store's copy; None if it has none, or a damaged one."""
        async with within(_CALL_S, "The cache's storage"):
            found = await self._store.open(sha256)
            if found is None or found[0] > MAX_METADATA_BYTES:
                return None
            content = await _whole(*found)
        if content is None or hashlib.sha256(content).hexdigest() != sha256:
            await self._store.remove([sha256])
            return None
        return content

    async def _fetch(self, wanted: WantedFile, sha256: str) -> bytes:
        filename = wanted.file.filename + METADATA_SUFFIX
        content = bytearray()
        try:
            with counting(self._counts) as received:
                async with (
                    asyncio.timeout(seconds_for(0)),
                    self._fetcher.fetch(wanted.metadata_url, filename, wanted.source, "metadata") as arriving,
                ):
                    async for chunk in arriving.chunks:
                        content += chunk
                        received.size = len(content)
                        if received.size > MAX_METADATA_BYTES:
                            break
                _check(content, sha256, filename)
        except TimeoutError as error:
            raise UpstreamTimeoutError(f"The upstream index did not send {filename!r} in time.") from error
        return bytes(content)

    async def _keep(self, wanted: WantedFile, sha256: str, content: bytes) -> None:
        path = self._store.spool_folder / f"{uuid.uuid4().hex}.tmp"
        try:
            await on_storage(_CALL_S, path.write_bytes, content)
            async with within(_CALL_S, "The cache's storage"):
                await self._store.keep(sha256, path, wanted.about_metadata)
        except OSError as error:
            raise of_storage(error) from error
        finally:
            with contextlib.suppress(PywharfError, OSError):
                await on_storage(_CALL_S, path.unlink, missing_ok=True)


def _check(content: bytearray, sha256: str, filename: str) -> None:
    if len(content) > MAX_METADATA_BYTES:
        raise WrongContentError(f"{filename!r} of the upstream index is over {MAX_METADATA_BYTES} bytes.")
    if hashlib.sha256(content).hexdigest() != sha256:
        raise WrongContentError(f"The upstream index sent another {filename!r} than its page says: the digest differs.")


async def _whole(size: int, content: Content) -> bytes | None:
    """Return a small file's content; None if it is gone, or its size is not the expected one."""
    match content:
        case LocalContent(path):
            try:
                read = await on_storage(_CALL_S, _read, path, size + 1)
            except FileNotFoundError:
                return None
            except OSError as error:
                raise of_storage(error) from error
        case StreamContent(_, opening) if size > 0:
            read = b"".join([chunk async for chunk in opening(0, size - 1)])
        case _:
            return None
    return read if len(read) == size else None


def _read(path: Path, most: int) -> bytes:
    with path.open("rb") as file:
        return file.read(most)
