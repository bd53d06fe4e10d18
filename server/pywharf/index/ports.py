"""The ports: what a storage must do to be a backend, and the data exchanged with it."""

import enum
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import BinaryIO, Protocol, runtime_checkable

import msgspec

from pywharf.core.access import Permission
from pywharf.core.model import File, Project
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


class JournalEntry(msgspec.Struct, frozen=True):
    """One upload that the index may not hold yet."""

    project: ProjectName
    file: File


class JournalRead(msgspec.Struct, frozen=True):
    """The journal's entries after a cursor."""

    entries: tuple[JournalEntry, ...]
    cursor: str
    """The position to continue reading at, and to fold up to; compared, never interpreted."""
    restarted: bool
    """Whether the entries are the whole journal: what was known of it before no longer counts."""


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

    def is_shown(self, sha256: str) -> bool:
        """Return whether index or journal have the file with this digest, so that pages show it."""
        known = self.known.file(self.file.filename) if self.known is not None else None
        return known is not None and known.sha256 == sha256

    def __repr__(self) -> str:
        """Return a text without the secret."""
        return f"Upload({self.file.filename})"


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


@runtime_checkable
class Authority(Protocol):
    """A backend that knows clients itself; it is asked if a repo has no secrets of its own."""

    def is_plausible(self, secret: str) -> bool:
        """Return whether a text has the form of a secret that the storage may know. Sends no request."""

    async def permission_of(self, secret: str) -> Permission:
        """Return what the client that sent the secret may do. Raises UnavailableError if that cannot be known now."""


class RateLimit(msgspec.Struct, frozen=True):
    """The number of requests that a storage still accepts."""

    limit: int
    remaining: int
    reset: int
    """Unix seconds when `remaining` becomes `limit` again."""


@runtime_checkable
class RateLimited(Protocol):
    """A backend whose storage counts requests."""

    @property
    def rate_limit(self) -> RateLimit | None:
        """Return the limit that the last response reported; None before the first."""


class Backend(Protocol):
    """One repo's storage. Every method may raise BackendUnavailableError; every write StorageFullError.

    Methods never block the event loop. Instances are used by one event loop. A backend with a cheap probe for changes
    is a `pywharf.index.change_probes.Probeable`, too. It is then read only when something may have changed.
    """

    @property
    def staging_folder(self) -> Path:
        """Return a folder for uploads in progress, from which publishing is cheap. It exists after any other call."""

    @property
    def poll_interval_s(self) -> float:
        """Return the seconds between two reads of the journal and the index; both must be cheap at that rate."""

    async def read_index(self, known: str | None = None) -> StoredIndex | Unchanged | None:
        """Read the index file: None if there is none, UNCHANGED if its version is `known`.

        If a file of the other codec is there, too or instead, the newer file is read.
        """

    async def write_index(self, content: bytes, *, expected: str | None) -> str:
        """Replace the index if its version is still `expected` (None: there is none); return the new version.

        An interruption leaves either the old index or the new one, whole. Raises IndexConflictError.
        """

    def index_location(self, project: ProjectName, file: File) -> tuple[str, str] | None:
        """Return the backend's own field of an `index.toml` entry and its value, as the original wrote it, or None."""

    async def read_journal(self, cursor: str | None = None) -> JournalRead:
        """Read what was published after `cursor`; cheap enough to be called every second."""

    async def fold_journal(self, cursor: str) -> None:
        """Remove the entries up to `cursor`, which the index now holds. Later ones stay, and every reader restarts."""

    def scan(self, progress: Progress) -> AsyncIterator[ScannedProject]:
        """Read the whole storage, sorted by project. Files that lack a record (hash, size …) get one."""

    async def find_project(self, name: ProjectName, only: str | None = None) -> Project | None:
        """Look up a project in the storage itself; None if it holds no file of that project.

        `only` is the name of the one file that is needed, so that the others may be omitted. It may be any name.
        """

    async def publish(self, upload: Upload) -> File:
        """Store a file durably and note it in the journal; return its record.

        If the same bytes are already stored under the same name, complete what a killed upload left out (a record, the
        core metadata, the journal's entry) and return the record that the file has. Raises FileExistsInRepoError if
        other bytes have the name, or another name means the same distribution (`pywharf.core.identity`); then nothing
        changes. If uploads run concurrently, in any spelling and through any number of servers, one wins.
        """

    async def open_file(self, project: ProjectName, file: File) -> Content:
        """Open a file's content. Raises NotFoundError; a missing LocalContent may show only when its file is opened."""

    async def read_metadata(self, project: ProjectName, file: File) -> bytes:
        """Read the raw core metadata of a file. Raises NotFoundError."""

    async def aclose(self) -> None:
        """Release the backend's resources."""
