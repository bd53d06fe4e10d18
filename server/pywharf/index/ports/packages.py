"""The port for a repo's packages: its files with their records, found, published and read."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import BinaryIO, Protocol

import msgspec

from pywharf.core.model import File, Project
from pywharf.core.names import ProjectName
from pywharf.index.ports.index_store import JournalEntry


class Upload(msgspec.Struct, frozen=True):
    """A checked file, staged on disk, to be published."""

    project: ProjectName
    file: File
    staged: Path
    """A path in the backend's `staging_folder`. The backend may move the file; the caller removes one still there."""
    metadata: bytes
    """Raw core metadata, served as `<file>.metadata` when `file.metadata_sha256` is set."""
    secret: str | None = None
    """The client's own secret, if the storage itself let the client in (Authority)."""
    known: Project | None = None
    """The project in index and journal, as far as the server knows."""
    discard_staged: Callable[[], None] | None = None
    """Removes the staged file, if the caller lets the backend do so. Blocking. A backend that has published the file
    may call it in a thread of its own, which saves the caller a call in a thread."""

    def is_shown(self, sha256: str) -> bool:
        """Return whether index or journal have the file with this digest, so that pages show it."""
        known = self.known.file(self.file.filename) if self.known is not None else None
        return known is not None and known.sha256 == sha256

    def __repr__(self) -> str:
        """Return a text without the secret."""
        return f"Upload({self.file.filename})"


class SetYanked(msgspec.Struct, frozen=True):
    """Yank a file, or unyank it (PEP 592). Installers take a yanked file only if its version is pinned."""

    filename: str
    reason: str | None
    """The reason, possibly empty; None unyanks the file."""


class Delete(msgspec.Struct, frozen=True):
    """Delete a file: its content, its core metadata and its record."""

    filename: str
    frees_name: bool = False
    """Whether the name may be published again. Otherwise it stays taken, as on PyPI."""


class SetStatus(msgspec.Struct, frozen=True):
    """Set a project's status (PEP 792)."""

    status: str
    reason: str | None = None


class Reserve(msgspec.Struct, frozen=True):
    """Keep a name taken that the storage does not have, as if its file had been deleted. A freed name is taken again.

    A copy brings such names over. Pages do not change, so the journal gets no entry.
    """

    filename: str


Action = SetYanked | Delete | SetStatus | Reserve


class Change(msgspec.Struct, frozen=True):
    """A change of something that is already published."""

    project: ProjectName
    action: Action
    secret: str | None = None
    """The client's own secret, if the storage itself let the client in (Authority)."""
    known: Project | None = None
    """The project in index and journal, as far as the caller knows."""

    def known_file(self, filename: str) -> File | None:
        """Return the caller's record of a file, or None."""
        return self.known.file(filename) if self.known is not None else None

    def __repr__(self) -> str:
        """Return a text without the secret."""
        return f"Change({self.project}, {self.action})"


class LocalContent(msgspec.Struct, frozen=True):
    """Content in a file of this machine."""

    path: Path
    check: Callable[[BinaryIO], None] | None = None
    """A blocking function that checks the open file against its record. Raises BackendUnavailableError."""


class RedirectContent(msgspec.Struct, frozen=True):
    """Content that the client fetches itself from a short-lived URL, which holds no secret of the server."""

    url: str


class StreamContent(msgspec.Struct, frozen=True):
    """Content that the server passes on: `open` yields the bytes from the first to the last position, inclusive."""

    size: int
    open: Callable[[int, int], AsyncIterator[bytes]]


Content = LocalContent | RedirectContent | StreamContent

Progress = Callable[[int, str], None]
"""A function called with the number of files scanned so far and what is being read."""


class ScannedProject(msgspec.Struct, frozen=True):
    """One project of a full scan, and what could not be indexed, a sentence each."""

    project: Project | None
    """None: the problems do not belong to a project."""
    problems: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    """The names of deleted files that stay taken. A project with none but those keeps its name, too."""
    duplicates: tuple[tuple[str, ...], ...] | None = None
    """The groups of its files that mean the same distribution, for a backend that remembers them; None: not known."""


class Packages(Protocol):
    """A repo's files, with their records and their core metadata.

    Every method may raise BackendUnavailableError; every write may raise StorageFullError. No method blocks the event
    loop. What changes a file or a project after it was published belongs to this port, beside `publish`.
    """

    @property
    def staging_folder(self) -> Path:
        """Return a folder for uploads in progress, from which publishing is cheap.

        Returns:
            A path on this machine's disk. The folder exists after any other call of the backend.
        """

    def scan(self, progress: Progress) -> AsyncIterator[ScannedProject]:
        """Read the whole storage. Files that lack a record (hash, size …) get one.

        Parameters:
            progress: A function to call before each project with the number of files so far and the project's name. It
                may be called in a thread.

        Returns:
            The projects, sorted by name, with every file that was published before the call. A file that cannot be
            indexed is left out and reported as a problem.
        """

    async def find_project(self, name: ProjectName, only: str | None = None) -> Project | None:
        """Look up a project in the storage itself, without the index.

        Parameters:
            name: The project's name.
            only: The name of the one file that is needed, so that the others may be left out. It may be any text.

        Returns:
            The project with its files; None if the storage holds no file of it, no deleted name and no status.
        """

    async def publish(self, upload: Upload) -> File:
        """Store a file durably and add it to the journal.

        If the same bytes are already stored under the same name, complete what a killed upload left out (a record, the
        core metadata, the journal's entry). If uploads run concurrently, in any spelling and through any number of
        servers, one wins.

        Parameters:
            upload: The checked file, in the `staging_folder`.

        Returns:
            The record that the storage has of the file: an earlier one, if the same bytes were there.

        Raises:
            FileExistsInRepoError: Other bytes have the name, another name means the same distribution
                (`pywharf.core.duplicates`), or the name was deleted. Nothing was changed.
        """

    async def change(self, change: Change) -> JournalEntry:
        """Change a published file or a project durably, and add the change to the journal.

        The new record has the next revision. A change that is already in the storage gets no new revision; if a killed
        change was not journaled, that is completed. Changes of one file through any number of servers happen one after
        the other. A deletion removes content and metadata last, so that a crash never leaves a record without them.

        Parameters:
            change: What to change, and of which project.

        Returns:
            The entry that is in the journal: the file's new record, its deletion, or the project's status. That of a
            reserved name is its deletion, and need not be in the journal.

        Raises:
            NotFoundError: The storage does not hold the file, or no file, deleted name or status of the project.
            FileExistsInRepoError: A name to reserve is that of a file, in any spelling.
        """

    async def open_file(self, project: ProjectName, file: File) -> Content:
        """Open a file's content.

        Parameters:
            project: The file's project.
            file: A record from the index, the journal or `find_project`. Its name may be any text.

        Returns:
            Content of one of three kinds: a local file, a redirect or a stream.

        Raises:
            NotFoundError: The storage does not hold the file. A missing LocalContent may show only when it is opened.
        """

    async def read_metadata(self, project: ProjectName, file: File) -> bytes:
        """Read a file's raw core metadata.

        Parameters:
            project: The file's project.
            file: A record, as for `open_file`.

        Returns:
            The bytes that were published with it.

        Raises:
            NotFoundError: The storage does not hold the file, or no metadata of it.
        """
