"""The port for what packages are copied from: a repo, a folder of distributions, or another index."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec

from pywharf.core.model import File, Project
from pywharf.core.names import ProjectName
from pywharf.index.ports import Progress


class SourceProject(msgspec.Struct, frozen=True):
    """One project of a source, and what of it cannot be copied."""

    project: Project | None
    """Its files as the source describes them. An unknown digest is ""; an unknown size or time is None."""
    problems: tuple[str, ...] = ()
    """What cannot be copied and why, a sentence each."""
    deleted: tuple[str, ...] = ()
    """The names of deleted files that stay taken."""
    ignored: int = 0
    """The number of files that are no distributions, such as signatures and installers."""


class Opened(msgspec.Struct, frozen=True):
    """A file's content on its way from the source."""

    chunks: AsyncIterator[bytes]
    modified: float | None = None
    """When the content was last modified, in Unix seconds, if the source says so."""


class Source(Protocol):
    """Where packages are copied from. Every method may raise UnavailableError and UpstreamError."""

    @property
    def is_repo(self) -> bool:
        """Return whether this is a repo of pywharf.

        Returns:
            True if records and state are complete and are copied unchanged. Otherwise a record is made from the
            content, and a file or project of which the source says nothing special keeps the state that the target has.
        """

    @property
    def is_local(self) -> bool:
        """Return whether the files lie on this machine, so that no digest is needed to trust their transfer.

        Returns:
            False for every other source: a file without a digest is then counted as unverified.
        """

    def scan(self, progress: Progress) -> AsyncIterator[SourceProject]:
        """Read what the source holds.

        Parameters:
            progress: A function to call with the number of files so far and the name of what is read.

        Returns:
            Each project once, in any order; projects of None carry problems that belong to no project.
        """

    async def sha256(self, project: ProjectName, file: File) -> str:
        """Return the digest of a file that `scan` described without one, if it can be known without a download.

        Parameters:
            project: The file's project.
            file: A file of `scan`.

        Returns:
            The SHA-256 in hex; "" if it cannot be known.
        """

    def open(self, project: ProjectName, file: File) -> AbstractAsyncContextManager[Opened]:
        """Open a file's content.

        Parameters:
            project: The file's project.
            file: A file of `scan`.

        Returns:
            A context with the content. It may be longer or shorter than described, or another one.

        Raises:
            NotFoundError: The source no longer holds the file.
        """

    async def metadata(self, project: ProjectName, file: File) -> bytes:
        """Read the core metadata that a repo has beside a file; called only if `is_repo`.

        Parameters:
            project: The file's project.
            file: A file of `scan` with a `metadata_sha256`.

        Raises:
            NotFoundError: The source has none.
        """

    async def aclose(self) -> None:
        """Release the source's resources."""
