"""Scan one project's folder: compare it with the scan cache, and read the records of the files that have changed.

Blocking; call it in a thread.
"""

import contextlib
import functools
import hashlib
import os
from pathlib import Path

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
from pywharf.backends.file_system.scan_cache import CachedFile, CachedProject, CacheEntry, Seen
from pywharf.backends.file_system.stamp import digest_of, stamp_of, status_of
from pywharf.backends.file_system.tombstones import META_SUFFIX, FileDeletedError
from pywharf.core.archive import read_metadata
from pywharf.core.errors import InvalidConfigError, InvalidInputError
from pywharf.core.filenames import METADATA_SUFFIX, parse_upload_filename
from pywharf.core.model import File
from pywharf.core.names import ProjectName
from pywharf.core.toml_text import dumps_flat
from pywharf.index.sidecars import meta_of


class Unchanged(msgspec.Struct, gc=False):
    """A project with nothing new since the last scan."""

    entry: CacheEntry
    hidden: list[str]
    """The names of hidden files in its folder."""


class Draft(msgspec.Struct):
    """A project that was scanned, before the new records of its batch are in their places."""

    folder: ProjectFolder
    listing: Listing
    cached: CachedProject | None
    files: dict[str, CachedFile] = {}
    """By name."""
    read: set[str] = set()
    """The names of files that had to be read, because the cache does not have their status."""
    unrecorded: list[str] = []
    """The names of files that have no record."""
    problems: list[str] = []

    @property
    def hidden(self) -> list[str]:
        """The names of hidden files in its folder."""
        return self.listing.hidden

    def seen(self, filename: str, *, with_metadata: bool = False) -> Seen:
        """Return the status of a file, of its record and, if wanted, of its core metadata."""
        statuses, metadata = self.listing.statuses, None
        if with_metadata and filename + METADATA_SUFFIX in statuses:
            metadata = status_of((self.folder.path / (filename + METADATA_SUFFIX)).stat())
        return statuses[filename], statuses.get(filename + META_SUFFIX), metadata


class ProjectScanner:
    """A scanner of a repo's projects, one by one. New records are added to `records`."""

    def __init__(
        self, storage: Path, staging: Path, journal: FileJournal, changer: FileChanger, records: NewRecords
    ) -> None:
        self._storage = storage
        self._prefix = f"{storage}/"
        self._staging = str(staging)
        self._journal = journal
        self._changer = changer
        self._records = records

    def scan(self, name: ProjectName, entry: CacheEntry | None) -> Draft | Unchanged:
        """Scan a project, whose entry in the cache is `entry`. Raises OSError."""
        listed = listing(self._prefix + name)
        if entry is not None and _is_unchanged(entry.project, listed):
            return Unchanged(entry, listed.hidden)
        cached = entry.project if entry is not None else None
        known = {one.file.filename: one for one in cached.files} if cached is not None else {}
        draft = Draft(ProjectFolder(self._storage, name), listed, cached)
        for filename in listed.distributions:
            one = known.get(filename)
            try:
                if one is None or one.seen != draft.seen(filename, with_metadata=one.seen[2] is not None):
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

    def _read_file(self, draft: Draft, filename: str, known: CachedFile | None) -> CachedFile:
        """Read a file's record. Raises FileNotFoundError if it has none."""
        seen = draft.seen(filename)
        if filename + META_SUFFIX not in draft.listing.statuses:
            if (restored := self._restored(draft.folder, filename)) is None:
                raise FileNotFoundError
            return CachedFile(restored, seen)
        try:
            recorded = draft.folder.recorded(filename)
        except FileDeletedError:
            raise
        except (FileNotFoundError, *UNRECORDED):
            if not self._is_emptied(draft.folder, filename):  # somebody has edited it
                raise
            if (restored := self._restored(draft.folder, filename)) is None:
                raise
            return CachedFile(restored, seen)
        file = _confirmed(draft.folder.path / filename, recorded, known)
        if file.metadata_sha256 is None and filename.endswith(".whl"):  # the original did not record it
            seen = draft.seen(filename, with_metadata=True)
            file = self._with_metadata(draft, file)
        return CachedFile(file, seen)

    def _finish_deletion(self, draft: Draft, filename: str) -> None:
        """Remove a file that a killed deletion left."""
        try:
            self._changer.finish_deletion(draft.folder.name, filename)
        except UNRECORDED as error:
            draft.problems.append(f"{draft.folder.name}/{filename} is left out: {error}")

    @staticmethod
    def _is_emptied(folder: ProjectFolder, filename: str) -> bool:
        """Return whether a file's record has no text: a power cut leaves it empty, of zeros, or missing."""
        with contextlib.suppress(FileNotFoundError), (folder.path / (filename + META_SUFFIX)).open("rb") as opened:
            return not opened.read(SMALL).strip(b"\0")
        return True

    def _restored(self, folder: ProjectFolder, filename: str) -> File | None:
        """Write a record that a power cut has emptied or removed again, as the journal has it; None if it has not."""
        file = self._journaled.get((folder.name, filename))
        path = f"{folder.path}/{filename}"
        if file is None or file.stamp != stamp_of(os.stat(path)):  # noqa: PTH116 - one of many
            return None
        record = dumps_flat(meta_of(folder.name, file)).encode()
        self._records.add(write_new(self._staging, path + META_SUFFIX, record, replaces=True))
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

    def _with_metadata(self, draft: Draft, file: File) -> File:
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


def _is_unchanged(cached: CachedProject, listed: Listing) -> bool:
    """Return whether the folder has the cached files alone, each as it was. Other folders are read file by file."""
    statuses = listed.statuses
    if not len(cached.files) == len(listed.distributions) == listed.records or STATUS_FILENAME in statuses:
        return False
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
