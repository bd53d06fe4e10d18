"""The last good feed on the server's own disk, so that a server that starts while the feed's host is down knows it."""

import contextlib
import shutil
import time
import uuid
from pathlib import Path
from typing import Final

from pywharf.core.advisories.store import BrokenStoreError
from pywharf.core.advisories.store_format import StoreMeta
from pywharf.core.advisories.writing import MAX_FILE_BYTES, MAX_TABLE_BYTES
from pywharf.disk.durable import fsync_file, fsync_folder
from pywharf.serving.advisories.opening import digest_of, open_store

FOLDER: Final = "advisories"
"""The folder in ROOT."""
_NAME: Final = "feed"
_LEFT_OVER_S: Final = 3600.0


def keep(store: Path, root: Path) -> None:
    """Copy a compiled feed into the server's folder, unless it is there. Blocks. Raises OSError.

    Servers that share the folder may do so concurrently: each puts its whole copy there in one step.
    """
    folder = root / FOLDER
    folder.mkdir(exist_ok=True)
    _remove_left_over(folder)
    kept = folder / _NAME
    with contextlib.suppress(OSError, BrokenStoreError):
        if digest_of(kept) == digest_of(store):
            return
    _copy(store, kept)
    fsync_folder(folder)


def restore(root: Path, target: Path, source: str) -> StoreMeta | None:
    """Copy the kept feed to a local file and return what it holds; None if no feed of that source is kept. Blocks.

    Raises OSError, BrokenStoreError.
    """
    kept = root / FOLDER / _NAME
    try:
        if kept.stat().st_size > MAX_FILE_BYTES + 2 * MAX_TABLE_BYTES:
            raise BrokenStoreError("it is too large")
    except FileNotFoundError:
        return None
    digest_of(kept)  # another version's format is not worth a copy
    copied = target.with_name(f"{target.name}.restored")
    try:
        _copy(kept, copied)
        meta = open_store(copied).meta
        if meta.source != source:
            return None
        copied.replace(target)
    finally:
        copied.unlink(missing_ok=True)
    return meta


def _copy(source: Path, target: Path) -> None:
    temporary = target.parent / f".{uuid.uuid4().hex}.tmp"
    try:
        shutil.copyfile(source, temporary)
        fsync_file(temporary)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _remove_left_over(folder: Path) -> None:
    """Remove what a server that was killed left behind."""
    for path in folder.glob(".*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _LEFT_OVER_S:
                path.unlink()
