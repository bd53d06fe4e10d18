"""Changes of what is published, each inside a transaction of the caller. Blocking."""

import sqlite3

import msgspec

from pywharf.backends.api import (
    Change,
    Delete,
    Deletion,
    File,
    FileExistsInRepoError,
    JournalEntry,
    NotFoundError,
    ProjectName,
    ProjectStatus,
    Reserve,
    SetStatus,
    SetYanked,
    find_duplicate,
)


class Deleted(msgspec.Struct, frozen=True):
    """A deleted file."""

    revision: int
    is_free: bool


def deleted_in(connection: sqlite3.Connection, name: ProjectName) -> dict[str, Deleted]:
    """Return a project's deleted files by name."""
    rows = connection.execute("SELECT filename, revision, is_free FROM deleted WHERE project = ?", (name,)).fetchall()
    return {filename: Deleted(revision, bool(is_free)) for filename, revision, is_free in rows}


def forget_deletion(connection: sqlite3.Connection, name: ProjectName, filename: str) -> None:
    """Remove a deleted file whose name is published again."""
    connection.execute("DELETE FROM deleted WHERE project = ? AND filename = ?", (name, filename))


def status_of(connection: sqlite3.Connection, name: ProjectName) -> ProjectStatus | None:
    """Return the status that a project was given, if any."""
    row = connection.execute("SELECT status FROM statuses WHERE project = ?", (name,)).fetchone()
    return msgspec.json.decode(row[0], type=ProjectStatus) if row is not None else None


def add_entry(connection: sqlite3.Connection, entry: JournalEntry) -> None:
    """Add an entry to the journal."""
    connection.execute("INSERT INTO journal (entry) VALUES (?)", (msgspec.json.encode(entry),))


def apply_change(connection: sqlite3.Connection, change: Change) -> tuple[JournalEntry, bool]:
    """Apply a change. Return its entry, and whether the journal needs it. Raises NotFoundError, FileExistsInRepoError.

    A reserved name changes no page.
    """
    match change.action:
        case SetStatus():
            return _set_status(connection, change.project, change.action)
        case SetYanked():
            return _set_yanked(connection, change.project, change.action)
        case Delete():
            return _delete(connection, change.project, change.action)
        case Reserve():
            return _reserve(connection, change.project, change.action), False


def _set_status(connection: sqlite3.Connection, name: ProjectName, action: SetStatus) -> tuple[JournalEntry, bool]:
    status = status_of(connection, name)
    file = connection.execute("SELECT 1 FROM files WHERE project = ?", (name,)).fetchone()
    if file is None and status is None and not deleted_in(connection, name):
        raise NotFoundError(f"The storage holds no project {name!r}.")
    status = status or ProjectStatus()
    is_new = (status.status, status.reason) != (action.status, action.reason)
    if is_new:
        status = ProjectStatus(action.status, action.reason, status.revision + 1)
        connection.execute("REPLACE INTO statuses VALUES (?, ?)", (name, msgspec.json.encode(status)))
    return JournalEntry(name, status=status), is_new


def _set_yanked(connection: sqlite3.Connection, name: ProjectName, action: SetYanked) -> tuple[JournalEntry, bool]:
    row, file = _stored(connection, name, action.filename)
    is_new = file.yanked != action.reason
    if is_new:
        file = msgspec.structs.replace(file, yanked=action.reason, revision=file.revision + 1)
        connection.execute("UPDATE files SET record = ? WHERE id = ?", (msgspec.json.encode(file), row))
    return JournalEntry(name, file=file), is_new


def _delete(connection: sqlite3.Connection, name: ProjectName, action: Delete) -> tuple[JournalEntry, bool]:
    deleted = deleted_in(connection, name).get(action.filename)
    is_new = deleted is None
    if deleted is None:
        row, file = _stored(connection, name, action.filename)
        deleted = Deleted(file.revision + 1, action.frees_name)
        connection.execute("DELETE FROM files WHERE id = ?", (row,))
    connection.execute(
        "REPLACE INTO deleted (project, filename, revision, is_free) VALUES (?, ?, ?, ?)",
        (name, action.filename, deleted.revision, deleted.is_free or action.frees_name),
    )
    return JournalEntry(name, deletion=Deletion(action.filename, deleted.revision)), is_new


def _reserve(connection: sqlite3.Connection, name: ProjectName, action: Reserve) -> JournalEntry:
    files = [row[0] for row in connection.execute("SELECT filename FROM files WHERE project = ?", (name,))]
    double = find_duplicate(action.filename, name, files)
    if double is not None or action.filename in files:
        raise FileExistsInRepoError(action.filename, double)
    deleted = deleted_in(connection, name).get(action.filename, Deleted(1, is_free=False))
    connection.execute(
        "REPLACE INTO deleted (project, filename, revision, is_free) VALUES (?, ?, ?, ?)",
        (name, action.filename, deleted.revision, False),
    )
    return JournalEntry(name, deletion=Deletion(action.filename, deleted.revision))


def _stored(connection: sqlite3.Connection, name: ProjectName, filename: str) -> tuple[int, File]:
    """Return the row and the record of a file. A client may ask for any text, even one that is not valid Unicode."""
    found = connection.execute(
        "SELECT id, record FROM files WHERE project = ? AND filename = ?",
        (name, filename.encode("utf-8", "replace").decode()),
    ).fetchone()
    if found is None:
        raise NotFoundError(f"The storage holds no file {filename[:250]!r}.")
    row, record = found
    return row, msgspec.json.decode(record, type=File)
