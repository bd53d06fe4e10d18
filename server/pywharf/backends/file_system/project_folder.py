"""A project's folder in a file_system repo: its files, their records, its status. Blocking; call it in a thread."""

import hashlib
import os
import stat
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

import msgspec

from pywharf.backends.file_system.checked_files import CheckedFiles
from pywharf.backends.file_system.stamp import digest_of, stamp_of
from pywharf.backends.file_system.tombstones import META_SUFFIX, FileDeletedError, tombstones
from pywharf.core.archive import read_metadata
from pywharf.core.distribution import read_distribution, record_of
from pywharf.core.errors import InvalidConfigError, InvalidInputError
from pywharf.core.filenames import METADATA_SUFFIX, extension_of, parse_upload_filename
from pywharf.core.metadata import MAX_METADATA_BYTES
from pywharf.core.model import File, Project, ProjectStatus, rfc3339
from pywharf.core.names import ProjectName
from pywharf.core.toml_text import dumps
from pywharf.disk.durable import write_atomically
from pywharf.index.codecs import file_from_meta, meta_of, parse_meta, parse_status
from pywharf.index.limits import MAX_RECORD_BYTES, MAX_STATUS_BYTES, fault_of
from pywharf.index.ports import ScannedProject
from pywharf.index.tombstones import Tombstone, is_deleted

STATUS_FILENAME = ".status.toml"
"""Name of the file that holds the project's status (PEP 792)."""
_UNRECORDED = (FileDeletedError, InvalidConfigError, InvalidInputError, UnicodeDecodeError)
"""Errors raised for an unusable record, or for an unusable file without a record."""


