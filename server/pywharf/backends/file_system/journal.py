"""The journal of a file_system repo: one append-only file with a JSON line for each upload and change.

The file has a fixed name and readers find it by opening it: NFS caches folders and file times for up to a minute, but
revalidates a file on open. Its first line holds a random generation. Folding replaces the file and with it the
generation; readers that see a new generation read the file from its beginning.
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
from pywharf.core.msgspec_warmup import warmed_up
from pywharf.disk.durable import LOCK_S, fsync_folder, is_current, kept_locked, lock, open_fresh, write_atomically
from pywharf.index.limits import MAX_JOURNAL_BYTES, MAX_LINE_BYTES, fault_of_entry
from pywharf.index.ports import JournalEntry, JournalRead

_NOTHING = "none:0"
_HEADER_BYTES = 50
"""Bytes of a header. The length is fixed, so that a header can be overwritten by another one."""
_logger = logging.getLogger(__name__)
warmed_up(JournalEntry)


@warmed_up
class _Header(msgspec.Struct, frozen=True):
    generation: str


class FileJournal:
    """The journal file of one repo. Blocking; call it in a thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writers = threading.Lock()
        """Serializes this process' writers, so that they wait for each other without polling."""

    def read(self, cursor: str | None) -> JournalRead:
        """Return the entries after `cursor`. An unfinished last line (its writer is not done) is left for later."""
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
            # A position past the end: entries that had been read were lost in a crash before they were durable.
            restarted = known != generation or int(position) > os.fstat(file.fileno()).st_size
            offset = len(header) if restarted else int(position)
            file.seek(offset)
            entries, end = _read_entries(file, offset)
        return JournalRead(tuple(entries), f"{generation}:{end}", restarted)

    def append(self, entry: JournalEntry) -> None:
        """Add an entry durably. If this fails, the journal stays as it was.

        Raises TooLargeError if the entry is longer than readers accept, BackendUnavailableError if the journal is full.
        """
        line = msgspec.json.encode(entry) + b"\n"
        if len(line) > MAX_LINE_BYTES:
            raise TooLargeError(
                f"The record of {_subject(entry)!r} has {len(line)} bytes; at most {MAX_LINE_BYTES} are allowed."
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
                # A reader may have read the line already. A new generation makes all readers start from the beginning.
                os.pwrite(fd, _new_header(), 0)
                raise

    def fold(self, cursor: str) -> None:
        """Drop the entries before `cursor`, unless another fold came first."""
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
                    # A fold may have replaced this file while we waited for the lock.
                    if is_current(fd, self._path):
                        yield fd
                        return
                finally:
                    os.close(fd)
        finally:
            self._writers.release()

    def _repair(self, fd: int) -> bool:
        """Cut off a crashed writer's unfinished line. Return True if a file without a header was restarted."""
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
    """Return the header's generation; None if the line is not a whole header."""
    if len(line) != _HEADER_BYTES or not line.endswith(b"\n"):
        return None
    try:
        return msgspec.json.decode(line, type=_Header).generation
    except msgspec.MsgspecError:
        return None


def _read_entries(file: BinaryIO, position: int) -> tuple[list[JournalEntry], int]:
    """Return the entries from `position` on and the end of the last whole line. Long lines are not kept in memory."""
    entries: list[JournalEntry] = []
    size = 0
    while part := file.readline(MAX_LINE_BYTES + 1):
        size += len(part)
        if not part.endswith(b"\n"):
            continue  # the line is too long, or is not completely written yet
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
    fault = fault_of_entry(entry)
    if fault is not None:
        _logger.warning("The journal's entry of %.255r is ignored: %s", _subject(entry), fault)
        return None
    return entry


def _subject(entry: JournalEntry) -> str:
    """Return the name of the file, or of the project, that an entry is about."""
    return entry.changed.filename if entry.changed is not None else entry.project


def _write_all(fd: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]


def _last_line_end(fd: int, end: int) -> int:
    """Return the end of the last whole line; 0 if there is none."""
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
