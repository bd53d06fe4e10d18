"""The port for a repo's index file and its journal, which together say what a repo holds without a scan."""

import enum
from typing import Protocol

import msgspec

from pywharf.core.model import Deletion, File, ProjectStatus
from pywharf.core.names import ProjectName


class StoredIndex(msgspec.Struct, frozen=True):
    """An index file as it lies in the storage."""

    filename: str
    """The extension selects the codec."""
    content: bytes
    """Empty if the file is larger than an index of its codec may be (`pywharf.index.limits`)."""
    version: str
    """Changes whenever the content does; compared, never interpreted."""


class Unchanged(enum.Enum):
    """The result of a read whose version is already known."""

    UNCHANGED = enum.auto()


UNCHANGED = Unchanged.UNCHANGED


class JournalEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One upload or change that the index may not hold yet. One field besides `project` is set."""

    project: ProjectName
    file: File | None = None
    """The record of a new file, or a newer record of a file."""
    deletion: Deletion | None = None
    status: ProjectStatus | None = None

    @property
    def changed(self) -> File | Deletion | None:
        """Return what the entry says of a file; None if it is about the project."""
        return self.file or self.deletion


class JournalRead(msgspec.Struct, frozen=True):
    """The journal's entries after a cursor."""

    entries: tuple[JournalEntry, ...]
    cursor: str
    """The position to continue reading at, and to fold up to; compared, never interpreted."""
    restarted: bool
    """Whether the entries are the whole journal: what was known of it before no longer counts."""


class IndexStore(Protocol):
    """Where a repo keeps its index and its journal.

    `Packages` writes the journal: it adds an entry for each upload and each change. Every method may raise
    BackendUnavailableError; every write may raise StorageFullError. No method blocks the event loop.
    """

    @property
    def poll_interval_s(self) -> float:
        """Return the pause between two polls.

        Returns:
            Seconds. A poll reads the journal and the index, so both must be cheap at that rate.
        """

    async def read_index(self, known: str | None = None) -> StoredIndex | Unchanged | None:
        """Read the index file. If a file of the other codec is there, too or instead, read the newer of both.

        Parameters:
            known: The version that the caller has already read, if any. It may be of any age.

        Returns:
            The index; UNCHANGED if its version is `known`; None if there is no index.
        """

    async def write_index(self, content: bytes, *, expected: str | None) -> str:
        """Replace the index atomically. An interruption leaves either the old index or the new one, whole.

        Parameters:
            content: The whole file, in the codec of the repo's index file name.
            expected: The version that the caller has read; None if there was no index.

        Returns:
            The new version, which differs from every earlier one.

        Raises:
            IndexConflictError: The index does not have the version `expected`. Nothing was changed.
        """

    def index_location(self, project: ProjectName, file: File) -> tuple[str, str] | None:
        """Return a field of the backend's own for a file's entry in an `index.toml`, as the original wrote it.

        Parameters:
            project: The file's project.
            file: The file's record.

        Returns:
            The field's name and its value, or None if the backend has no such field.
        """

    async def read_journal(self, cursor: str | None = None) -> JournalRead:
        """Read what was published and changed after `cursor`.

        Parameters:
            cursor: The cursor of an earlier read, by any reader of this storage; None reads the whole journal.

        Returns:
            The entries, those of one file or status in the order of their revisions. If the journal was folded since
            the cursor was taken, all entries that are left, and `restarted`.
        """

    async def fold_journal(self, cursor: str) -> None:
        """Remove the entries up to `cursor`, which the index now holds. Later ones stay, and every reader restarts.

        Where nothing is removed, nothing changes. A backend whose journal takes no space of its own may ignore this.

        Parameters:
            cursor: The cursor of a read from before the scan that the index was written from. If the journal was folded
                since, nothing is removed.
        """
