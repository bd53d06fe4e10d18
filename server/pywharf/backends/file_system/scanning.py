"""Scan a file_system repo: read what has changed since the last scan, and record files that have no record.

Blocking; call it in a thread.
"""

import contextlib
import functools
import hashlib
import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import msgspec

from pywharf.backends.file_system.changing import FileChanger
from pywharf.backends.file_system.journal import FileJournal
from pywharf.backends.file_system.new_records import NewRecords, write_new
from pywharf.backends.file_system.project_folder import (
    SMALL,
    STATUS_FILENAME,
    UNRECORDED,
    Listing,
    ProjectFolder,
    listing,
)
from pywharf.backends.file_system.scan_cache import CachedFile, CachedProject, CacheEntry, ScanCache
from pywharf.backends.file_system.stamp import Status, digest_of, stamp_of, status_of
from pywharf.backends.file_system.tombstones import META_SUFFIX, FileDeletedError, tombstones
from pywharf.backends.file_system.unrecorded import UnrecordedReader
from pywharf.core.archive import read_metadata
from pywharf.core.errors import InvalidConfigError, InvalidInputError
from pywharf.core.filenames import METADATA_SUFFIX, parse_upload_filename
from pywharf.core.identity import duplicates
from pywharf.core.model import File, Project, ProjectStatus
from pywharf.core.names import ProjectName, normalize
from pywharf.core.toml_text import dumps_flat
from pywharf.index.codecs import meta_of
from pywharf.index.ports import Progress, ScannedProject

_LEFTOVER_AGE_S = 24 * 3600
"""Age of temporary files in seconds after which no upload can still be running, so a crash left them behind."""
_TEMPORARY = ".tmp"
_logger = logging.getLogger(__name__)


class _Unchanged(msgspec.Struct, gc=False):
    """A project with nothing new since the last scan."""

    entry: CacheEntry


class _Draft(msgspec.Struct):
    """A project that was scanned, before the new records of its batch are in their places."""

    folder: ProjectFolder
    listing: Listing
    cached: CachedProject | None
    files: dict[str, CachedFile]
    """By name."""
    read: set[str]
    """The names of files that had to be read, because the cache does not have their status."""
    unrecorded: list[str]
    """The names of files that have no record."""
    problems: list[str]


