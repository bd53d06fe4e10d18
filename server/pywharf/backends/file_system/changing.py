"""Change what a file_system repo has published, in steps; a crash may follow any of them.

A change locks the distribution or the status that it concerns, rewrites its record and adds the record to the journal.
A deletion leaves a tombstone (the record with the time of the deletion), and removes the content last. Repeating a
killed change completes it. Blocking; call it in a thread.
"""

import time
from pathlib import Path

import msgspec

from pywharf.backends.file_system.claims import Claims
from pywharf.backends.file_system.journal import FileJournal
from pywharf.backends.file_system.project_folder import STATUS_FILENAME, ProjectFolder, distributions
from pywharf.backends.file_system.stamp import stamp_of
from pywharf.backends.file_system.tombstones import META_SUFFIX, remove_deleted, tombstone_of
from pywharf.core.duplicates import find_duplicate
from pywharf.core.errors import FileExistsInRepoError, InvalidConfigError, NotFoundError
from pywharf.core.filenames import names_stored_file
from pywharf.core.model import File, Project, ProjectStatus, rfc3339
from pywharf.core.names import ProjectName
from pywharf.core.toml_text import dumps
from pywharf.disk.durable import fsync_folder, write_atomically
from pywharf.index.limits import MAX_RECORD_BYTES
from pywharf.index.ports import Change, Delete, JournalEntry, Reserve, SetStatus, SetYanked
from pywharf.index.sidecars import meta_of, parse_meta, status_text
from pywharf.index.tombstones import CHANGING_KEYS, Tombstone, meta_of_deleted, reserved


class FileChanger:
    """A changer of one repo's folder. Any number of servers and commands may change it concurrently."""

    def __init__(self, folder: Path, journal: FileJournal) -> None:
        self._storage = folder / "storage"
        self._claims = Claims(folder)
        self._journal = journal

    def change(self, change: Change) -> JournalEntry:
        """Apply a change (see Packages). Raises OSError."""
        action = change.action
        match action:
            case SetStatus():
                with self._claims.of_status(change.project):
                    return self._set_status(change, action)
            case SetYanked() | Delete() | Reserve():
                path = self._path(change.project, action.filename)
                with self._claims.of_file(change.project, action.filename):
                    if isinstance(action, Reserve):
                        return self._reserve(change.project, path)
                    if isinstance(action, Delete):
                        return self._delete(change, action, path)
                    return self._set_yanked(change, action, path)

    def finish_deletion(self, project: ProjectName, filename: str) -> None:
        """Remove a file that a killed deletion left. Raises InvalidConfigError if another file lies there."""
        path = self._storage / project / filename
        with self._claims.of_file(project, filename):
            tombstone = tombstone_of(path)
            if tombstone is not None and not remove_deleted(path, tombstone):
                raise InvalidConfigError(
                    "the name was freed, and an upload of it was interrupted: upload the file again."
                    if tombstone.is_free
                    else "a file of this name was deleted, and another one was put there. Remove it, or remove its "
                    ".meta file to publish it all the same."
                )

    def _path(self, project: ProjectName, filename: str) -> Path:
        if not names_stored_file(filename):
            raise _no_file(filename)
        return self._storage / project / filename

    def _set_status(self, change: Change, action: SetStatus) -> JournalEntry:
        folder = ProjectFolder(self._storage, change.project)
        if folder.find() is None:
            raise NotFoundError(f"The storage holds no project {change.project!r}.")
        stored = folder.status()
        known = change.known.status_revision if change.known is not None else 0
        is_new = (stored.status, stored.reason) != (action.status, action.reason) or stored.revision < known
        if is_new:
            stored = ProjectStatus(action.status, action.reason, max(stored.revision, known) + 1)
            path = self._storage / change.project / STATUS_FILENAME
            write_atomically(path, status_text(stored).encode())
        return self._show(change, JournalEntry(change.project, status=stored), is_new=is_new)

    def _set_yanked(self, change: Change, action: SetYanked, path: Path) -> JournalEntry:
        stored = self._recorded(change.project, path)
        known = change.known_file(path.name)
        is_new = stored.yanked != action.reason or (known is not None and known.revision > stored.revision)
        if is_new:
            stored = msgspec.structs.replace(stored, yanked=action.reason, revision=_next_revision(stored, known))
            _rewrite_record(path, meta_of(change.project, stored))
        return self._show(change, JournalEntry(change.project, file=_completed(stored, known)), is_new=is_new)

    def _delete(self, change: Change, action: Delete, path: Path) -> JournalEntry:
        tombstone = tombstone_of(path)
        is_new = tombstone is None
        if tombstone is None:
            stored = self._recorded(change.project, path)
            stored = msgspec.structs.replace(
                stored,
                revision=_next_revision(stored, change.known_file(path.name)),
                stamp=stamp_of(path.stat()),  # so that `remove_deleted` need not read the content
            )
            tombstone = Tombstone(stored, rfc3339(time.time()), action.frees_name)
            _write_record(path, meta_of_deleted(change.project, tombstone))
        elif action.frees_name and not tombstone.is_free:
            tombstone = msgspec.structs.replace(tombstone, is_free=True)
            _write_record(path, meta_of_deleted(change.project, tombstone))
        entry = self._show(change, JournalEntry(change.project, deletion=tombstone.deletion), is_new=is_new)
        remove_deleted(path, tombstone)
        return entry

    def _reserve(self, project: ProjectName, path: Path) -> JournalEntry:
        tombstone = tombstone_of(path)
        if tombstone is None:
            folder = path.parent
            is_new = not folder.exists()
            folder.mkdir(exist_ok=True)
            present = distributions({found.name for found in folder.iterdir()})
            double = find_duplicate(path.name, project, present)
            if double is not None or path.name in present:
                raise FileExistsInRepoError(path.name, double)
            tombstone = reserved(path.name, rfc3339(time.time()))
            _write_record(path, meta_of_deleted(project, tombstone))
            if is_new:
                fsync_folder(self._storage)
        elif tombstone.is_free:
            tombstone = msgspec.structs.replace(tombstone, is_free=False)
            _write_record(path, meta_of_deleted(project, tombstone))
        return JournalEntry(project, deletion=tombstone.deletion)

    def _recorded(self, project: ProjectName, path: Path) -> File:
        if tombstone_of(path) is not None:
            raise NotFoundError(f"The file {path.name!r} was deleted.")
        stored = ProjectFolder(self._storage, project).record(path.name)
        if stored is None:
            raise _no_file(path.name)
        return stored

    def _show(self, change: Change, entry: JournalEntry, *, is_new: bool) -> JournalEntry:
        """Add the entry to the journal, unless index or journal have it. Return the entry."""
        if is_new or not (_is_shown(change.known, entry) or entry in self._journal.read(None).entries):
            self._journal.append(entry)
        return entry


