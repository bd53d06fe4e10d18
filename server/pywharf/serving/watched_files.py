"""Read files so that any later change shows, whether they are rewritten, replaced, or reached through a link."""

import gzip
import hashlib
import io
import os
import time
import zlib
from pathlib import Path

import msgspec

_MAX_BYTES = 64 * 1024 * 1024
_PIECE_BYTES = 64 * 1024
_SETTLED_NS = 2 * 10**9
"""Nanoseconds that a file must be unchanged to count as settled.

The clock of a file system is coarse: within one tick a file may change again and look the same.
"""
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_SUFFIX = ".gz"

Status = tuple[int, int, int, int]
"""Inode, times of the last change of content and of status in nanoseconds, size in bytes."""


class WatchedFile(msgspec.Struct):
    """The state of a file just before it was read."""

    status: Status | None
    """None: the status could not be read."""
    settled: bool
    """Whether any later change shows in the status."""
    content: bytes | None = None
    """The digest of the content that was read."""


Seen = dict[str, WatchedFile]
"""Files by path."""


class UnreadableFileError(Exception):
    """The error for a file that exists but is not as it should be. Its text continues a sentence after the path."""


def exists(path: str) -> bool:
    """Return whether such a file exists; also accepts texts that cannot be a path."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # a text too long for a path, or with a NUL byte
        return False


def take(path: str, seen: Seen) -> bytes:
    """Read a file. Record its state from before the read in `seen`, so that the next check notices a change meanwhile.

    Raises OSError, ValueError (not a path), UnreadableFileError.
    """
    status = _status(path)
    seen[path] = file = WatchedFile(status, _is_settled(status))
    content = _content(path)
    file.content = hashlib.sha256(content).digest()
    if len(content) > _MAX_BYTES:
        raise _too_large()
    return content


def take_if_there(path: str, seen: Seen) -> bytes | None:
    """Read a file as `take` does, or return None if it does not exist."""
    try:
        return take(path, seen)
    except FileNotFoundError:
        return None


def plain_and_compressed(path: str) -> tuple[str, str]:
    """Return the paths that a file may have, in the order in which they are tried."""
    return path, path + _GZIP_SUFFIX


def take_plain_or_compressed(path: str, seen: Seen) -> bytes:
    """Read a file, or the one with `.gz` added if it is missing, as `take` does. Gzip is unpacked under any name."""
    plain, compressed = plain_and_compressed(path)
    content = take_if_there(plain, seen)
    if content is None:
        content = take_if_there(compressed, seen)
    if content is None:
        content = take(plain, seen)  # raises its error, unless the file has just appeared
    return _decompressed(content) if content.startswith(_GZIP_MAGIC) else content


def _decompressed(content: bytes) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            text = file.read(_MAX_BYTES + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        msg = f"is not valid gzip: {error}"
        raise UnreadableFileError(msg.rstrip(".")) from error
    if len(text) > _MAX_BYTES:
        raise _too_large()
    return text


def _too_large() -> UnreadableFileError:
    return UnreadableFileError(f"is over {_MAX_BYTES} bytes")


def has_changed(path: str, file: WatchedFile) -> bool:
    """Return whether the file has changed since it was read (or since reading it failed)."""
    status = _status(path)
    if status != file.status:
        return True
    if file.settled or file.content is None:
        return False
    try:
        is_same = hashlib.sha256(_content(path)).digest() == file.content
    except OSError:
        return True
    file.settled = _is_settled(status)
    return not is_same


def _content(path: str) -> bytes:
    left = _MAX_BYTES + 1
    pieces = []
    with open(path, "rb", buffering=0) as opened:  # noqa: PTH123 - called for thousands of files
        while left and (piece := opened.read(min(left, _PIECE_BYTES))):
            pieces.append(piece)
            left -= len(piece)
    return b"".join(pieces)


def _is_settled(status: Status | None) -> bool:
    return status is None or time.time_ns() - max(status[1], status[2]) > _SETTLED_NS


def _status(path: str) -> Status | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - called often
    except (OSError, ValueError):
        return None
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size
