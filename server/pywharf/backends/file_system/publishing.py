"""Publish into a file_system repo in steps; a crash may follow any of them.

An upload waits for three syncs: of the content, of the folder that holds its name, and of the journal. A distribution
is published by one upload at a time, even under different spellings of its name. The upload locks the distribution's
identity (the claim) while it checks for doubles, places the file and appends it to the journal. Blocking; call it in a
thread.
"""

import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from pywharf.backends.file_system.claims import Claims
from pywharf.backends.file_system.journal import FileJournal
from pywharf.backends.file_system.project_folder import SMALL, ProjectFolder, distributions
from pywharf.backends.file_system.stamp import digest_of, stamp_of
from pywharf.backends.file_system.tombstones import META_SUFFIX, remove_deleted, tombstone_of, tombstones
from pywharf.core.duplicates import find_duplicate
from pywharf.core.errors import BackendUnavailableError, FileExistsInRepoError
from pywharf.core.filenames import METADATA_SUFFIX
from pywharf.core.model import File
from pywharf.core.toml_text import dumps_flat
from pywharf.disk.durable import (
    fsync_file,
    fsync_folder,
    place_new,
    write_atomically,
    write_temporary,
)
from pywharf.index.ports import JournalEntry, Upload
from pywharf.index.sidecars import meta_of
from pywharf.index.tombstones import Tombstone, meta_of_deleted


class FilePublisher:
    """A publisher into one repo's folder. Any number of servers may publish concurrently."""

    def __init__(self, folder: Path, journal: FileJournal) -> None:
        self._storage = folder / "storage"
        self._claims = Claims(folder)
        self._lock = folder / "lock"
        self._journal = journal

    def publish(self, upload: Upload) -> File:
        """Publish an upload (see Backend). Raises OSError."""
        published = self._publish(upload)
        if upload.discard_staged is not None:
            upload.discard_staged()
        return published

    def _publish(self, upload: Upload) -> File:
        folder = self._storage / upload.project
        final = folder / upload.file.filename
        new_folder = not folder.exists()
        folder.mkdir(exist_ok=True)
        freed = tombstone_of(final)
        if freed is not None:
            # The revisions of a freed name go on, so that its deletion does not hide the new file.
            upload = msgspec.structs.replace(
                upload, file=msgspec.structs.replace(upload.file, revision=freed.file.revision + 1)
            )
        with _Prepared(upload, final) as prepared:
            if not final.exists():
                prepared.write()  # before the claim, because a large file's fsync takes long
            with self._claims.of_file(upload.project, final.name):
                _check_not_deleted(final, freed)
                if freed is not None:
                    remove_deleted(final, freed)  # its deletion may have been killed
                if final.exists():
                    return self._complete(upload, final)
                self._check_single(upload)
                prepared.write()
                for path in prepared.records:
                    if freed is None:
                        path.unlink(missing_ok=True)  # left from a removed file; they would be taken for the new one's
                try:
                    place_new(upload.staged, final, self._lock)
                except FileExistsError:  # placed by an older version, which does not lock the claim
                    return self._complete(upload, final)
                try:
                    prepared.place_records()
                    fsync_folder(folder)
                    if new_folder:
                        fsync_folder(self._storage)
                    self._journal.append(JournalEntry(upload.project, prepared.file))
                except BaseException:
                    prepared.withdraw(freed)
                    raise
                return prepared.file

    def _check_single(self, upload: Upload) -> None:
        """Raise FileExistsInRepoError if another name, of a file or a deleted one, means the same distribution."""
        folder = self._storage / upload.project
        listed = {path.name for path in folder.iterdir()}
        double = find_duplicate(upload.file.filename, upload.project, distributions(listed))
        if double is not None:
            raise FileExistsInRepoError(
                upload.file.filename, double, is_deleted=tombstone_of(folder / double) is not None
            )
        deleted = [one.file.filename for one in tombstones(folder, listed, listed) if not one.is_free]
        double = find_duplicate(upload.file.filename, upload.project, deleted)
        if double is not None:
            raise FileExistsInRepoError(upload.file.filename, double, is_deleted=True)

    def _complete(self, upload: Upload, final: Path) -> File:
        """Complete a killed upload of the same bytes. Raises FileExistsInRepoError if the bytes differ."""
        folder = ProjectFolder(self._storage, upload.project)
        record = folder.record(final.name)
        if not stat.S_ISREG(final.stat().st_mode):  # opening a pipe would block until it has a writer
            raise FileExistsInRepoError(final.name)
        with final.open("rb") as opened:
            status = os.fstat(opened.fileno())
            stamp = stamp_of(status)
            is_recorded = record is not None and record.stamp == stamp
            sha256 = record.sha256 if record is not None and is_recorded else None
            if status.st_size == upload.file.size and sha256 is None:
                sha256 = digest_of(opened)
        if status.st_size != upload.file.size or sha256 != upload.file.sha256:
            raise FileExistsInRepoError(final.name)
        if record is None or record.sha256 != sha256:
            record = msgspec.structs.replace(upload.file, stamp=stamp)
            for path, content in _records(upload, record, final).items():
                write_atomically(path, content)
        metadata = final.with_name(final.name + METADATA_SUFFIX)
        if record.metadata_sha256 == upload.file.metadata_sha256 is not None and not metadata.exists():
            write_atomically(metadata, upload.metadata)
        entry = JournalEntry(upload.project, record)
        if not upload.is_shown(record.sha256) and entry not in self._journal.read(None).entries:
            fsync_file(final)
            fsync_folder(final.parent)
            fsync_folder(self._storage)
            self._journal.append(entry)
        return record


