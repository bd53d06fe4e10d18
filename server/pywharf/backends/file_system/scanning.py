"""Scan a file_system repo: read what has changed since the last scan, and record files that have no record.

Blocking; call it in a thread.
"""

import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from pywharf.backends.file_system.changing import FileChanger
from pywharf.backends.file_system.journal import FileJournal
from pywharf.backends.file_system.new_records import NewRecords
from pywharf.backends.file_system.project_scan import Draft, ProjectScanner, Unchanged
from pywharf.backends.file_system.scan_cache import CachedFile, CachedProject, ScanCache
from pywharf.backends.file_system.stamp import Status, status_of
from pywharf.backends.file_system.tombstones import META_SUFFIX, tombstones
from pywharf.backends.file_system.unrecorded import UnrecordedReader
from pywharf.core.duplicates import duplicates
from pywharf.core.errors import InvalidInputError
from pywharf.core.filenames import METADATA_SUFFIX
from pywharf.core.model import Project, ProjectStatus
from pywharf.core.names import ProjectName, normalize
from pywharf.index.ports import Progress, ScannedProject

_LEFTOVER_AGE_S = 24 * 3600
"""Age of temporary files in seconds after which no upload can still be running, so a crash left them behind."""
_TEMPORARY = ".tmp"
_logger = logging.getLogger(__name__)


