"""The ports: what a storage must do to be a backend, and what is exchanged with it."""

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
    """Its extension tells the codec."""
    content: bytes
    """Empty where the file is larger than an index of its codec may be (`pywharf.index.limits`)."""
    version: str
    """Changes whenever the content does; compared, never interpreted."""


class Unchanged(enum.Enum):
    """Answer to a look at something whose version is known already."""

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
    """Where to go on reading, and what to fold up to; compared, never interpreted."""
    restarted: bool
    """The entries are the whole journal: what was known of it before no longer counts."""


class Upload(msgspec.Struct, frozen=True):
    """A checked file, staged on disk, to be published."""

    project: ProjectName
    file: File
    staged: Path
    """Lies in the backend's `staging_folder`; the backend may move it, the caller removes it if still there."""
    metadata: bytes
    """Raw core metadata, served as `<file>.metadata` when `file.metadata_sha256` is set."""
    secret: str | None = None
    """The client's own, where the storage itself has let it in (Authority)."""
    known: Project | None = None
    """The project as index and journal have it, as far as the server knows."""

    def is_shown(self, sha256: str) -> bool:
        """Whether index or journal have the file with this digest, so that pages show it."""
        known = self.known.file(self.file.filename) if self.known is not None else None
        return known is not None and known.sha256 == sha256

    def __repr__(self) -> str:
        """Nothing of the secret."""
        return f"Upload({self.file.filename})"


class LocalContent(msgspec.Struct, frozen=True):
    """Content that lies in a file of this machine."""

    path: Path
    check: Callable[[BinaryIO], None] | None = None
    """Checks the open file against what the record promises; blocking. Raises BackendUnavailableError."""


class RedirectContent(msgspec.Struct, frozen=True):
    """Content that the client fetches itself from a short-lived URL, which holds no secret of the server."""

    url: str


class StreamContent(msgspec.Struct, frozen=True):
    """Content that passes through: `open` gives the bytes from the first to the last position, inclusive."""

    size: int
    open: Callable[[int, int], AsyncIterator[bytes]]


Content = LocalContent | RedirectContent | StreamContent

Progress = Callable[[int, str], None]
"""Called with the number of files scanned so far and what is being read."""


class ScannedProject(msgspec.Struct, frozen=True):
    """One project of a full scan, and what could not be indexed, a sentence each."""

    project: Project | None
    """None: the problems are about no project."""
    problems: tuple[str, ...] = ()


@runtime_checkable
class Authority(Protocol):
    """A backend that knows clients itself; it is asked where a repo has no secrets of its own."""

    def is_plausible(self, secret: str) -> bool:
        """Tell whether a text has the form of a secret that the storage may know. Asks nobody."""

    async def permission_of(self, secret: str) -> Permission:
        """What the client may do that sent this. Raises UnavailableError where that cannot be known now."""


class RateLimit(msgspec.Struct, frozen=True):
    """How often a storage may still be asked."""

    limit: int
    remaining: int
    reset: int
    """Unix seconds when `remaining` becomes `limit` again."""


@runtime_checkable
class RateLimited(Protocol):
    """A backend whose storage counts how often it is asked."""

    @property
    def rate_limit(self) -> RateLimit | None:
        """As of the last answer; None before the first."""


class Backend(Protocol):
    """One repo's storage. Every method may raise BackendUnavailableError; every write StorageFullError.

    Methods never block the event loop. Instances are used by one event loop. One that can tell at a glance that nothing
    has changed is a `pywharf.index.change_probes.Glanceable`, too; then it is read only where something may have.
    """

    @property
    def staging_folder(self) -> Path:
        """A folder for uploads under way, from which publishing is cheap; there once anything else was asked."""

    @property
    def poll_interval_s(self) -> float:
        """Seconds between two looks at the journal and the index; both must be cheap at that rate."""

    async def read_index(self, known: str | None = None) -> StoredIndex | Unchanged | None:
        """The index file, None where there is none, UNCHANGED where its version is `known`.

        Where one of the other codec lies there, too or instead, the newer one is read.
        """

    async def write_index(self, content: bytes, *, expected: str | None) -> str:
        """Replace the index if its version is still `expected` (None: there is none); give the new version.

        All or nothing at any interruption. Raises IndexConflictError.
        """

    def index_location(self, project: ProjectName, file: File) -> tuple[str, str] | None:
        """The backend's own field of an `index.toml` entry and its value, as the original wrote it."""

    async def read_journal(self, cursor: str | None = None) -> JournalRead:
        """What was published after `cursor`; cheap enough to be asked every second."""

    async def fold_journal(self, cursor: str) -> None:
        """Forget the entries up to `cursor`, which the index now holds. Later ones stay, and every reader restarts."""

    def scan(self, progress: Progress) -> AsyncIterator[ScannedProject]:
        """Read the whole storage, sorted by project; what lacks a record (hash, size …) gets one."""

    async def find_project(self, name: ProjectName, only: str | None = None) -> Project | None:
        """Ask the storage itself for a project; None where it holds no file of that name.

        `only`: the one file, of any name, that is asked for, so that the others may be left out.
        """

    async def publish(self, upload: Upload) -> File:
        """Store a file durably and note it in the journal; return its record.

        Where the same bytes lie there under the same name already, complete what a killed upload left out (a record,
        the core metadata, the journal's entry) and return the record that the file has. Raises FileExistsInRepoError
        where other bytes have the name, or another name means the same distribution (`pywharf.core.identity`); then
        nothing changes. Of uploads at once, in whatever spelling and through however many servers, one wins.
        """

    async def open_file(self, project: ProjectName, file: File) -> Content:
        """The content of a file. Raises NotFoundError, or leaves it to whoever opens LocalContent to find it gone."""

    async def read_metadata(self, project: ProjectName, file: File) -> bytes:
        """The raw core metadata of a file. Raises NotFoundError."""

    async def aclose(self) -> None:
        """Give back what is held."""
