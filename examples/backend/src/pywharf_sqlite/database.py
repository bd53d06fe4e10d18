"""The database: its tables, connections, transactions and errors. Blocking; call it in a thread."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from pywharf.backends.api import BackendUnavailableError, StorageFullError

_TABLES = """
CREATE TABLE IF NOT EXISTS files (
    id INTEGER PRIMARY KEY,
    project TEXT NOT NULL,
    filename TEXT NOT NULL,
    record BLOB NOT NULL,    -- a File as JSON
    metadata BLOB NOT NULL,
    content BLOB NOT NULL,
    UNIQUE (project, filename)
);
CREATE TABLE IF NOT EXISTS deleted (
    project TEXT NOT NULL,
    filename TEXT NOT NULL,
    revision INTEGER NOT NULL,
    is_free INTEGER NOT NULL,  -- whether the name may be published again
    UNIQUE (project, filename)
);
CREATE TABLE IF NOT EXISTS statuses (
    project TEXT PRIMARY KEY,
    status BLOB NOT NULL  -- a ProjectStatus as JSON
);
CREATE TABLE IF NOT EXISTS journal (
    id INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used twice, so that it can be a cursor
    entry BLOB NOT NULL  -- a JournalEntry as JSON
);
CREATE TABLE IF NOT EXISTS folds (
    generation TEXT NOT NULL  -- one row, replaced when the journal is folded
);
CREATE TABLE IF NOT EXISTS indexes (
    stem TEXT PRIMARY KEY,  -- the file name without its extension, because only one codec's file may be there
    filename TEXT NOT NULL,
    content BLOB NOT NULL,
    version TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS claims (
    name TEXT PRIMARY KEY,
    until INTEGER NOT NULL  -- Unix seconds
);
INSERT INTO folds SELECT lower(hex(randomblob(8))) WHERE NOT EXISTS (SELECT 1 FROM folds);
"""


class Database:
    """A database file, which is created when it is first used."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._is_prepared = False

    @contextlib.contextmanager
    def transaction(self, *, writes: bool = False) -> Iterator[sqlite3.Connection]:
        """Open a connection for one transaction. An error rolls it back.

        Raises BackendUnavailableError, StorageFullError.
        """
        with _translating_errors(), contextlib.closing(self.connect()) as connection, connection:
            if not self._is_prepared:
                connection.executescript(f"BEGIN IMMEDIATE;{_TABLES}COMMIT;")
                self._is_prepared = True
            connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
            yield connection

    def connect(self) -> sqlite3.Connection:
        """Return a new connection, which any thread may use. It begins no transaction by itself."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return sqlite3.connect(self._path, timeout=self._timeout_s, isolation_level=None, check_same_thread=False)


@contextlib.contextmanager
def _translating_errors() -> Iterator[None]:
    """Translate SQLite's errors to pywharf's. Clients see the message, so it names no path."""
    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise StorageFullError("The storage is full; nothing of this was kept. Free some room.") from error
        raise BackendUnavailableError(f"The database of this repo cannot be used now: {error}.") from error
    except OSError as error:
        raise BackendUnavailableError(f"The storage of this repo cannot be used now: {error.strerror}.") from error
