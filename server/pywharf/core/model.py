"""What an index is made of: files, projects."""

import bisect
from collections.abc import Iterable
from operator import attrgetter

import msgspec

from pywharf.core.names import ProjectName

_filename = attrgetter("filename")
STATUSES = ("active", "archived", "quarantined", "deprecated")
"""Project statuses of PEP 792."""


class File(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One published file. What the original did not record is None until the storage has been asked."""

    filename: str
    sha256: str
    """Hex digest of the content."""
    size: int | None = None
    """Bytes."""
    upload_time: str | None = None
    """RFC 3339 in UTC, for example 2026-11-22T18:09:00.000000Z (PEP 700)."""
    requires_python: str | None = None
    metadata_sha256: str | None = None
    """Hex digest of the core metadata file beside it; None where there is none (PEP 658, PEP 714)."""
    yanked: str | None = None
    """The reason, possibly empty, why it was yanked; None where it is not (PEP 592)."""
    location: str | None = None
    """Where the backend keeps the content, where that does not follow from the names."""
    stamp: str | None = None
    """What the stored content's file was like when its digest was taken: another one may have taken its place since."""


class Project(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One project's files, sorted by name, and its status (PEP 792)."""

    name: ProjectName
    files: tuple[File, ...] = ()
    status: str = "active"
    status_reason: str | None = None

    @property
    def offers_files(self) -> bool:
        """Whether files may be listed and downloaded."""
        return self.status != "quarantined"

    @property
    def takes_uploads(self) -> bool:
        """Whether new files may be published."""
        return self.status not in {"quarantined", "archived"}

    def file(self, filename: str) -> File | None:
        """The file of that name, if there is one."""
        at = bisect.bisect_left(self.files, filename, key=_filename)
        return self.files[at] if at < len(self.files) and self.files[at].filename == filename else None

    def with_files(self, files: Iterable[File]) -> "Project":
        """A copy to which `files` are added; of equal names the added one stays."""
        merged = {f.filename: f for f in self.files} | {f.filename: f for f in files}
        return msgspec.structs.replace(self, files=tuple(merged[name] for name in sorted(merged)))
