"""A file that is being fetched: one task writes and hashes it on disk, any number of clients read it as it grows."""

import asyncio
import contextlib
import hashlib
import threading
import uuid
from pathlib import Path
from typing import BinaryIO

from pywharf.core.errors import PywharfError, WrongContentError
from pywharf.core.os_errors import of_storage, translating
from pywharf.index.threads import on_storage, submit

_CALL_S = 60.0
WITHHELD = 64 * 1024
"""Bytes at the end of every response that wait until the whole file is verified."""


class Spool:
    """A growing file. `create` it, `write` to it, then either `complete` or `fail` it; `remove` it in any case."""

    def __init__(self, folder: Path, size: int | None) -> None:
        self.path = folder / f"{uuid.uuid4().hex}.tmp"
        self.size = size
        """The announced size; after `complete` the real one."""
        self.written = 0
        self._file: BinaryIO | None = None
        self._left = False
        self._hash = hashlib.sha256()
        self._in_use = threading.Lock()
        """A cancelled task leaves its last call running in a thread; the file must not be closed under it."""
        self._is_complete = False
        self._failure: PywharfError | None = None
        self._changed = asyncio.Event()
        self._opening = 0

    async def create(self) -> None:
        """Create the empty file. Raises StorageFullError, BackendUnavailableError."""
        with translating(of_storage):
            await on_storage(_CALL_S, self._create)

    async def write(self, chunk: bytes) -> None:
        """Add bytes. Raises WrongContentError past the announced size, StorageFullError, BackendUnavailableError."""
        if self.size is not None and self.written + len(chunk) > self.size:
            raise WrongContentError(f"The upstream index sends more than the {self.size} bytes that it announced.")
        with translating(of_storage):
            await on_storage(_CALL_S, self._write, chunk)
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

    @property
    def failure(self) -> PywharfError | None:
        """Return why the content does not arrive; None if it does."""
        return self._failure

    async def open(self) -> BinaryIO:
        """Open the file to read. Raises FileNotFoundError once it is kept or removed, BackendUnavailableError."""
        self._opening += 1
        try:
            return await on_storage(_CALL_S, self.path.open, "rb", 0)
        finally:
            self._opening -= 1
            self._notify()

    async def remove(self) -> None:
        """Close the file, and remove it if the store has not moved it. Readers that have opened it go on."""
        while self._opening:
            await self._changed.wait()
        # A cancelled caller must not take the call out of the queue.
        await asyncio.shield(asyncio.wrap_future(submit(self._remove)))

    def _limit(self, end: int | None) -> int:
        if self._is_complete:
            return self.written if end is None else min(self.written, end)
        shown = self.written if self.size is None else self.size
        last = shown if end is None else min(end, shown)
        return min(self.written, last - WITHHELD)

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _create(self) -> None:
        with self._in_use:
            if not self._left:
                self._file = self.path.open("xb", 0)

    def _write(self, chunk: bytes) -> None:
        with self._in_use:
            if self._file is None or self._left:
                return
            self._hash.update(chunk)
            view = memoryview(chunk)
            while view:
                view = view[self._file.write(view) :]

    def _remove(self) -> None:
        with self._in_use:
            self._left = True
            if self._file is not None:
                self._file.close()
            with contextlib.suppress(OSError):  # the store removes what is left when it is next opened
                self.path.unlink(missing_ok=True)
