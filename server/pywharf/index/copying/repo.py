"""Copy from a repo, through its backend."""

import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import BinaryIO, Protocol

from pywharf.core.errors import BackendUnavailableError
from pywharf.core.model import File
from pywharf.core.names import ProjectName
from pywharf.core.os_errors import of_opening
from pywharf.index.copying.source import Opened, SourceProject
from pywharf.index.ports import Backend, Content, LocalContent, Progress, RedirectContent, StreamContent
from pywharf.index.threads import on_storage

_CHUNK = 1024 * 1024
_CALL_S = 300.0
"""Seconds for a call that may read a large file to check it."""


class Downloads(Protocol):
    """An HTTP client for files whose content a backend only redirects to."""

    def download(self, url: str) -> AbstractAsyncContextManager[Opened]:
        """Open the content at a URL. Raises NotFoundError, UpstreamError, UnavailableError."""

    async def aclose(self) -> None:
        """Close the connections."""


class RepoSource:
    """A repo's backend as a source."""

    is_repo = True
    is_local = False

    def __init__(self, backend: Backend, downloads: Downloads) -> None:
        self._backend = backend
        self._downloads = downloads

    async def scan(self, progress: Progress) -> AsyncIterator[SourceProject]:
        async for found in self._backend.scan(progress):
            yield SourceProject(found.project, found.problems, found.deleted)

    async def sha256(self, project: ProjectName, file: File) -> str:
        del project
        return file.sha256

    @contextlib.asynccontextmanager
    async def open(self, project: ProjectName, file: File) -> AsyncIterator[Opened]:
        content = await self._backend.open_file(project, file)
        if isinstance(content, RedirectContent):
            async with self._downloads.download(content.url) as opened:
                yield opened
            return
        async with contextlib.aclosing(_chunks(content, file)) as chunks:
            yield Opened(chunks)

    async def metadata(self, project: ProjectName, file: File) -> bytes:
        return await self._backend.read_metadata(project, file)

    async def aclose(self) -> None:
        await self._downloads.aclose()
        await self._backend.aclose()


async def _chunks(content: Content, file: File) -> AsyncGenerator[bytes, None]:
    match content:
        case LocalContent():
            async for chunk in local_chunks(content, file.filename):
                yield chunk
        case StreamContent(size, opening) if size > 0:
            async for chunk in opening(0, size - 1):
                yield chunk


async def local_chunks(content: LocalContent, filename: str) -> AsyncGenerator[bytes, None]:
    """Yield the content of a file of this machine, read in threads. Raises NotFoundError, BackendUnavailableError."""

    def opened() -> BinaryIO:
        try:
            # A pipe or device in the folder would block until it has a writer.
            file = os.fdopen(os.open(content.path, os.O_RDONLY | os.O_NONBLOCK), "rb")
        except OSError as error:
            raise of_opening(error, filename) from error
        try:
            if content.check is not None:
                content.check(file)
        except BaseException:
            file.close()
            raise
        return file

    def read() -> bytes:
        try:
            return file.read(_CHUNK)
        except OSError as error:
            raise BackendUnavailableError(f"The file {filename!r} cannot be read now: {error.strerror}.") from error

    file = await on_storage(_CALL_S, opened)
    try:
        while chunk := await on_storage(_CALL_S, read):
            yield chunk
    finally:
        file.close()
