"""The parts of an index: files and projects."""

import bisect
from collections.abc import Iterable
from datetime import UTC, datetime
from operator import attrgetter

import msgspec

from pywharf.core.names import ProjectName

_filename = attrgetter("filename")
STATUSES = ("active", "archived", "quarantined", "deprecated")
"""Project statuses of PEP 792."""


class File(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One published file. A field that the original did not record is None until it is read from the storage."""

    filename: str
    sha256: str
    """Hex digest of the content."""
    size: int | None = None
    """Size in bytes."""
    upload_time: str | None = None
    """RFC 3339 in UTC, for example 2026-11-22T18:09:00.000000Z (PEP 700)."""
    requires_python: str | None = None
    metadata_sha256: str | None = None
    """Hex digest of the core metadata file beside it; None if there is none (PEP 658, PEP 714)."""
    yanked: str | None = None
    """The reason for yanking the file, possibly empty; None if it is not yanked (PEP 592)."""
    location: str | None = None
    """Where the backend keeps the content, if that does not follow from the names."""
    stamp: str | None = None
    """Identifies the stored file whose digest was computed, because another file may have replaced it since."""
    revision: int = 0
    """The number of changes to the record since the upload. Of two records of a file, the higher revision counts."""
    provenance: str | None = None
    """URL of another index's attestations (PEP 740); own files have none."""

    def completed(self, *, size: int, upload_time: str | None) -> "File":
        """Return a copy with the stored file's size and, if none was recorded, with that upload time."""
        return msgspec.structs.replace(self, size=size, upload_time=self.upload_time or upload_time)


class Deletion(msgspec.Struct, frozen=True):
    """A file that was deleted. Its name stays taken."""

    filename: str
    revision: int
    """Continues the revisions of the file's record, so that an older record does not bring the file back."""


class ProjectStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    """A project's status (PEP 792)."""

    status: str = "active"
    reason: str | None = None
    revision: int = 0
    """The number of changes to the status. Of two statuses of a project, the higher revision counts."""


class Project(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One project's files, sorted by name, and its status (PEP 792)."""

    name: ProjectName
    files: tuple[File, ...] = ()
    status: str = "active"
    status_reason: str | None = None
    status_revision: int = 0

    @property
    def offers_files(self) -> bool:
        """Whether files may be listed and downloaded."""
        return self.status != "quarantined"

    @property
    def takes_uploads(self) -> bool:
        """Whether new files may be published."""
        return self.status not in {"quarantined", "archived"}

    def file(self, filename: str) -> File | None:
        """Return the file of that name, or None."""
        at = bisect.bisect_left(self.files, filename, key=_filename)
        return self.files[at] if at < len(self.files) and self.files[at].filename == filename else None

    def with_files(self, files: Iterable[File]) -> "Project":
        """Return a copy with `files` added. An added file replaces a file of the same name."""
        merged = {f.filename: f for f in self.files} | {f.filename: f for f in files}
        return msgspec.structs.replace(self, files=tuple(merged[name] for name in sorted(merged)))

    def with_changes(self, changes: Iterable[File | Deletion], status: ProjectStatus | None = None) -> "Project":
        """Return a copy with newer records and without deleted files; what has a lower revision is ignored."""
        merged = {f.filename: f for f in self.files}
        for change in changes:
            known = merged.get(change.filename)
            if known is not None and known.revision > change.revision:
                continue
            if isinstance(change, File):
                merged[change.filename] = change
            else:
                merged.pop(change.filename, None)
        project = msgspec.structs.replace(self, files=tuple(merged[name] for name in sorted(merged)))
        return project if status is None else project.with_status(status)

    def with_status(self, status: ProjectStatus) -> "Project":
        """Return a copy with the status, unless its own has a higher revision."""
        if status.revision < self.status_revision:
            return self
        return msgspec.structs.replace(
            self, status=status.status, status_reason=status.reason, status_revision=status.revision
        )


def rfc3339(seconds: float) -> str:
    """Format Unix seconds as a time of the Simple API (PEP 700).

    >>> rfc3339(1.5)
    '1970-01-01T00:00:01.500000Z'
    """
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
