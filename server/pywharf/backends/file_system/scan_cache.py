"""A cache of update_index's scans: what was read of each file, and the status of what was read.

A scan compares the status of a file and of its record (inode, size, times of change) with the cached one. If they are
equal, neither is read again. A project's entry is a frame with a checksum, and the frames are in the order of the
projects' names, so that a scan reads the old cache and writes the new one in one pass. Up to the first difference it
writes nothing. A missing, damaged or foreign cache costs time and nothing else: from the first frame that is not whole
on, everything is read. Blocking; call it in a thread.
"""

import contextlib
import hashlib
import logging
import os
import struct
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

import msgspec

from pywharf.backends.file_system.stamp import Status
from pywharf.core.model import File
from pywharf.core.msgspec_warmup import warmed_up
from pywharf.core.names import ProjectName
from pywharf.core.os_errors import reason_of
from pywharf.index.limits import MAX_PROJECT_BYTES

FILENAME = "scan-cache"
_MAGIC = b"pywharf scan cache 1\n"
_CHECKSUM_BYTES = 16
_FRAME = struct.Struct(f"<L{_CHECKSUM_BYTES}s")
"""The size and the checksum of an entry, before it."""
_COPY_BYTES = 1024 * 1024
_FRESH_NS = 2_000_000_000
"""Nanoseconds in which a file system's clock may stand still, so that a second change leaves the same times."""
_logger = logging.getLogger(__name__)


Seen = tuple[Status | None, Status | None, Status | None]
"""The status of a file, of its record, and of its core metadata if the record does not have their digest."""


@warmed_up
class CachedFile(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a scan found out about one file."""

    file: File
    """The record, with the stamp of the file whose content has the recorded digest."""
    seen: Seen


@warmed_up
class CachedProject(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The files of one project that were indexed."""

    name: ProjectName
    files: tuple[CachedFile, ...]
    duplicates: tuple[tuple[str, ...], ...]
    """The groups of these files that mean the same distribution."""


_DECODER = msgspec.msgpack.Decoder(CachedProject)
_ENCODER = msgspec.msgpack.Encoder()


class ScanCache:
    """The cache of one repo. A scan takes each project's old entry, and keeps it or puts a new one, sorted by name.

    Use it as a context. `save` keeps what was put; without it the old cache stays.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILENAME
        self._temporary = folder / f".{uuid.uuid4().hex}.tmp"
        self._old: BinaryIO | None = None
        self._new: BinaryIO | None = None
        self._frames: Iterator[CacheEntry] = iter(())
        self._next: CacheEntry | None = None
        self._is_begun = False
        """Whether the new cache is being written. Before that it is the beginning of the old one."""
        self._same_until = len(_MAGIC)
        """The position in the old cache up to which the new one is the same."""
        self._end = len(_MAGIC)
        """The size of the old cache."""
        self._horizon_ns = 0

    def __enter__(self) -> Self:
        """Open the old cache and begin a new one."""
        try:
            self._new = self._temporary.open("xb")
            self._new.write(_MAGIC)
            self._new.flush()
            # Read the clock of the file system, because on a network volume it is the server's.
            self._horizon_ns = os.fstat(self._new.fileno()).st_mtime_ns - _FRESH_NS
        except OSError as error:
            self._give_up(error)
        with contextlib.suppress(OSError):
            self._old = self._path.open("rb")
            self._end = os.fstat(self._old.fileno()).st_size
            if self._old.read(len(_MAGIC)) == _MAGIC:
                self._frames = _frames(self._old)
        self._next = next(self._frames, None)
        return self

    def __exit__(self, *_: object) -> None:
        for file in (self._old, self._new):
            if file is not None:
                with contextlib.suppress(OSError):
                    file.close()
        with contextlib.suppress(OSError):
            self._temporary.unlink()

    def is_settled(self, status: Status) -> bool:
        """Return whether any later change will change the status, too."""
        return status[3] < self._horizon_ns

    def take(self, name: ProjectName) -> "CacheEntry | None":
        """Return a project's old entry, or None. Entries of earlier names are dropped."""
        while self._next is not None and self._next.project.name < name:
            self._next = next(self._frames, None)
        if self._next is None or self._next.project.name != name:
            return None
        taken, self._next = self._next, next(self._frames, None)
        return taken

    def keep(self, entry: "CacheEntry") -> None:
        """Add an old entry as it is."""
        if not self._is_begun and entry.start == self._same_until:
            self._same_until = entry.end
        else:
            self._copy(entry.start, entry.end)

    def put(self, project: CachedProject) -> None:
        """Add a project's new entry."""
        body = _ENCODER.encode(project)
        if len(body) <= MAX_PROJECT_BYTES:
            self._write(_FRAME.pack(len(body), _checksum(body)) + body)

    def save(self) -> None:
        """Replace the old cache if the new one differs."""
        if self._old is not None and not self._is_begun and self._same_until == self._end:
            return
        self._begin()
        if self._new is None:
            return
        try:
            self._new.flush()
            # Not synced: what a crash damages is ignored.
            self._temporary.replace(self._path)
        except OSError as error:
            self._give_up(error)

    def _begin(self) -> None:
        """Begin to write, with the part that is the same as in the old cache."""
        if not self._is_begun:
            self._is_begun = True
            self._copy(len(_MAGIC), self._same_until)

    def _copy(self, start: int, end: int) -> None:
        """Write a part of the old cache."""
        self._begin()
        try:
            while start < end and self._old is not None and self._new is not None:
                part = os.pread(self._old.fileno(), min(end - start, _COPY_BYTES), start)
                if not part:
                    break  # somebody has cut the old cache; what is not whole is ignored
                self._new.write(part)
                start += len(part)
        except OSError as error:
            self._give_up(error)

    def _write(self, content: bytes) -> None:
        self._begin()
        if self._new is None:
            return
        try:
            self._new.write(content)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """Go on without a new cache, for example on a full disk."""
        _logger.warning("The scan cannot be cached (%s), so the next one reads all records.", reason_of(error))
        if self._new is not None:
            with contextlib.suppress(OSError):
                self._new.close()
            self._new = None


class CacheEntry(NamedTuple):
    """A project's entry, and its position in the file."""

    project: CachedProject
    start: int
    end: int


def _frames(file: BinaryIO) -> Iterator[CacheEntry]:
    """Yield the entries up to the first one that is not whole or not in order."""
    last, at = "", len(_MAGIC)
    while len(head := file.read(_FRAME.size)) == _FRAME.size:
        size, checksum = _FRAME.unpack(head)
        body = file.read(size) if size <= MAX_PROJECT_BYTES else b""
        if _checksum(body) != checksum:
            return
        try:
            project = _DECODER.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return
        if project.name <= last:
            return
        last, start, at = project.name, at, at + len(head) + size
        yield CacheEntry(project, start, at)


def _checksum(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_CHECKSUM_BYTES).digest()
