"""The journal of a file system repo: one append-only file, a JSON line for each upload.

It is a file of a fixed name, found by opening it, because NFS caches folders and file times for up to a minute but
looks again when a file is opened. Its first line holds a random generation; folding replaces the file, and so the
generation, which tells readers to read it from its beginning.
"""

import contextlib
import logging
import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from pywharf.core.errors import BackendUnavailableError, TooLargeError
from pywharf.core.msgspec_warmup import decodable
from pywharf.disk.durable import LOCK_S, fsync_folder, is_current, kept_locked, lock, open_fresh, write_atomically
from pywharf.index.limits import MAX_JOURNAL_BYTES, MAX_LINE_BYTES, fault_of
from pywharf.index.ports import JournalEntry, JournalRead

_NOTHING = "none:0"
_HEADER_BYTES = 50
"""A header has always this length, so that another one can take its place."""
_logger = logging.getLogger(__name__)
decodable(JournalEntry)


@decodable
class _Header(msgspec.Struct, frozen=True):
    generation: str


class FileJournal:
    """Blocking; call it in a thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writers = threading.Lock()
        """This process' own, which wait for one another without asking again and again."""

    def read(self, cursor: str | None) -> JournalRead:
        """What came after `cursor`. An unfinished last line (a writer that is not done) is left for later."""
        try:
            file = open_fresh(self._path)
        except FileNotFoundError:
            return JournalRead((), _NOTHING, cursor != _NOTHING)
        with file:
            header = file.readline(_HEADER_BYTES + 1)
            generation = _generation(header)
            if generation is None:
                return JournalRead((), _NOTHING, cursor != _NOTHING)
            known, _, position = (cursor or _NOTHING).partition(":")
            # Past the end: what had been read was lost in a crash before it was durable.
            restarted = known != generation or int(position) > os.fstat(file.fileno()).st_size
            offset = len(header) if restarted else int(position)
            file.seek(offset)
            entries, end = _read_entries(file, offset)
        return JournalRead(tuple(entries), f"{generation}:{end}", restarted)

    def append(self, entry: JournalEntry) -> None:
        """Add an entry, durably. Leaves the journal as it was where it fails.

        Raises TooLargeError for a longer entry than readers take, BackendUnavailableError where the journal is full.
        """
        line = msgspec.json.encode(entry) + b"\n"
        if len(line) > MAX_LINE_BYTES:
            raise TooLargeError(
                f"The record of {entry.file.filename!r} has {len(line)} bytes; at most {MAX_LINE_BYTES} are allowed."
            )
        with self._locked() as fd:
            if self._repair(fd):
                fsync_folder(self._path.parent)
            size = os.lseek(fd, 0, os.SEEK_END)
            if size + len(line) > MAX_JOURNAL_BYTES:
                raise BackendUnavailableError(
                    f"The journal of this repo has {size} bytes, of {MAX_JOURNAL_BYTES} at most; run update_index."
                )
            try:
                _write_all(fd, line)
                os.fsync(fd)
            except OSError:
                os.ftruncate(fd, size)
                # Somebody may have read the line already: a new generation makes everybody read from the beginning.
                os.pwrite(fd, _new_header(), 0)
                raise

    def fold(self, cursor: str) -> None:
        """Drop the entries before `cursor`, unless another fold was first."""
        generation, _, position = cursor.partition(":")
        if not self._path.exists():
            return
        with self._locked() as fd:
            self._repair(fd)
            if _generation(os.pread(fd, _HEADER_BYTES, 0)) != generation or int(position) <= _HEADER_BYTES:
                return
            write_atomically(self._path, _new_header() + _read_from(fd, int(position)))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        if not self._writers.acquire(timeout=LOCK_S):
            raise kept_locked()
        try:
            while True:
                fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
                try:
                    lock(fd)
                    # While waiting for the lock, a fold may have put another file in this one's place.
                    if is_current(fd, self._path):
                        yield fd
                        return
                finally:
                    os.close(fd)
        finally:
            self._writers.release()

    def _repair(self, fd: int) -> bool:
        """Cut off what a crashed writer left unfinished; begin a file without a header anew and say so."""
        content_end = os.lseek(fd, 0, os.SEEK_END)
        headed = _generation(os.pread(fd, _HEADER_BYTES, 0)) is not None
        if headed and os.pread(fd, 1, content_end - 1) == b"\n":
            return False
        os.ftruncate(fd, _last_line_end(fd, content_end) if headed else 0)
        os.lseek(fd, 0, os.SEEK_END)
        if headed:
            return False
        _write_all(fd, _new_header())
        return True


def _new_header() -> bytes:
    return msgspec.json.encode(_Header(uuid.uuid4().hex)) + b"\n"


def _generation(line: bytes) -> str | None:
    """The header's generation, None where the line is not a whole header."""
    if len(line) != _HEADER_BYTES or not line.endswith(b"\n"):
        return None
    try:
        return msgspec.json.decode(line, type=_Header).generation
    except msgspec.MsgspecError:
        return None


def _read_entries(file: BinaryIO, position: int) -> tuple[list[JournalEntry], int]:
    """The entries from `position` on, and where the last whole line ends. Memory does not grow with a long line."""
    entries: list[JournalEntry] = []
    size = 0
    while part := file.readline(MAX_LINE_BYTES + 1):
        size += len(part)
        if not part.endswith(b"\n"):
            continue  # a line that is too long, or not written whole
        position, length, size = position + size, size, 0
        if length > MAX_LINE_BYTES:
            _logger.warning("A journal line of %d bytes is ignored; at most %d are allowed.", length, MAX_LINE_BYTES)
        elif (entry := _entry(part)) is not None:
            entries.append(entry)
    return entries, position


def _entry(line: bytes) -> JournalEntry | None:
    try:
        entry = msgspec.json.decode(line, type=JournalEntry)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        _logger.warning("A journal line cannot be read (%s); the next update_index will find the file.", error)
        return None
    fault = fault_of(entry.file)
    if fault is not None:
        _logger.warning("The journal's entry of %.255r is ignored: %s", entry.file.filename, fault)
        return None
    return entry


def _write_all(fd: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]


def _last_line_end(fd: int, end: int) -> int:
    """Where the last line ends that is whole; 0 where none is."""
    while end > 0:
        start = max(0, end - MAX_LINE_BYTES)
        found = os.pread(fd, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _read_from(fd: int, position: int) -> bytes:
    size = os.fstat(fd).st_size
    chunks = []
    while position < size:
        chunk = os.pread(fd, size - position, position)
        if not chunk:
            break
        chunks.append(chunk)
        position += len(chunk)
    return b"".join(chunks)
