"""A project's folder in a file_system repo: its files, their records, its status. Blocking; call it in a thread."""

import hashlib
import os
import stat
from collections.abc import Collection, Container, Iterable
from pathlib import Path

import msgspec

from pywharf.backends.file_system.stamp import Status
from pywharf.backends.file_system.tombstones import META_SUFFIX, FileDeletedError, tombstones
from pywharf.core.archive import read_metadata
from pywharf.core.errors import InvalidConfigError, InvalidInputError
from pywharf.core.filenames import METADATA_SUFFIX, is_distribution, parse_upload_filename
from pywharf.core.metadata import MAX_METADATA_BYTES
from pywharf.core.model import File, Project, ProjectStatus, rfc3339
from pywharf.core.names import ProjectName
from pywharf.disk.durable import write_atomically
from pywharf.index.limits import MAX_RECORD_BYTES, MAX_STATUS_BYTES, fault_of
from pywharf.index.sidecars import file_from_meta, parse_meta, parse_status
from pywharf.index.tombstones import Tombstone, is_deleted

STATUS_FILENAME = ".status.toml"
"""Name of the file that holds the project's status (PEP 792)."""
SMALL = 4_096
"""Bytes of a file that a power cut leaves whole, empty, or not at all, if it was not synced."""
UNRECORDED = (FileDeletedError, InvalidConfigError, InvalidInputError, UnicodeDecodeError)
"""Errors raised for an unusable record, or for an unusable file without a record."""


class ProjectFolder:
    """A folder `storage/<project>`, which may appear, change and disappear at any time."""

    def __init__(self, storage: Path, name: ProjectName) -> None:
        self.path = storage / name
        self.name = name

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
                files.append(self.recorded(filename))
            except (FileNotFoundError, *UNRECORDED):
                continue  # not published yet, or left for update_index to repair
        return Project(name=self.name, files=tuple(files)).with_status(self.status(listed))

    def find_file(self, filename: str) -> Project | None:
        """Return the project with only that file; None if it is not recorded. Other files add no cost."""
        if "/" in filename or "\0" in filename or not distributions({filename}):
            return None
        try:
            file = self.recorded(filename)
        except (FileNotFoundError, NotADirectoryError, *UNRECORDED):
            return None
        has_status = (self.path / STATUS_FILENAME).exists()
        status = self.status({STATUS_FILENAME} if has_status else set())
        return Project(name=self.name, files=(file,)).with_status(status)

    def record(self, filename: str) -> File | None:
        """Return the record of a file that exists; None if there is no usable record."""
        try:
            return self.recorded(filename)
        except (FileNotFoundError, *UNRECORDED):
            return None

    def tombstones(self, listed: Collection[str] | None = None) -> list[Tombstone]:
        """Return the records of deleted files that are gone, sorted by name."""
        listed = self._listed() if listed is None else listed
        return list(tombstones(self.path, listed, listed))

    def _listed(self) -> set[str]:
        try:
            with os.scandir(self.path) as entries:
                return {entry.name for entry in entries}
        except (FileNotFoundError, NotADirectoryError):
            return set()

    def status(self, listed: Container[str] | None = None, problems: list[str] | None = None) -> ProjectStatus:
        """Return the project's status; "quarantined" if its file cannot be read. The reason is added to `problems`."""
        listed = self._listed() if listed is None else listed
        if STATUS_FILENAME not in listed:
            return ProjectStatus()
        try:
            text = _read(self.path / STATUS_FILENAME, MAX_STATUS_BYTES).decode("utf-8")
            return parse_status(text, f"{self.name}/{STATUS_FILENAME}")
        except UNRECORDED as error:
            # Fail closed: files that may be quarantined stay hidden from clients until someone repairs the status file.
            if problems is not None:
                problems.append(str(error))
            return ProjectStatus("quarantined", "its status file cannot be read")

    def read_metadata(self, filename: str) -> bytes:
        """Return a file's core metadata. Raises FileNotFoundError, InvalidConfigError if it is too long."""
        return _read(self.path / (filename + METADATA_SUFFIX), MAX_METADATA_BYTES)

    def restore_metadata(self, file: File) -> bytes | None:
        """Write a wheel's core metadata again, from the wheel. Return None if they are not those of the record."""
        try:
            parsed = parse_upload_filename(file.filename)
            with (self.path / file.filename).open("rb") as stream:
                raw = read_metadata(stream, parsed)
        except (FileNotFoundError, InvalidInputError):
            return None
        if hashlib.sha256(raw).hexdigest() != file.metadata_sha256:
            return None
        write_atomically(self.path / (file.filename + METADATA_SUFFIX), raw)
        return raw

    def recorded(self, filename: str) -> File:
        """Return a file's record from its sidecar. What the original did not record is read from the storage.

        Raises FileNotFoundError, or one of UNRECORDED.
        """
        path = self.path / filename
        sidecar = filename + META_SUFFIX
        text = _read(path.with_name(sidecar), MAX_RECORD_BYTES).decode("utf-8")
        meta = parse_meta(text, f"{self.name}/{sidecar}")
        if is_deleted(meta):
            raise FileDeletedError("it was deleted.")
        file = within_limits(file_from_meta(filename, meta))
        status = regular(path)
        if file.size is not None and file.size != status.st_size:
            raise InvalidConfigError(f"it has {status.st_size} bytes, its record says {file.size}.")
        return file.completed(size=status.st_size, upload_time=rfc3339(status.st_mtime))


class Listing(msgspec.Struct, gc=False):
    """The entries of a project's folder."""

    distributions: list[str]
    """Sorted."""
    statuses: dict[str, Status | None]
    """All entries; distributions and records with their status, if it can be read."""
    hidden: list[str]
    records: int = 0
    """The number of records, those of deleted files included."""


def listing(folder: str) -> Listing:
    """List a project's folder; a missing one is empty. A scan calls it for each project, so it does little per file."""
    listed = Listing([], {}, [])
    try:
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return listed
    statuses, found = listed.statuses, listed.distributions
    try:
        with os.scandir(opened) as entries:
            for entry in entries:
                name = entry.name
                statuses[name] = None
                if name[0] == ".":
                    listed.hidden.append(name)
                    continue
                if name.endswith(META_SUFFIX):
                    listed.records += 1
                elif not name.endswith(METADATA_SUFFIX) and is_distribution(name):
                    found.append(name)
                else:
                    continue
                try:
                    status = entry.stat()
                except OSError:  # removed meanwhile, or a link that leads nowhere
                    continue
                statuses[name] = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    finally:
        os.close(opened)
    found.sort()
    return listed


def _read(path: Path, most: int) -> bytes:
    """Read a small file completely. Raises InvalidConfigError if it has more than `most` bytes."""
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise InvalidConfigError(
            f"{path.name} has more than {most} bytes, which are allowed at most; shorten or remove it."
        )
    return content


def within_limits(file: File) -> File:
    """Return the record. Raises InvalidConfigError if a text of it is too long."""
    if (fault := fault_of(file)) is not None:
        raise InvalidConfigError(fault)
    return file


def regular(path: str | Path) -> os.stat_result:
    """Return a file's status. Raises InvalidConfigError for a folder, pipe or device: opening it may fail or block."""
    status = os.stat(path)  # noqa: PTH116 - a scan has no Path of it
    if not stat.S_ISREG(status.st_mode):
        raise InvalidConfigError("it is no regular file.")
    return status


def distributions(listed: Iterable[str]) -> list[str]:
    """Return the names in `listed` that are file names of distributions, sorted."""
    return sorted(name for name in listed if is_distribution(name) and not name.startswith("."))
