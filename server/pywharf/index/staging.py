"""A file being uploaded: written to disk and hashed as it arrives, so that memory does not grow with it."""

import contextlib
import hashlib
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, ParamSpec, Protocol, Self, TypeVar

from pywharf.core.errors import TooLargeError
from pywharf.core.os_errors import of_upload
from pywharf.index.staging_room import StagingRoom, StagingShare
from pywharf.index.threads import on_storage

_CALL_S = 300.0
"""Seconds for one call; the longest call reads a large file from the disk."""
P = ParamSpec("P")
T = TypeVar("T")
_BUFFER = 1024 * 1024


class _Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...

    def hexdigest(self) -> str: ...


class StagedFile:
    """A temporary file, removed on leaving the context unless a backend has moved it."""

    def __init__(self, folder: Path, max_bytes: int, share: StagingShare | None = None) -> None:
        self.path = folder / f"{uuid.uuid4().hex}.tmp"
        self.size = 0
        self.notes: tuple[str, ...] = ()
        """The checks' remarks on an old sdist that is accepted, a sentence each."""
        self._max_bytes = max_bytes
        self._share = share or StagingRoom().share_of("")
        self._buffer = bytearray()
        self._file: BinaryIO | None = None
        self._hash = hashlib.sha256()
        self._in_use = threading.Lock()
        """A cancelled request leaves its last call running in a thread; the file must not be closed under it."""
        self._left = False

    async def __aenter__(self) -> Self:
        return self  # the file is made when the first bytes are written, which saves a small one a call in a thread

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # In a thread: deleting a large file takes the file system a while.
        try:
            if not self._left:
                await self._call(self.discard)
        finally:
            self._share.close()

    @property
    def is_small(self) -> bool:
        """Whether nothing is written yet: a single call in a thread writes, hashes and checks it."""
        return self._file is None

    def discard(self) -> None:
        """Remove the file now, if nobody has moved it. Blocking; raises nothing."""
        with self._in_use:
            self._left = True
            # The response stays true if this fails; update_index removes the file once it is old.
            with contextlib.suppress(OSError):
                if self._file is not None:
                    self._file.close()
            with contextlib.suppress(OSError):
                self.path.unlink()

    async def write(self, chunk: bytes) -> None:
        """Add bytes. Raises TooLargeError over the limit, BusyError without room, StorageFullError on a full disk."""
        self.size += len(chunk)
        if self.size > self._max_bytes:
            raise TooLargeError(f"The file is over this repo's limit of {self._max_bytes} bytes (max_file_bytes).")
        self._share.take(len(chunk))
        self._buffer += chunk
        if len(self._buffer) >= _BUFFER:
            await self._flush()

    async def finish(self) -> str:
        """Write the rest and return the content's SHA-256 in hex."""
        return await self._call(self.write_rest)

    def write_rest(self) -> str:
        """Write the rest and return the content's SHA-256 in hex. Blocking; raises OSError."""
        self._write(self._buffer)
        self._buffer = bytearray()
        return self._hash.hexdigest()

    def md5(self) -> str:
        """Return the content's MD5 in hex; the legacy upload API may send one. Blocking; raises OSError."""
        return self._digest(hashlib.md5(usedforsecurity=False))

    def blake2_256(self) -> str:
        """Return the content's BLAKE2b of 256 bits in hex, as `md5` does."""
        return self._digest(hashlib.blake2b(digest_size=32))

    def _digest(self, digest: _Digest) -> str:
        with self.path.open("rb") as file:
            while chunk := file.read(_BUFFER):
                digest.update(chunk)
        return digest.hexdigest()

    async def _flush(self) -> None:
        chunk, self._buffer = self._buffer, bytearray()
        await self._call(self._write, chunk)

    def _write(self, chunk: bytearray) -> None:
        with self._in_use:
            if self._left:
                return
            if self._file is None:
                self._file = self.path.open("xb", 0)
            self._hash.update(chunk)
            view = memoryview(chunk)
            while view:
                view = view[self._file.write(view) :]

    async def in_thread(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a call that reads the file in a thread, as long as the file's own calls may take."""
        return await self._call(function, *args, **kwargs)

    @staticmethod
    async def _call(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await on_storage(_CALL_S, function, *args, **kwargs)
        except OSError as error:
            raise of_upload(error) from error
