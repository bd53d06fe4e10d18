"""The reference implementation of a backend. It keeps everything in this process's memory."""

import hashlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from pywharf.backends.registration import BackendType, OpenBackend
from pywharf.config.repo_config import MemorySpec
from pywharf.core.errors import FileExistsInRepoError, IndexConflictError, NotFoundError
from pywharf.core.identity import find_duplicate
from pywharf.core.model import File, Project
from pywharf.core.names import ProjectName
from pywharf.index.ports import (
    UNCHANGED,
    Content,
    JournalEntry,
    JournalRead,
    Progress,
    ScannedProject,
    StoredIndex,
    StreamContent,
    Unchanged,
    Upload,
)

_CHUNK = 64 * 1024


class MemoryBackend:
    """The files, journal and index of one repo in plain containers."""

    def __init__(self, index_name: str) -> None:
        self._staging = tempfile.TemporaryDirectory(prefix="pywharf-")
        self._index_name = index_name
        self._index: StoredIndex | None = None
        self._journal: list[JournalEntry] = []
        self._folds = 0
        self._projects: dict[ProjectName, Project] = {}
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
            yield ScannedProject(project)

    async def find_project(self, name: ProjectName, only: str | None = None) -> Project | None:
        del only
        return self._projects.get(name)

    async def publish(self, upload: Upload) -> File:
        project = self._projects.get(upload.project, Project(name=upload.project))
        stored = project.file(upload.file.filename)
        if stored is not None and stored.sha256 == upload.file.sha256:
            return stored
        double = find_duplicate(upload.file.filename, upload.project, (f.filename for f in project.files))
        if stored is not None or double is not None:
            raise FileExistsInRepoError(upload.file.filename, double)
        content = upload.staged.read_bytes()
        self._contents[upload.project, upload.file.filename] = (content, upload.metadata)
        self._projects[upload.project] = project.with_files([upload.file])
        self._journal.append(JournalEntry(upload.project, upload.file))
        return upload.file

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
