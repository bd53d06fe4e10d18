"""The backend: each method of pywharf's ports is one transaction in a thread."""

import asyncio
import contextlib
import sqlite3
import threading
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from pywharf.backends.api import (
    UNCHANGED,
    BackendUnavailableError,
    Change,
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
from pywharf_sqlite.changing import add_entry, apply_change, deleted_in, forget_deletion, status_of
from pywharf_sqlite.database import Database

_CHUNK = 256 * 1024
_MAX_CLAIMS = 50_000
_CLOCKS_DIFFER_S = 300


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
                yield ScannedProject(project, deleted=await asyncio.to_thread(self._taken, name))

    def _taken(self, name: ProjectName) -> tuple[str, ...]:
        with self._database.transaction() as connection:
            return tuple(sorted(key for key, one in deleted_in(connection, name).items() if not one.is_free))

    def _names(self) -> list[ProjectName]:
        with self._database.transaction() as connection:
            rows = connection.execute(
                "SELECT project FROM files UNION SELECT project FROM deleted UNION SELECT project FROM statuses"
                " ORDER BY project"
            ).fetchall()
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
            status = status_of(connection, name)
            if not rows and status is None and not deleted_in(connection, name):
                return None
        project = Project(name=name, files=tuple(_record(row) for row in rows))
        return project if status is None else project.with_status(status)

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
            deleted = deleted_in(connection, upload.project)
            taken = [name for name, one in deleted.items() if not one.is_free]
            duplicate = find_duplicate(file.filename, upload.project, [*stored, *taken])
            if same is not None or duplicate is not None or file.filename in taken:
                is_deleted = (duplicate or file.filename) in taken
                raise FileExistsInRepoError(file.filename, duplicate, is_deleted=is_deleted)
            if file.filename in deleted:
                # The revisions go on, so that the deletion does not hide the new file.
                file = msgspec.structs.replace(file, revision=deleted[file.filename].revision + 1)
                forget_deletion(connection, upload.project, file.filename)
            added = connection.execute(
                "INSERT INTO files (project, filename, record, metadata, content) VALUES (?, ?, ?, ?, zeroblob(?))",
                (upload.project, file.filename, msgspec.json.encode(file), upload.metadata, file.size),
            ).lastrowid
            assert added is not None  # noqa: S101 - a row was inserted
            with upload.staged.open("rb") as staged, connection.blobopen("files", "content", added) as content:
                while chunk := staged.read(_CHUNK):
                    content.write(chunk)
            add_entry(connection, JournalEntry(upload.project, file))
        return file

    async def change(self, change: Change) -> JournalEntry:
        return await asyncio.to_thread(self._change, change)

    def _change(self, change: Change) -> JournalEntry:
        # The change and its journal entry are one transaction, so a killed change leaves neither.
        with self._database.transaction(writes=True) as connection:
            entry, is_new = apply_change(connection, change)
            if is_new:
                add_entry(connection, entry)
        return entry

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
                "SELECT id, entry FROM journal WHERE id > ? ORDER BY id", (0 if restarted else after,)
            ).fetchall()
        entries = tuple(msgspec.json.decode(entry, type=JournalEntry) for _, entry in rows)
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

    # The claims.

    async def claim(self, name: str, until: int) -> bool:
        return await asyncio.to_thread(self._claim, name, until)

    def _claim(self, name: str, until: int) -> bool:
        with self._database.transaction(writes=True) as connection:
            (count,) = connection.execute("SELECT count(*) FROM claims").fetchone()
            if count >= _MAX_CLAIMS:
                raise BackendUnavailableError("The database keeps too many used tokens; run update_index.")
            return bool(connection.execute("INSERT OR IGNORE INTO claims VALUES (?, ?)", (name, until)).rowcount)

    async def is_claimed(self, name: str) -> bool:
        return await asyncio.to_thread(self._is_claimed, name)

    def _is_claimed(self, name: str) -> bool:
        with self._database.transaction() as connection:
            return connection.execute("SELECT 1 FROM claims WHERE name = ?", (name,)).fetchone() is not None

    async def remove_ended_claims(self) -> None:
        await asyncio.to_thread(self._remove_ended_claims)

    def _remove_ended_claims(self) -> None:
        with self._database.transaction(writes=True) as connection:
            connection.execute("DELETE FROM claims WHERE until < ?", (int(time.time()) - _CLOCKS_DIFFER_S,))


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