class StorageScan:
    """One scan of a repo's storage. Use it as a context, and call `finish` after all projects were read."""

    def __init__(self, folder: Path, journal: FileJournal, changer: FileChanger) -> None:
        self._journal = journal
        self._changer = changer
        self._folder = folder
        self._storage = folder / "storage"
        self._staging = folder / "staging"
        self._cache = ScanCache(folder)
        self._records = NewRecords(self._staging, folder / "lock")
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
        drafts: list[_Draft | _Unchanged] = []
        for name in names:
            progress(self._scanned, name)
            draft = self._draft(name)
            drafts.append(draft)
            self._scanned += len(draft.entry.project.files if isinstance(draft, _Unchanged) else draft.files)
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

    def _draft(self, name: ProjectName) -> _Draft | _Unchanged:
        listed = listing(f"{self._storage}/{name}")
        if listed.hidden:
            self._temporaries += (self._storage / name / one for one in listed.hidden if _is_temporary(one))
        entry = self._cache.take(name)
        if entry is not None and _is_unchanged(entry.project, listed):
            return _Unchanged(entry)
        cached = entry.project if entry is not None else None
        known = {one.file.filename: one for one in cached.files} if cached is not None else {}
        draft = _Draft(ProjectFolder(self._storage, name), listed, cached, {}, set(), [], [])
        for filename in listed.distributions:
            one = known.get(filename)
            try:
                if one is None or one.seen != _seen(draft, filename, with_metadata=one.seen[2] is not None):
                    draft.read.add(filename)
                    one = self._read_file(draft, filename, one)
                draft.files[filename] = one
            except FileDeletedError:
                self._finish_deletion(draft, filename)
            except FileNotFoundError:
                draft.unrecorded.append(filename)  # or removed meanwhile
            except UNRECORDED as error:
                draft.problems.append(f"{name}/{filename} is left out: {error}")
        return draft

    def _read_file(self, draft: _Draft, filename: str, known: CachedFile | None) -> CachedFile:
        """Read a file's record. Raises FileNotFoundError if it has none."""
        path = draft.folder.path / filename
        seen = _seen(draft, filename, with_metadata=False)
        try:
            recorded = draft.folder.recorded(filename)
        except FileDeletedError:
            raise
        except (FileNotFoundError, *UNRECORDED):
            if (restored := self._restored(draft.folder, path)) is None:
                raise
            return CachedFile(restored, seen)
        file = _confirmed(path, recorded, known)
        if file.metadata_sha256 is None and filename.endswith(".whl"):  # the original did not record it
            seen = _seen(draft, filename, with_metadata=True)
            file = self._with_metadata(draft, file)
        return CachedFile(file, seen)

    def _finish_deletion(self, draft: _Draft, filename: str) -> None:
        """Remove a file that a killed deletion left."""
        try:
            self._changer.finish_deletion(draft.folder.name, filename)
        except UNRECORDED as error:
            draft.problems.append(f"{draft.folder.name}/{filename} is left out: {error}")

    def _record(self, drafts: Sequence[_Draft | _Unchanged], progress: Progress) -> None:
        """Record the files that have no record."""
        missing = [(d, filename) for d in drafts if isinstance(d, _Draft) for filename in d.unrecorded]
        read = self._unrecorded.read((draft.folder.name, draft.folder.path / filename) for draft, filename in missing)
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
                draft.files[filename] = CachedFile(one.file, _seen(draft, filename, with_metadata=False))

    def _restored(self, folder: ProjectFolder, path: Path) -> File | None:
        """Write a record again that a power cut has emptied, while the journal has it. Return None for any other."""
        record = path.with_name(path.name + META_SUFFIX)
        with contextlib.suppress(FileNotFoundError), record.open("rb") as opened:
            if opened.read(SMALL).strip(b"\0"):
                return None  # somebody has edited it
        file = self._journaled.get((folder.name, path.name))
        if file is None or file.stamp != stamp_of(path.stat()):
            return None
        self._records.add(
            write_new(self._staging, str(record), dumps_flat(meta_of(folder.name, file)).encode(), replaces=True)
        )
        return file

    @functools.cached_property
    def _journaled(self) -> dict[tuple[ProjectName, str], File]:
        """The latest record of each file that the journal has."""
        found: dict[tuple[ProjectName, str], File] = {}
        for entry in self._journal.read(None).entries:
            if entry.file is not None:
                found[entry.project, entry.file.filename] = entry.file
            elif entry.deletion is not None:
                found.pop((entry.project, entry.deletion.filename), None)
        return found

    def _with_metadata(self, draft: _Draft, file: File) -> File:
        """Add the digest of the core metadata to a record."""
        folder = draft.folder
        path = folder.path / (file.filename + METADATA_SUFFIX)
        if path.name in draft.listing.statuses:
            raw = folder.read_metadata(file.filename)
        else:
            try:
                parsed = parse_upload_filename(file.filename)
                with (folder.path / file.filename).open("rb") as stream:
                    raw = read_metadata(stream, parsed)
            except InvalidInputError:
                return file  # served without core metadata, as in the original
            self._records.add(write_new(self._staging, str(path), raw, replaces=True))
        return msgspec.structs.replace(file, metadata_sha256=hashlib.sha256(raw).hexdigest())

    def _finished(self, draft: _Draft | _Unchanged, placed: Mapping[str, Status | None]) -> ScannedProject | None:
        """Return the project, and put it into the cache."""
        if isinstance(draft, _Unchanged):
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

    def _put(self, draft: _Draft, kept: list[CachedFile], names: list[str]) -> tuple[tuple[str, ...], ...]:
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
                now = seen[number] = status_of(Path(path).stat())
                if now[:3] != ours[:3]:
                    return None
            elif (other := seen[number]) is not None and not self._cache.is_settled(other):
                return None
        return CachedFile(one.file, (seen[0], seen[1], seen[2]))


def _is_unchanged(cached: CachedProject, listed: Listing) -> bool:
    """Return whether the folder has the cached files alone, each as it was. Other folders are read file by file."""
    if not len(cached.files) == len(listed.distributions) == listed.records or STATUS_FILENAME in listed.statuses:
        return False
    statuses = listed.statuses
    for filename, one in zip(listed.distributions, cached.files, strict=True):
        file, record, metadata = one.seen
        if (
            one.file.filename != filename
            or metadata is not None
            or statuses[filename] != file
            or statuses.get(filename + META_SUFFIX) != record
        ):
            return False
    return True


def _seen(draft: _Draft, filename: str, *, with_metadata: bool) -> tuple[Status | None, Status | None, Status | None]:
    """Return the status of a file, of its record and, if wanted, of its core metadata."""
    metadata = None
    if with_metadata and filename + METADATA_SUFFIX in draft.listing.statuses:
        metadata = status_of((draft.folder.path / (filename + METADATA_SUFFIX)).stat())
    return draft.listing.statuses[filename], draft.listing.statuses.get(filename + META_SUFFIX), metadata


def _confirmed(path: Path, file: File, known: CachedFile | None) -> File:
    """Return a record with the current stamp of its file.

    Read the content if neither the record's stamp nor the one of the last scan confirms that it is the recorded one.
    Raises InvalidConfigError if it is not.
    """
    stamp = stamp_of(path.stat())
    if file.stamp == stamp:
        return file
    if known is None or (known.file.stamp, known.file.sha256) != (stamp, file.sha256):
        with path.open("rb") as opened:
            digest = digest_of(opened)
        if digest != file.sha256:
            raise InvalidConfigError(
                f"its SHA-256 is {digest}, its record says {file.sha256}: another file was put in its place. "
                "Put the published one back, or remove its .meta file to publish what lies there."
            )
    return msgspec.structs.replace(file, stamp=stamp)


def _is_temporary(name: str) -> bool:
    return name.startswith(".") and name.endswith(_TEMPORARY)
