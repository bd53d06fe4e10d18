"""The folder of the pull-through cache, as its parts share it.

    files/<2 digits>/<SHA-256>    the kept files; the modification time is that of the last use
    about/<2 digits>/<SHA-256>    where each of them came from, as JSON
    pages/<2 digits>/<key>        the kept pages; the modification time is that of the last writing
    pins/<repo>.pins              a repo's pins: a header, then a JSON line for each change
    locks/<name>                  a lock: its owner and its end
    spool/<process>/              files that a process is fetching, and files that it is about to give their name

All digests are spread over 256 folders, so that a folder of a million files has 4,000.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from pywharf.disk.durable import fsync_folder, write_temporary

_SHARD = re.compile("[0-9a-f]{2}")
_DIGEST = re.compile("[0-9a-f]{64}")


def is_digest(name: str) -> bool:
    """Return whether a file's name is a digest."""
    return _DIGEST.fullmatch(name) is not None


def path_of(folder: Path, digest: str) -> Path:
    """Return the path of a digest below a folder. Raises ValueError for what is none, and might lead elsewhere."""
    if not is_digest(digest):
        raise ValueError(f"{digest[:80]!r} is no SHA-256 in lower-case hex")
    return folder / digest[:2] / digest


def shards(folder: Path) -> list[str]:
    """Return the names of the folders that the digests below a folder are spread over."""
    try:
        return sorted(name for name in os.listdir(folder) if _SHARD.fullmatch(name))  # noqa: PTH208 - names alone
    except FileNotFoundError:
        return []


def entries(folder: Path, shard: str) -> Iterator[os.DirEntry[str]]:
    """Yield the files of one shard whose name is a digest."""
    try:
        with os.scandir(folder / shard) as found:
            for entry in found:
                if is_digest(entry.name):
                    yield entry
    except FileNotFoundError:
        return


def make_folder(folder: Path) -> None:
    """Make a folder, and what leads to it, durably. Idempotent."""
    if folder.is_dir():
        return
    folder.mkdir(parents=True, exist_ok=True)
    for parent in (folder.parent, folder.parent.parent):
        fsync_folder(parent)


def replace(path: Path, content: bytes, spool: Path, *, durably: bool = True) -> None:
    """Replace the file at `path`. A temporary file in `spool` is removed with that folder, even after a crash."""
    temporary = write_temporary(spool, content, durably=durably)
    try:
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durably:
        fsync_folder(path.parent)


def unlink_if_there(path: Path | str) -> bool:
    """Remove a file, and return whether it was there."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108 - also takes the path of a DirEntry
        return True
    return False
