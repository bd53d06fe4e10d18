"""A backend that keeps packages in a folder: `<ROOT>/cache/<name>/storage/<project>/<file>`.

The layout is the original's. Each file has a record, `<file>.meta`; its core metadata is in `<file>.metadata`. The
record of a deleted file stays, so that its name is not published again. The journal, the staging folder, the writers'
lock and the owner's name are next to `storage`.
"""

import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import BinaryIO, ParamSpec, TypeVar

from pywharf.backends.file_system.change_probe import FolderProbe
from pywharf.backends.file_system.changing import FileChanger
from pywharf.backends.file_system.journal import FileJournal
from pywharf.backends.file_system.project_folder import ProjectFolder
from pywharf.backends.file_system.publishing import FilePublisher
from pywharf.backends.file_system.scanning import StorageScan
from pywharf.backends.file_system.stamp import CheckedContents
from pywharf.backends.file_system.token_claims import TokenClaims
from pywharf.backends.file_system.tombstones import META_SUFFIX
from pywharf.backends.registration import BackendType, OpenBackend
from pywharf.config.repo_config import FileSystemSpec
from pywharf.core.errors import (
    BackendUnavailableError,
    DataOwnedByOtherError,
    IndexConflictError,
    NotFoundError,
)
from pywharf.core.filenames import METADATA_SUFFIX
from pywharf.core.metadata import MAX_METADATA_BYTES
from pywharf.core.model import File, Project
from pywharf.core.names import ProjectName
from pywharf.core.os_errors import of_storage, translating
from pywharf.disk.durable import locked, open_fresh, sync_group, write_atomically
from pywharf.index.limits import max_index_bytes
from pywharf.index.ports import (
    UNCHANGED,
    Change,
    Content,
    JournalEntry,
    JournalRead,
    LocalContent,
    Progress,
    ScannedProject,
    StoredIndex,
    Unchanged,
    Upload,
)
from pywharf.index.threads import CALL_S, BoundedCalls

_MAX_OWNER_BYTES = 4096

_BATCH = 200
"""Projects that are scanned in one call in a thread."""

_MAX_CONCURRENT = 16
"""Concurrent calls per repo. The limit leaves threads to other repos when a storage answers slowly."""

_LARGE_S = 300.0
"""Seconds allowed for a call that reads or writes a large file or waits for other writers."""

P = ParamSpec("P")
T = TypeVar("T")


