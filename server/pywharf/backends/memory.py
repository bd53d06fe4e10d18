"""The reference implementation of a backend. It keeps everything in this process's memory."""

import hashlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from pywharf.backends.registration import BackendType, OpenBackend
from pywharf.config.repo_config import MemorySpec
from pywharf.core.duplicates import find_duplicate
from pywharf.core.errors import FileExistsInRepoError, IndexConflictError, NotFoundError
from pywharf.core.model import Deletion, File, Project, ProjectStatus
from pywharf.core.names import ProjectName
from pywharf.index.claims_in_memory import ClaimsInMemory
from pywharf.index.ports import (
    UNCHANGED,
    Change,
    Content,
    Delete,
    JournalEntry,
    JournalRead,
    Progress,
    Reserve,
    ScannedProject,
    SetStatus,
    SetYanked,
    StoredIndex,
    StreamContent,
    Unchanged,
    Upload,
)

_CHUNK = 64 * 1024


class MemoryBackend(ClaimsInMemory):
    """The files, journal and index of one repo in plain containers."""

    def __init__(self, index_name: str) -> None:
        super().__init__()
        self._staging = tempfile.TemporaryDirectory(prefix="pywharf-")
        self._index_name = index_name
        self._index: StoredIndex | None = None
        self._journal: list[JournalEntry] = []
        self._folds = 0
        self._projects: dict[ProjectName, Project] = {}
        self._deleted: dict[ProjectName, dict[str, Deletion]] = {}
        self._freed: set[tuple[ProjectName, str]] = set()
        """Deleted files whose names may be published again."""
        self._contents: dict[tuple[ProjectName, str], tuple[bytes, bytes]] = {}

    @property
    def staging_folder(self) -> Path:
        return Path(self._staging.name)

    @property
    def poll_interval_s(self) -> float:
        return 1.0

    async def read_index(self, known: str | None = None) -> StoredIndex | Unchanged | None:
        if self._index is not None and self._index.version == known:
            return UNCHANGED
        return self._index

    async def write_index(self, content: bytes, *, expected: str | None) -> str:
        current = self._index.version if self._index else None
        if current != expected:
            raise IndexConflictError
        version = hashlib.sha256((current or "").encode() + content).hexdigest()
        self._index = StoredIndex(self._index_name, content, version)
        return version

    def index_location(self, project: ProjectName, file: File) -> tuple[str, str] | None:
        del project, file
        return None

    async def read_journal(self, cursor: str | None = None) -> JournalRead:
        folds, _, position = (cursor or "none:0").partition(":")
        restarted = folds != str(self._folds)
        entries = self._journal if restarted else self._journal[int(position) :]
        return JournalRead(tuple(entries), f"{self._folds}:{len(self._journal)}", restarted)

    async def fold_journal(self, cursor: str) -> None:
        folds, _, position = cursor.partition(":")
        if folds == str(self._folds) and int(position) > 0:
            del self._journal[: int(position)]
            self._folds += 1

    async def scan(self, progress: Progress) -> AsyncIterator[ScannedProject]:
        scanned = 0
        for name in sorted(self._projects):
            project = self._projects[name]
            progress(scanned, name)
            scanned += len(project.files)
            yield ScannedProject(project, deleted=tuple(self._taken(name)))

    async def find_project(self, name: ProjectName, only: str | None = None) -> Project | None:
        del only
        return self._projects.get(name)

    async def publish(self, upload: Upload) -> File:
        project = self._projects.get(upload.project, Project(name=upload.project))
        stored = project.file(upload.file.filename)
        if stored is not None and stored.sha256 == upload.file.sha256:
            return stored
        name = upload.file.filename
        taken = self._taken(upload.project)
        double = find_duplicate(name, upload.project, [*(f.filename for f in project.files), *taken])
        if stored is not None or double is not None or name in taken:
            raise FileExistsInRepoError(name, double, is_deleted=(double or name) in taken)
        deletion = self._deleted.get(upload.project, {}).pop(name, None)
        revision = deletion.revision + 1 if deletion is not None else upload.file.revision
        file = msgspec.structs.replace(upload.file, revision=revision)
        self._contents[upload.project, name] = (upload.staged.read_bytes(), upload.metadata)
        self._projects[upload.project] = project.with_files([file])
        self._journal.append(JournalEntry(upload.project, file))
        return file

    def _taken(self, name: ProjectName) -> list[str]:
        """Return the names of deleted files that may not be published again, sorted."""
        return sorted(f for f in self._deleted.get(name, ()) if (name, f) not in self._freed)

    async def change(self, change: Change) -> JournalEntry:
        if isinstance(change.action, Reserve):
            return self._reserve(change.project, change.action.filename)
        project = self._projects.get(change.project)
        if project is None:
            raise NotFoundError(f"The storage holds no project {change.project!r}.")
        entry = self._changed(project, change.action)
        if entry not in self._journal:
            self._journal.append(entry)
        return entry

    def _reserve(self, name: ProjectName, filename: str) -> JournalEntry:
        project = self._projects.setdefault(name, Project(name=name))
        double = find_duplicate(filename, name, [f.filename for f in project.files])
        if double is not None or project.file(filename) is not None:
            raise FileExistsInRepoError(filename, double)
        self._freed.discard((name, filename))
        deletion = self._deleted.setdefault(name, {}).setdefault(filename, Deletion(filename, 1))
        return JournalEntry(name, deletion=deletion)

    def _changed(self, project: Project, action: SetStatus | SetYanked | Delete) -> JournalEntry:
        """Change the project as asked, and return the entry for the journal."""
        name = project.name
        match action:
            case SetStatus():
                status = ProjectStatus(project.status, project.status_reason, project.status_revision)
                if (status.status, status.reason) != (action.status, action.reason):
                    status = ProjectStatus(action.status, action.reason, status.revision + 1)
                    self._projects[name] = project.with_status(status)
                return JournalEntry(name, status=status)
            case SetYanked():
                file = self._recorded(project, action.filename)
                if file.yanked != action.reason:
                    file = msgspec.structs.replace(file, yanked=action.reason, revision=file.revision + 1)
                    self._projects[name] = project.with_files([file])
                return JournalEntry(name, file=file)
            case Delete():
                deleted = self._deleted.setdefault(name, {})
                if action.filename not in deleted:
                    file = self._recorded(project, action.filename)
                    deletion = deleted[action.filename] = Deletion(file.filename, file.revision + 1)
                    self._projects[name] = project.with_changes([deletion])
                    del self._contents[name, action.filename]
                if action.frees_name:
                    self._freed.add((name, action.filename))
                return JournalEntry(name, deletion=deleted[action.filename])

    def _recorded(self, project: Project, filename: str) -> File:
        file = project.file(filename)
        if file is None:
            raise NotFoundError(f"The storage holds no file {filename!r}.")
        return file

    async def open_file(self, project: ProjectName, file: File) -> Content:
        content, _ = self._stored(project, file)

        async def read(first: int, last: int) -> AsyncIterator[bytes]:
            for start in range(first, last + 1, _CHUNK):
                yield content[start : min(start + _CHUNK, last + 1)]

        return StreamContent(len(content), read)

    async def read_metadata(self, project: ProjectName, file: File) -> bytes:
        return self._stored(project, file)[1]

    def _stored(self, project: ProjectName, file: File) -> tuple[bytes, bytes]:
        try:
            return self._contents[project, file.filename]
        except KeyError as error:
            raise NotFoundError(f"The storage holds no file {file.filename!r}.") from error

    async def aclose(self) -> None:
        self._staging.cleanup()


def _open(request: OpenBackend[MemorySpec]) -> MemoryBackend:
    return MemoryBackend(request.spec.index_name)


BACKEND = BackendType(spec=MemorySpec, open=_open)