def _no_file(filename: str) -> NotFoundError:
    return NotFoundError(f"The storage holds no recorded file {filename[:250]!r}.")


def _next_revision(stored: File, known: File | None) -> int:
    """Return the revision of a changed record. A record that was edited by hand may lack its own."""
    return max(stored.revision, known.revision if known is not None else 0) + 1


def _completed(stored: File, known: File | None) -> File:
    """Add to a record what only a scan finds out, from the record that the index has."""
    if known is None or known.sha256 != stored.sha256:
        return stored
    return msgspec.structs.replace(
        stored,
        metadata_sha256=stored.metadata_sha256 or known.metadata_sha256,
        stamp=known.stamp or stored.stamp,
    )


def _is_shown(known: Project | None, entry: JournalEntry) -> bool:
    """Return whether the caller's project already has what the entry says."""
    if known is None:
        return False
    if entry.file is not None:
        return known.file(entry.file.filename) == entry.file
    if entry.deletion is not None:
        return known.file(entry.deletion.filename) is None
    return entry.status == ProjectStatus(known.status, known.status_reason, known.status_revision)


def _rewrite_record(path: Path, meta: dict[str, str]) -> None:
    """Write a file's record, with what else its sidecar holds: the original kept the whole form there."""
    with path.with_name(path.name + META_SUFFIX).open("rb") as opened:
        before = parse_meta(opened.read(MAX_RECORD_BYTES).decode(), path.name)
    _write_record(path, {key: value for key, value in before.items() if key not in CHANGING_KEYS} | meta)


def _write_record(path: Path, meta: dict[str, str]) -> None:
    write_atomically(path.with_name(path.name + META_SUFFIX), dumps(meta).encode())