class FileSystemBackend:
    """The folder of one repo. Any number of servers and jobs may use it concurrently."""

    def __init__(self, folder: Path, index_name: str, owner: str | None) -> None:
        self._folder = folder
        self._storage = folder / "storage"
        self._staging = folder / "staging"
        self._lock = folder / "lock"
        self._journal = FileJournal(folder / "journal")
        self._publisher = FilePublisher(folder, self._journal)
        self._changer = FileChanger(folder, self._journal)
        self._contents = CheckedContents()
        self._tokens = TokenClaims(folder)
        stem, _, extension = index_name.rpartition(".")
        self._index_names = (index_name, f"{stem}.json" if extension == "toml" else f"{stem}.toml")
        self._probe = FolderProbe(folder, self._storage, self._staging, "journal", self._index_names)
        self._owner = owner
        self._prepared = False
        self._calls = BoundedCalls(_MAX_CONCURRENT)

    @property
    def staging_folder(self) -> Path:
        return self._staging

    @property
    def poll_interval_s(self) -> float:
        return 1.0

    def probe(self) -> object:
        """Probe the folder for changes (see Probeable)."""
        return self._probe()

    async def read_index(self, known: str | None = None) -> StoredIndex | Unchanged | None:
        return await self._bounded(_LARGE_S, self._read_index, known)

    async def write_index(self, content: bytes, *, expected: str | None) -> str:
        return await self._bounded(_LARGE_S, self._write_index, content, expected)

    def index_location(self, project: ProjectName, file: File) -> tuple[str, str] | None:
        return "package_path", str(self._storage / project / file.filename)

    async def read_journal(self, cursor: str | None = None) -> JournalRead:
        return await self._call(self._journal.read, cursor)

    async def fold_journal(self, cursor: str) -> None:
        await self._bounded(_LARGE_S, self._journal.fold, cursor, self._sync_records)

    async def scan(self, progress: Progress) -> AsyncIterator[ScannedProject]:
        with contextlib.ExitStack() as stack:
            scan = await self._call(stack.enter_context, StorageScan(self._folder, self._journal, self._changer))
            names, problems = await self._call(scan.names)
            if problems:
                yield ScannedProject(None, problems)
            for start in range(0, len(names), _BATCH):
                batch = names[start : start + _BATCH]
                for found in await self._bounded(None, scan.read, batch, progress):
                    if found is not None:
                        yield found
            await self._bounded(None, scan.finish)

    async def find_project(self, name: ProjectName, only: str | None = None) -> Project | None:
        return await self._call(self._find_project, name, only)

    async def publish(self, upload: Upload) -> File:
        return await self._bounded(_LARGE_S, self._publisher.publish, upload)

    async def change(self, change: Change) -> JournalEntry:
        return await self._bounded(_LARGE_S, self._changer.change, change)

    async def open_file(self, project: ProjectName, file: File) -> Content:
        return LocalContent(self._path(project, file.filename), lambda opened: self._contents.check(opened, file))

    async def read_metadata(self, project: ProjectName, file: File) -> bytes:
        path = self._path(project, file.filename + METADATA_SUFFIX)
        raw = await self._call(_read_if_there, path, MAX_METADATA_BYTES)
        if file.metadata_sha256 is not None and not (raw or b"").strip(b"\0"):  # a power cut may empty it
            folder = ProjectFolder(self._storage, project)
            raw = await self._bounded(_LARGE_S, folder.restore_metadata, file)
        if raw is None:
            raise NotFoundError.no_core_metadata(file.filename)
        return raw

    async def claim(self, name: str, until: int) -> bool:
        """Claim a name (see Claims)."""
        return await self._call(self._tokens.claim, name, until)

    async def is_claimed(self, name: str) -> bool:
        """Return whether a name was claimed (see Claims)."""
        return await self._call(self._tokens.is_claimed, name)

    async def remove_ended_claims(self) -> None:
        """Remove the claims that ended (see Claims)."""
        await self._bounded(_LARGE_S, self._tokens.remove_ended)

    async def aclose(self) -> None:
        """Do nothing: no resources are held open."""

    async def _call(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._bounded(CALL_S, function, *args, **kwargs)

    async def _bounded(
        self, deadline_s: float | None, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        def call() -> T:
            with translating(of_storage):
                # Checked on each call, so that nothing needs a restart after someone has emptied the volume.
                if not self._prepared or not self._staging.is_dir():
                    self._prepare()
                return function(*args, **kwargs)

        return await self._calls.run(deadline_s, call)

    def _prepare(self) -> None:
        self._storage.mkdir(parents=True, exist_ok=True)
        self._staging.mkdir(exist_ok=True)
        if self._owner is not None:
            self._claim(self._owner)
        self._prepared = True

    def _claim(self, owner: str) -> None:
        path = self._folder / "owner"
        recorded = _read_if_there(path, _MAX_OWNER_BYTES)
        if recorded is None:
            with locked(self._lock):
                recorded = _read_if_there(path, _MAX_OWNER_BYTES)
                if recorded is None:
                    recorded = f"{owner}\n".encode()
                    write_atomically(path, recorded)
        other = recorded.decode("utf-8", "replace").strip()
        if other != owner:
            # The message does not name the recorded owner, because another tenant reads it. Only the file does.
            raise DataOwnedByOtherError(
                f"The stored packages belong to another owner, not to {owner!r}. Choose another repo name, or let an "
                "administrator remove the file 'owner' in the repo's folder, which names the owner, to hand them over."
            )

    def _path(self, project: ProjectName, filename: str) -> Path:
        if "/" in filename or "\0" in filename or filename.startswith("."):
            raise NotFoundError(f"{filename!r} is not a file of {project!r}.")
        return self._storage / project / filename

    def _read_index(self, known: str | None) -> StoredIndex | Unchanged | None:
        # Read twice: between the two checks, a file of the other codec may have replaced this codec's file.
        return self._read_newest_index(known) or self._read_newest_index(known)

    def _read_newest_index(self, known: str | None) -> StoredIndex | Unchanged | None:
        # Both codecs' files exist if a run that changed the codec was interrupted.
        newest: tuple[int, str, BinaryIO] | None = None
        with contextlib.ExitStack() as stack:
            for filename in self._index_names:
                try:
                    file = stack.enter_context(open_fresh(self._storage / filename))
                except FileNotFoundError:
                    continue
                written = os.fstat(file.fileno()).st_mtime_ns
                if newest is None or written > newest[0]:
                    newest = written, filename, file
            if newest is None:
                return None
            _, name, opened = newest
            status = os.fstat(opened.fileno())
            version = _version(name, status)
            if version == known:
                return UNCHANGED
            most = max_index_bytes(name)
            content = opened.read(most + 1) if status.st_size <= most else b""
            return StoredIndex(name, content if len(content) <= most else b"", version)

    def _write_index(self, content: bytes, expected: str | None) -> str:
        with locked(self._lock):
            current = self._read_index(expected)
            if current is not UNCHANGED and not (current is None and expected is None):
                raise IndexConflictError
            filename, superseded = self._index_names
            version = _version(filename, write_atomically(self._storage / filename, content))
            (self._storage / superseded).unlink(missing_ok=True)
            return version

    def _sync_records(self) -> None:
        """Make the records of the journal's entries durable, which uploads leave to this."""
        entries = self._journal.read(None).entries
        paths = (self._storage / e.project / (e.file.filename + META_SUFFIX) for e in entries if e.file is not None)
        sync_group(self._storage, (path for path in paths if path.exists()))

    def _find_project(self, name: ProjectName, only: str | None) -> Project | None:
        folder = ProjectFolder(self._storage, name)
        return folder.find() if only is None else folder.find_file(only)


def _version(filename: str, status: os.stat_result) -> str:
    return f"{filename}:{status.st_ino}:{status.st_mtime_ns}:{status.st_size}"


def _read_if_there(path: Path, most: int) -> bytes | None:
    """Read a small file; None if it is missing. Raises BackendUnavailableError if it has more than `most` bytes."""
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except FileNotFoundError:
        return None
    if len(content) > most:
        raise BackendUnavailableError(
            f"The file {path.name!r} in the storage has more than {most} bytes; remove or replace it."
        )
    return content


def _open(request: OpenBackend[FileSystemSpec]) -> FileSystemBackend:
    return FileSystemBackend(request.root / "cache" / request.name, request.spec.index_name, request.spec.owner)


BACKEND = BackendType(spec=FileSystemSpec, open=_open)
