"""The record of a deleted file, in the form of a `.meta` sidecar or a release's body. Pure.

A deleted name stays taken, so its record stays: the last record with `deleted`, the time, and with `freed` if the name
may be published again.
"""

from collections.abc import Mapping

import msgspec

from pywharf.core.model import Deletion, File
from pywharf.core.names import ProjectName
from pywharf.index.sidecars import file_from_meta, meta_of

_DELETED = "deleted"
_FREED = "freed"
_TRUE = "true"
_NO_DIGEST = "0" * 64
CHANGING_KEYS = frozenset({"yanked", _DELETED, _FREED})
"""Keys of a record that a change may remove. Other keys that are not in the new record are kept."""


class Tombstone(msgspec.Struct, frozen=True):
    """The record of a deleted file."""

    file: File
    """The last record, with the deletion's revision. Its stamp or digest identifies content that is left to remove."""
    deleted: str
    """The time of the deletion (RFC 3339)."""
    is_free: bool = False
    """Whether the name may be published again."""

    @property
    def deletion(self) -> Deletion:
        """Return the deletion for the journal."""
        return Deletion(self.file.filename, self.file.revision)


def reserved(filename: str, deleted: str) -> Tombstone:
    """Return the record of a name that is taken although the storage never had its file. No content has its digest."""
    return Tombstone(File(filename=filename, sha256=_NO_DIGEST, revision=1), deleted)


def is_deleted(meta: Mapping[str, str]) -> bool:
    """Return whether flat strings are those of a deleted file."""
    return _DELETED in meta


def meta_of_deleted(project: ProjectName, tombstone: Tombstone) -> dict[str, str]:
    """Return the flat strings of a deleted file's record."""
    meta = meta_of(project, tombstone.file) | {_DELETED: tombstone.deleted}
    return meta | {_FREED: _TRUE} if tombstone.is_free else meta


def tombstone_from_meta(filename: str, meta: Mapping[str, str]) -> Tombstone | None:
    """Return a deleted file's record; None if the flat strings are those of a file that is there.

    Raises InvalidConfigError if `sha256` is missing or malformed.
    """
    if not is_deleted(meta):
        return None
    return Tombstone(file_from_meta(filename, meta), meta[_DELETED], meta.get(_FREED) == _TRUE)
