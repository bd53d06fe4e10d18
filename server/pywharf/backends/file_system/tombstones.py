"""Find the records of deleted files in a project's folder, and remove what is left of such files.

A tombstone is a `.meta` sidecar that says when its file was deleted. Usually the file is gone; if it is there, too, its
deletion was interrupted, or somebody put it there. Blocking; call it in a thread.
"""

import contextlib
from collections.abc import Container, Iterable, Iterator
from pathlib import Path

from pywharf.backends.file_system.stamp import digest_of, stamp_of
from pywharf.core.errors import InvalidConfigError, InvalidInputError
from pywharf.core.filenames import METADATA_SUFFIX, extension_of
from pywharf.disk.durable import fsync_folder
from pywharf.index.limits import MAX_RECORD_BYTES
from pywharf.index.sidecars import parse_meta
from pywharf.index.tombstones import Tombstone, tombstone_from_meta

META_SUFFIX = ".meta"


class FileDeletedError(Exception):
    """The record of a file says that it was deleted. No client sees this error."""


def tombstone_of(path: Path) -> Tombstone | None:
    """Return the tombstone of the file at `path`; None if its record is missing, unusable or that of a file."""
    try:
        with path.with_name(path.name + META_SUFFIX).open("rb") as opened:
            raw = opened.read(MAX_RECORD_BYTES + 1)
        if len(raw) > MAX_RECORD_BYTES:
            return None
        return tombstone_from_meta(path.name, parse_meta(raw.decode(), path.name))
    except (FileNotFoundError, NotADirectoryError, InvalidConfigError, InvalidInputError, UnicodeDecodeError):
        return None


def tombstones(folder: Path, listed: Iterable[str], present: Container[str]) -> Iterator[Tombstone]:
    """Yield the tombstones in `folder`, sorted by name. Records of files in `present` are not read."""
    names = (name.removesuffix(META_SUFFIX) for name in listed if name.endswith(META_SUFFIX) and name[0] != ".")
    for filename in sorted(name for name in names if name not in present and extension_of(name) is not None):
        found = tombstone_of(folder / filename)
        if found is not None:
            yield found


def remove_deleted(path: Path, tombstone: Tombstone) -> bool:
    """Remove the deleted file at `path` and its core metadata. Return False if another file lies there.

    The caller holds the claim on the file.
    """
    with contextlib.suppress(FileNotFoundError):
        is_same = tombstone.file.stamp == stamp_of(path.stat())
        if not is_same and not tombstone.is_free:  # a restored backup has the same content under another stamp
            with path.open("rb") as opened:
                is_same = digest_of(opened) == tombstone.file.sha256
        if not is_same:
            return False
        path.unlink()
    path.with_name(path.name + METADATA_SUFFIX).unlink(missing_ok=True)
    fsync_folder(path.parent)
    return True
