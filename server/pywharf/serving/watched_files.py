"""Files read so that any later change of them shows, whether they are written again, replaced, or reached by a link."""

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
"""A file that changed less long ago than the clock of any file system is coarse may change again and look the same."""
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_SUFFIX = ".gz"

Status = tuple[int, int, int, int]
"""Inode, times of content and of status, size."""


class WatchedFile(msgspec.Struct):
    """What a file was when it was looked at."""

    status: Status | None
    """None: it could not be looked at."""
    settled: bool
    """Whether any later change shows in the status."""
    content: bytes | None = None
    """A digest of what was read of it."""


Seen = dict[str, WatchedFile]
"""Files by path."""


class UnreadableFileError(Exception):
    """A file that is there but not what it should be; the text goes on after its path."""


def exists(path: str) -> bool:
    """Whether there is such a file; also for texts that can be no path."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # a text too long for a path, or with a NUL byte
        return False


def take(path: str, seen: Seen) -> bytes:
    """A file's content, and in `seen` what it was like before: what changes meanwhile differs at the next look.

    Raises OSError, ValueError (no path), UnreadableFileError.
    """
    status = _status(path)
    seen[path] = file = WatchedFile(status, _is_settled(status))
    content = _content(path)
    file.content = hashlib.sha256(content).digest()
    if len(content) > _MAX_BYTES:
        raise _too_large()
    return content


def take_if_there(path: str, seen: Seen) -> bytes | None:
    """As `take`, None where there is no such file."""
    try:
        return take(path, seen)
    except FileNotFoundError:
        return None


def plain_and_compressed(path: str) -> tuple[str, str]:
    """The paths at which a file may stand, in the order in which they are tried."""
    return path, path + _GZIP_SUFFIX


def take_plain_or_compressed(path: str, seen: Seen) -> bytes:
    """As `take`, of a file that may be gzip whatever its name; where there is none, of the one with `.gz` added."""
    plain, compressed = plain_and_compressed(path)
    content = take_if_there(plain, seen)
    if content is None:
        content = take_if_there(compressed, seen)
    if content is None:
        content = take(plain, seen)  # for its error; or it has just come
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
    """Whether it is no longer as it was when it was taken, or could not be."""
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
