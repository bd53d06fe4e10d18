"""A file that is being fetched: one task writes and hashes it on disk, any number of clients read it as it grows."""

import asyncio
import contextlib
import hashlib
import threading
import uuid
from pathlib import Path
from typing import BinaryIO, Self

from pywharf.core.errors import PywharfError, WrongContentError
from pywharf.core.os_errors import of_storage
from pywharf.index.threads import on_storage

_CALL_S = 60.0
WITHHELD = 64 * 1024
"""Bytes at the end of every response that wait until the whole file is verified."""


class Spool:
    """A growing file. `create` it, `write` to it, then either `complete` or `fail` it; `remove` it in any case."""

    def __init__(self, path: Path, file: BinaryIO, size: int | None) -> None:
        self.path = path
        self.size = size
        """The announced size; after `complete` the real one."""
        self.written = 0
        self._file = file
        self._hash = hashlib.sha256()
        self._in_use = threading.Lock()
        """A cancelled task leaves its last call running in a thread; the file must not be closed under it."""
        self._is_complete = False
        self._failure: PywharfError | None = None
        self._changed = asyncio.Event()

    @classmethod
    async def create(cls, folder: Path, size: int | None) -> Self:
        """Create an empty file. Raises StorageFullError, BackendUnavailableError."""
        path = folder / f"{uuid.uuid4().hex}.tmp"
        try:
            return cls(path, await on_storage(_CALL_S, path.open, "xb", 0), size)
        except OSError as error:
            raise of_storage(error) from error

    async def write(self, chunk: bytes) -> None:
        """Add bytes. Raises WrongContentError past the announced size, StorageFullError, BackendUnavailableError."""
        if self.size is not None and self.written + len(chunk) > self.size:
            raise WrongContentError(f"The upstream index sends more than the {self.size} bytes that it announced.")
        try:
            await on_storage(_CALL_S, self._write, chunk)
        except OSError as error:
            raise of_storage(error) from error
        self.written += len(chunk)
        self._notify()

    def complete(self, sha256: str) -> str:
        """Verify the content and let clients have its end; returns its digest. An empty `sha256` fits any content.

        Raises WrongContentError if the size or the digest differs.
        """
        if self.size is not None and self.written != self.size:
            raise WrongContentError(
                f"The upstream index sent {self.written} of the {self.size} bytes that it announced."
            )
        digest = self._hash.hexdigest()
        if sha256 and digest != sha256:
            raise WrongContentError("The upstream index sent other content than its page says: the digest differs.")
        self.size = self.written
        self._is_complete = True
        self._notify()
        return digest

    def fail(self, error: PywharfError) -> None:
        """Let every reader fail with this error, unless the content is complete."""
        if not self._is_complete and self._failure is None:
            self._failure = error.with_traceback(None)  # its frames hold bytes that arrived
            self._notify()

    async def ready(self, position: int, end: int | None) -> int:
        """Wait for bytes from `position` on. See `GrowingContent.ready`."""
        while (limit := self._limit(end)) <= position:
            if self._is_complete:
                return position
            if self._failure is not None:
                raise self._failure
            await self._changed.wait()
        return limit

    def open(self) -> BinaryIO:
        """Open the file to read. Blocking; raises FileNotFoundError once it is kept or removed."""
        return self.path.open("rb", 0)

    async def remove(self) -> None:
        """Close the file, and remove it if the store has not moved it. Readers go on."""
        await on_storage(_CALL_S, self._remove)

    def _limit(self, end: int | None) -> int:
        if self._is_complete:
            return self.written if end is None else min(self.written, end)
        shown = self.written if self.size is None else self.size
        last = shown if end is None else min(end, shown)
        return min(self.written, last - WITHHELD)

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _write(self, chunk: bytes) -> None:
        with self._in_use:
            if self._file.closed:
                return
            self._hash.update(chunk)
            view = memoryview(chunk)
            while view:
                view = view[self._file.write(view) :]

    def _remove(self) -> None:
        with self._in_use:
            self._file.close()
            with contextlib.suppress(OSError):  # the store removes what is left when it is next opened
                self.path.unlink(missing_ok=True)