class ProjectFolder:
    """A folder `storage/<project>`, which may appear, change and disappear at any time."""

    def __init__(self, storage: Path, name: ProjectName) -> None:
        self._path = storage / name
        self._name = name

    def find(self) -> Project | None:
        """Return the project with its recorded files; None if the folder has no files, deleted names or status at all.

        A file without a record is not listed, but from the moment it exists the project's name belongs to the repo.
        """
        listed = self._listed()
        names = distributions(listed)
        if not names and STATUS_FILENAME not in listed and not self.tombstones(listed):
            return None
        files = []
        for filename in names:
            try:
                files.append(self._recorded(filename))
            except (FileNotFoundError, *_UNRECORDED):
                continue  # not published yet, or left for update_index to repair
        return Project(name=self._name, files=tuple(files)).with_status(self._status(listed, []))

    def find_file(self, filename: str) -> Project | None:
        """Return the project with only that file; None if it is not recorded. Other files add no cost."""
        if "/" in filename or "\0" in filename or not distributions({filename}):
            return None
        try:
            file = self._recorded(filename)
        except (FileNotFoundError, NotADirectoryError, *_UNRECORDED):
            return None
        has_status = (self._path / STATUS_FILENAME).exists()
        status = self._status({STATUS_FILENAME} if has_status else set(), [])
        return Project(name=self._name, files=(file,)).with_status(status)

    def record(self, filename: str) -> File | None:
        """Return the record of a file that exists; None if there is no usable record."""
        try:
            return self._recorded(filename)
        except (FileNotFoundError, *_UNRECORDED):
            return None

    def status(self) -> ProjectStatus:
        """Return the project's status; without a usable status file, see `find`."""
        return self._status(self._listed(), [])

    def tombstones(self, listed: Collection[str] | None = None) -> list[Tombstone]:
        """Return the records of deleted files that are gone, sorted by name."""
        listed = self._listed() if listed is None else listed
        return list(tombstones(self._path, listed, listed))

    def scan(self, finish_deletion: Callable[[str], None]) -> ScannedProject | None:
        """Scan the whole folder and write missing records. Return None if there is nothing to report.

        `finish_deletion` is called with the name of each file that was deleted and is still there. It raises
        InvalidConfigError if the file cannot be removed.
        """
        listed = self._listed()
        files: list[File] = []
        problems: list[str] = []
        checked = CheckedFiles(self._path)
        for filename in distributions(listed):
            try:
                try:
                    file = checked.current(self._recorded_or_adopted(filename, problems))
                except FileDeletedError:
                    finish_deletion(filename)
                    continue
                files.append(self._with_metadata(file, listed))
            except FileNotFoundError:
                continue  # removed meanwhile
            except _UNRECORDED as error:
                problems.append(f"{self._name}/{filename} is left out: {error}")
        checked.save()
        status = self._status(listed, problems)
        present = {file.filename for file in files}
        deleted = tuple(one.file.filename for one in tombstones(self._path, listed, present) if not one.is_free)
        if not files and status == ProjectStatus() and not problems and not deleted:
            return None
        project = Project(name=self._name, files=tuple(files)).with_status(status)
        return ScannedProject(project, tuple(problems), deleted)

    def _listed(self) -> set[str]:
        try:
            with os.scandir(self._path) as entries:
                return {entry.name for entry in entries}
        except (FileNotFoundError, NotADirectoryError):
            return set()

    def _status(self, listed: Collection[str], problems: list[str]) -> ProjectStatus:
        if STATUS_FILENAME not in listed:
            return ProjectStatus()
        try:
            text = _read(self._path / STATUS_FILENAME, MAX_STATUS_BYTES).decode("utf-8")
            return parse_status(text, f"{self._name}/{STATUS_FILENAME}")
        except _UNRECORDED as error:
            # Fail closed: files that may be quarantined stay hidden from clients until someone repairs the status file.
            problems.append(str(error))
            return ProjectStatus("quarantined", "its status file cannot be read")

    def _recorded_or_adopted(self, filename: str, problems: list[str]) -> File:
        try:
            return self._recorded(filename)
        except FileNotFoundError:
            return self._adopt(filename, problems)

    def _recorded(self, filename: str) -> File:
        """Return a file's record from its sidecar. What the original did not record is read from the storage."""
        path = self._path / filename
        sidecar = filename + META_SUFFIX
        text = _read(path.with_name(sidecar), MAX_RECORD_BYTES).decode("utf-8")
        meta = parse_meta(text, f"{self._name}/{sidecar}")
        if is_deleted(meta):
            raise FileDeletedError("it was deleted.")
        file = _within_limits(file_from_meta(filename, meta))
        status = _regular(path)
        if file.size is not None and file.size != status.st_size:
            raise InvalidConfigError(f"it has {status.st_size} bytes, its record says {file.size}.")
        return file.completed(size=status.st_size, upload_time=rfc3339(status.st_mtime))

    def _adopt(self, filename: str, problems: list[str]) -> File:
        """Check and record a file that was put there without a sidecar, by hand or by a crashed upload."""
        path = self._path / filename
        parsed = parse_upload_filename(filename)
        if parsed.project != self._name:
            raise InvalidConfigError(f"it belongs into the folder {parsed.project!r}.")
        _regular(path)
        with path.open("rb") as stream:
            read = read_distribution(stream, parsed)
            status = os.fstat(stream.fileno())  # before the digest is taken: a file changed later has a different stamp
            digest = digest_of(stream)
        problems.extend(f"{self._name}/{filename} is published all the same: {note}" for note in read.notes)
        file = _within_limits(
            record_of(read, sha256=digest, size=status.st_size, uploaded_at=status.st_mtime, stamp=stamp_of(status))
        )
        if read.offered_metadata is not None:
            write_atomically(path.with_name(filename + METADATA_SUFFIX), read.offered_metadata)
        write_atomically(path.with_name(filename + META_SUFFIX), dumps(meta_of(self._name, file)).encode())
        return file

    def _with_metadata(self, file: File, listed: set[str]) -> File:
        """Add the digest of the core metadata to a record. The original did not record it."""
        if file.metadata_sha256 is not None or not file.filename.endswith(".whl"):
            return file
        path = self._path / (file.filename + METADATA_SUFFIX)
        if path.name in listed:
            raw = _read(path, MAX_METADATA_BYTES)
        else:
            try:
                parsed = parse_upload_filename(file.filename)
                with (self._path / file.filename).open("rb") as stream:
                    raw = read_metadata(stream, parsed)
            except InvalidInputError:
                return file  # served without core metadata, as in the original
            write_atomically(path, raw)
        return msgspec.structs.replace(file, metadata_sha256=hashlib.sha256(raw).hexdigest())


def _read(path: Path, most: int) -> bytes:
    """Read a small file completely. Raises InvalidConfigError if it has more than `most` bytes."""
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise InvalidConfigError(
            f"{path.name} has more than {most} bytes, which are allowed at most; shorten or remove it."
        )
    return content


def _within_limits(file: File) -> File:
    """Return the record. Raises InvalidConfigError if a text of it is too long."""
    if (fault := fault_of(file)) is not None:
        raise InvalidConfigError(fault)
    return file


def _regular(path: Path) -> os.stat_result:
    """Return a file's status. Raises InvalidConfigError for a folder, pipe or device: opening it may fail or block."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise InvalidConfigError("it is no regular file.")
    return status


def distributions(listed: Iterable[str]) -> list[str]:
    """Return the names in `listed` that are file names of distributions, sorted."""
    return sorted(name for name in listed if not name.startswith(".") and extension_of(name) is not None)