class StorageScan:
    """One scan of a repo's storage. Use it as a context, and call `finish` after all projects were read."""

    def __init__(self, folder: Path, journal: FileJournal, changer: FileChanger) -> None:
        self._folder = folder
        self._storage = folder / "storage"
        self._staging = folder / "staging"
        self._cache = ScanCache(folder)
        self._records = NewRecords(self._staging, folder / "lock")
        self._projects = ProjectScanner(self._storage, self._staging, journal, changer, self._records)
        self._unrecorded = UnrecordedReader(self._staging)
        self._temporaries: list[Path] = []
        self._scanned = 0
        """Files that were read or recorded so far."""

    def __enter__(self) -> Self:
        self._cache.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._unrecorded.close()
        self._records.discard()
        self._cache.__exit__()

    def names(self) -> tuple[list[ProjectName], tuple[str, ...]]:
        """Return the names of the project folders, sorted, and a problem for each other folder."""
        with os.scandir(self._storage) as entries:
            folders = sorted(e.name for e in entries if not e.name.startswith(".") and e.is_dir())
        projects, problems = [], []
        for folder in folders:
            try:
                normal = normalize(folder)
            except InvalidInputError as error:
                problems.append(f"The folder {folder!r} is left out: {error}")
                continue
            if normal == folder:
                projects.append(normal)
            else:
                problems.append(f"The folder {folder!r} is left out: its project's files belong into {normal!r}.")
        return projects, tuple(problems)

    def read(self, names: Sequence[ProjectName], progress: Progress) -> list[ScannedProject | None]:
        """Scan some projects; None for one of which nothing is to be reported. Raises OSError."""
        drafts: list[Draft | Unchanged] = []
        for name in names:
            progress(self._scanned, name)
            draft = self._projects.scan(name, self._cache.take(name))
            drafts.append(draft)
            if draft.hidden:
                self._temporaries += (self._storage / name / one for one in draft.hidden if _is_temporary(one))
            self._scanned += len(draft.entry.project.files if isinstance(draft, Unchanged) else draft.files)
        self._record(drafts, progress)
        self._records.commit()
        placed = self._records.take_placed()
        return [self._finished(draft, placed) for draft in drafts]

    def finish(self) -> None:
        """Keep the cache for the next scan, and remove what interrupted uploads left."""
        self._unrecorded.close()
        self._cache.save()
        oldest = time.time() - _LEFTOVER_AGE_S
        elsewhere = (p for folder in (self._folder, self._storage) for p in folder.iterdir() if _is_temporary(p.name))
        for path in (*self._staging.iterdir(), *elsewhere, *self._temporaries):
            try:
                if path.stat().st_mtime < oldest:
                    path.unlink()
                    _logger.info("Removed %s, which an interrupted upload had left.", path.name)
            except FileNotFoundError:
                continue
            except OSError as error:
                _logger.warning("%s is left from an interrupted upload and cannot be removed: %s", path.name, error)

    def _record(self, drafts: Sequence[Draft | Unchanged], progress: Progress) -> None:
        """Record the files that have no record."""
        missing = [(d, filename) for d in drafts if isinstance(d, Draft) for filename in d.unrecorded]
        read = self._unrecorded.read((d.folder.name, f"{d.folder.path}/{filename}") for d, filename in missing)
        for draft, filename in missing:
            progress(self._scanned, draft.folder.name)
            one = next(read)
            self._scanned += one.file is not None
            for written in one.written:  # first, so that they are removed if anything fails
                self._records.add(written)
            shown = f"{draft.folder.name}/{filename}"
            draft.problems.extend(f"{shown} is published all the same: {note}" for note in one.notes)
            if one.fault is not None:
                draft.problems.append(f"{shown} is left out: {one.fault}")
            if one.file is not None:
                draft.files[filename] = CachedFile(one.file, draft.seen(filename))

    def _finished(self, draft: Draft | Unchanged, placed: Mapping[str, Status | None]) -> ScannedProject | None:
        """Return the project, and put it into the cache."""
        if isinstance(draft, Unchanged):
            self._cache.keep(draft.entry)
            cached = draft.entry.project
            project = Project(name=cached.name, files=tuple([one.file for one in cached.files]))
            return ScannedProject(project, duplicates=cached.duplicates)
        files, kept = [], []
        for filename, one in sorted(draft.files.items()):
            if filename not in draft.read:
                files.append(one.file)
                kept.append(one)
                continue
            record = f"{draft.folder.path}/{filename}{META_SUFFIX}"
            if record in placed and placed[record] is None:  # an upload of the same file was faster
                file = draft.folder.record(filename)
                if file is not None:
                    files.append(file)
                continue
            files.append(one.file)
            if (settled := self._settled(one, draft.folder.path, placed)) is not None:
                kept.append(settled)
        doubles = self._put(draft, kept, [file.filename for file in files])
        folder, listed = draft.folder, draft.listing.statuses
        status = folder.status(listed, draft.problems)
        present = {file.filename for file in files}
        deleted = tuple(one.file.filename for one in tombstones(folder.path, listed, present) if not one.is_free)
        if not files and status == ProjectStatus() and not draft.problems and not deleted:
            return None
        project = Project(name=folder.name, files=tuple(files)).with_status(status)
        return ScannedProject(project, tuple(draft.problems), deleted, doubles)

    def _put(self, draft: Draft, kept: list[CachedFile], names: list[str]) -> tuple[tuple[str, ...], ...]:
        """Put a project's files into the cache. Return the groups of `names` that mean the same distribution."""
        cached = draft.cached
        if cached is not None and [one.file.filename for one in cached.files] == names:
            doubles = cached.duplicates
        else:
            doubles = tuple(duplicates(draft.folder.name, names))
        if kept:
            self._cache.put(CachedProject(draft.folder.name, tuple(kept), doubles))
        return doubles

    def _settled(self, one: CachedFile, folder: Path, placed: Mapping[str, Status | None]) -> CachedFile | None:
        """Return a file that was read now with what was seen of it; None if it may change without a change of that."""
        seen = list(one.seen)
        if one.file.metadata_sha256 is None and one.file.filename.endswith(".whl"):
            return None  # somebody may put its core metadata there
        if seen[0] is None or one.file.stamp != f"{seen[0][0]}:{seen[0][2]}" or not self._cache.is_settled(seen[0]):
            return None
        for number, suffix in enumerate((META_SUFFIX, METADATA_SUFFIX), 1):
            path = f"{folder}/{one.file.filename}{suffix}"
            ours = placed.get(path)
            if ours is not None and (number == 1 or one.seen[1] is not None):
                # We wrote it before it got its name, and the name changed only its last time.
                now = seen[number] = status_of(os.stat(path))  # noqa: PTH116 - one of many
                if now[:3] != ours[:3]:
                    return None
            elif (other := seen[number]) is not None and not self._cache.is_settled(other):
                return None
        return CachedFile(one.file, (seen[0], seen[1], seen[2]))


def _is_temporary(name: str) -> bool:
    return name.startswith(".") and name.endswith(_TEMPORARY)
