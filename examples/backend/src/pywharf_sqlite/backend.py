"""The backend: each method of pywharf's ports is one transaction in a thread."""

import asyncio
import contextlib
import sqlite3
import threading
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from pywharf.backends.api import (
    UNCHANGED,
    Content,
    File,
    FileExistsInRepoError,
    IndexConflictError,
    JournalEntry,
    JournalRead,
    NotFoundError,
    Progress,
    Project,
    ProjectName,
    ScannedProject,
    StoredIndex,
    StreamContent,
    Unchanged,
    Upload,
    find_duplicate,
    max_index_bytes,
)
from pywharf_sqlite.database import Database

_CHUNK = 256 * 1024


class SqliteBackend:
    """One repo's packages, journal and index in a database. Any number of servers may use it concurrently."""

    def __init__(self, folder: Path, index_name: str, timeout_s: float) -> None:
        self._database = Database(folder / "packages.db", timeout_s)
        self._staging = folder / "staging"
        self._index_name = index_name
        self._probing: sqlite3.Connection | None = None
        self._probe_lock = threading.Lock()

    async def aclose(self) -> None:
        if self._probing is not None:
            self._probing.close()

    # The packages.

    @property
    def staging_folder(self) -> Path:
        self._staging.mkdir(parents=True, exist_ok=True)
        return self._staging

    async def scan(self, progress: Progress) -> AsyncIterator[ScannedProject]:
        scanned = 0
        for name in await asyncio.to_thread(self._names):
            progress(scanned, name)
            project = await self.find_project(name)
            if project is not None:
                scanned += len(project.files)
                yield ScannedProject(project)

    def _names(self) -> list[ProjectName]:
        with self._database.transaction() as connection:
            rows = connection.execute("SELECT DISTINCT project FROM files ORDER BY project").fetchall()
        return [ProjectName(name) for (name,) in rows]

    async def find_project(self, name: ProjectName, only: str | None = None) -> Project | None:
        return await asyncio.to_thread(self._find, name, only)

    def _find(self, name: ProjectName, only: str | None) -> Project | None:
        with self._database.transaction() as connection:
            rows = connection.execute(
                "SELECT record FROM files WHERE project = :name AND (:only IS NULL OR filename = :only)"
                " ORDER BY filename",
                {"name": name, "only": _text(only)},
            ).fetchall()
        return Project(name=name, files=tuple(_record(row) for row in rows)) if rows else None

    async def publish(self, upload: Upload) -> File:
        return await asyncio.to_thread(self._publish, upload)

    def _publish(self, upload: Upload) -> File:
        file = upload.file
        # The file and its journal entry are one transaction, so a killed upload leaves neither.
        with self._database.transaction(writes=True) as connection:
            rows = connection.execute("SELECT record FROM files WHERE project = ?", (upload.project,)).fetchall()
            stored = {record.filename: record for record in map(_record, rows)}
            same = stored.get(file.filename)
            if same is not None and same.sha256 == file.sha256:
                return same
            duplicate = find_duplicate(file.filename, upload.project, stored)
            if same is not None or duplicate is not None:
                raise FileExistsInRepoError(file.filename, duplicate)
            added = connection.execute(
                "INSERT INTO files (project, filename, record, metadata, content) VALUES (?, ?, ?, ?, zeroblob(?))",
                (upload.project, file.filename, msgspec.json.encode(file), upload.metadata, file.size),
            ).lastrowid
            assert added is not None  # noqa: S101 - a row was inserted
            with upload.staged.open("rb") as staged, connection.blobopen("files", "content", added) as content:
                while chunk := staged.read(_CHUNK):
                    content.write(chunk)
            connection.execute("INSERT INTO journal (file) VALUES (?)", (added,))
        return file

    async def open_file(self, project: ProjectName, file: File) -> Content:
        row, size = await asyncio.to_thread(self._row_of, project, file)

        async def read(first: int, last: int) -> AsyncIterator[bytes]:
            for start in range(first, last + 1, _CHUNK):
                yield await asyncio.to_thread(self._read, row, start, min(_CHUNK, last + 1 - start))

        return StreamContent(size, read)

    def _row_of(self, project: ProjectName, file: File) -> tuple[int, int]:
        with self._database.transaction() as connection:
            found = connection.execute(
                "SELECT id, length(content) FROM files WHERE project = ? AND filename = ?",
                (project, _text(file.filename)),
            ).fetchone()
        if found is None:
            raise NotFoundError(f"The storage holds no file {file.filename!r}.")
        row, size = found
        return row, size

    def _read(self, row: int, start: int, length: int) -> bytes:
        with (
            self._database.transaction() as connection,
            connection.blobopen("files", "content", row, readonly=True) as content,
        ):
            content.seek(start)
            return content.read(length)

    async def read_metadata(self, project: ProjectName, file: File) -> bytes:
        return await asyncio.to_thread(self._metadata, project, file)

    def _metadata(self, project: ProjectName, file: File) -> bytes:
        row, _ = self._row_of(project, file)
        with self._database.transaction() as connection:
            (metadata,) = connection.execute("SELECT metadata FROM files WHERE id = ?", (row,)).fetchone()
        return bytes(metadata)

    # The index store.

    @property
    def poll_interval_s(self) -> float:
        return 1.0

    def probe(self) -> object:
        """Return a number that changes with each commit (the optional port `Probeable`)."""
        with self._probe_lock:
            if self._probing is None:
                self._probing = self._database.connect()
            return self._probing.execute("PRAGMA data_version").fetchone()

    async def read_index(self, known: str | None = None) -> StoredIndex | Unchanged | None:
        return await asyncio.to_thread(self._read_index, known)

    def _read_index(self, known: str | None) -> StoredIndex | Unchanged | None:
        with self._database.transaction() as connection:
            version = _version_of(connection, self._stem)
            if version is None:
                return None
            if version == known:
                return UNCHANGED
            filename, content = connection.execute(
                "SELECT filename, content FROM indexes WHERE stem = ?", (self._stem,)
            ).fetchone()
        # pywharf refuses an index that is too large; its content need not be kept in memory for that.
        return StoredIndex(filename, content if len(content) <= max_index_bytes(filename) else b"", version)

    async def write_index(self, content: bytes, *, expected: str | None) -> str:
        return await asyncio.to_thread(self._write_index, content, expected)

    def _write_index(self, content: bytes, expected: str | None) -> str:
        version = uuid.uuid4().hex
        with self._database.transaction(writes=True) as connection:
            if _version_of(connection, self._stem) != expected:
                raise IndexConflictError
            connection.execute(
                "REPLACE INTO indexes (stem, filename, content, version) VALUES (?, ?, ?, ?)",
                (self._stem, self._index_name, content, version),
            )
        return version

    @property
    def _stem(self) -> str:
        return self._index_name.rpartition(".")[0]

    def index_location(self, project: ProjectName, file: File) -> tuple[str, str] | None:
        del project, file
        return None

    async def read_journal(self, cursor: str | None = None) -> JournalRead:
        return await asyncio.to_thread(self._read_journal, cursor)

    def _read_journal(self, cursor: str | None) -> JournalRead:
        with self._database.transaction() as connection:
            generation = _generation_of(connection)
            known, after = _parsed(cursor)
            restarted = known != generation
            rows = connection.execute(
                "SELECT journal.id, project, record FROM journal JOIN files ON files.id = file"
                " WHERE journal.id > ? ORDER BY journal.id",
                (0 if restarted else after,),
            ).fetchall()
        entries = tuple(JournalEntry(ProjectName(project), _record((record,))) for _, project, record in rows)
        last = rows[-1][0] if rows else 0 if restarted else after
        return JournalRead(entries, f"{generation}:{last}", restarted)

    async def fold_journal(self, cursor: str) -> None:
        await asyncio.to_thread(self._fold_journal, cursor)

    def _fold_journal(self, cursor: str) -> None:
        generation, last = _parsed(cursor)
        with self._database.transaction(writes=True) as connection:
            if generation != _generation_of(connection):
                return  # another run folded the journal since
            if connection.execute("DELETE FROM journal WHERE id <= ?", (last,)).rowcount:
                connection.execute("UPDATE folds SET generation = ?", (uuid.uuid4().hex,))


def _record(row: tuple[bytes]) -> File:
    return msgspec.json.decode(row[0], type=File)


def _text(name: str | None) -> str | None:
    """Return a name that SQLite accepts. A client may ask for any text, even one that is not valid Unicode."""
    return name.encode("utf-8", "replace").decode() if name is not None else None


def _version_of(connection: sqlite3.Connection, stem: str) -> str | None:
    row = connection.execute("SELECT version FROM indexes WHERE stem = ?", (stem,)).fetchone()
    return str(row[0]) if row is not None else None


def _generation_of(connection: sqlite3.Connection) -> str:
    (generation,) = connection.execute("SELECT generation FROM folds").fetchone()
    return str(generation)


def _parsed(cursor: str | None) -> tuple[str, int]:
    """Split a cursor into the journal's generation and the last entry read."""
    generation, _, last = (cursor or ":0").partition(":")
    with contextlib.suppress(ValueError):
        return generation, int(last)
    return "", 0