def _check_not_deleted(final: Path, freed: Tombstone | None) -> None:
    """Check the tombstone again, now under the claim. `freed` is what it was before."""
    now = tombstone_of(final)
    if now is not None and not now.is_free:
        raise FileExistsInRepoError(final.name, is_deleted=True)
    if now != freed and now is not None:
        raise BackendUnavailableError(f"{final.name!r} was just deleted and its name freed; upload it again.")


class _Prepared:
    """The upload's records under temporary names. Those not yet placed are removed when the context is left."""

    def __init__(self, upload: Upload, final: Path) -> None:
        self.file = upload.file
        self.records: dict[Path, bytes] = {}
        self._upload = upload
        self._final = final
        self._temporaries: dict[Path, Path] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for path in self._temporaries.values():
            path.unlink(missing_ok=True)

    def write(self) -> None:
        """Make the content durable, and write the records. A second call does nothing.

        Small records are not synced: until a fold makes them durable, the journal's entry has what they say, and the
        core metadata is in the file itself.
        """
        if self.records:
            return
        self.file = msgspec.structs.replace(self._upload.file, stamp=stamp_of(fsync_file(self._upload.staged)))
        self.records = _records(self._upload, self.file, self._final)
        for path, content in self.records.items():
            self._temporaries[path] = write_temporary(path.parent, content, durably=len(content) > SMALL)

    def withdraw(self, freed: Tombstone | None) -> None:
        """Remove the placed files; the tombstone comes back if there was one."""
        if freed is not None:
            meta = dumps_flat(meta_of_deleted(self._upload.project, freed)).encode()
            write_atomically(self._final.with_name(self._final.name + META_SUFFIX), meta)
        for path in (*self.records, self._final):
            if freed is None or not path.name.endswith(META_SUFFIX):
                path.unlink(missing_ok=True)

    def place_records(self) -> None:
        """Give the records their final names. The record that makes the file visible comes last."""
        for path in list(self._temporaries):
            self._temporaries[path].replace(path)
            del self._temporaries[path]


def _records(upload: Upload, file: File, final: Path) -> dict[Path, bytes]:
    """Return the files that accompany `final`, in the order of placing: core metadata comes before its record."""
    records: dict[Path, bytes] = {}
    if file.metadata_sha256 is not None:
        records[final.with_name(final.name + METADATA_SUFFIX)] = upload.metadata
    records[final.with_name(final.name + META_SUFFIX)] = dumps_flat(meta_of(upload.project, file)).encode()
    return records
