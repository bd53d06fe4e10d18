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

import msgspec

from pywharf.backends.durable import LOCK_S, fsync_folder, is_current, kept_locked, lock, open_fresh, write_atomically
from pywharf.core.decoding import decodable
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
            header = file.readline()
            generation = _generation(header)
            if generation is None:
                return JournalRead((), _NOTHING, cursor != _NOTHING)
            known, _, position = (cursor or _NOTHING).partition(":")
            # Past the end: what had been read was lost in a crash before it was durable.
            restarted = known != generation or int(position) > os.fstat(file.fileno()).st_size
            offset = len(header) if restarted else int(position)
            file.seek(offset)
            content = file.read()
        complete = content[: content.rfind(b"\n") + 1]
        return JournalRead(tuple(_entries(complete)), f"{generation}:{offset + len(complete)}", restarted)

    def append(self, entry: JournalEntry) -> None:
        """Add an entry, durably. Leaves the journal as it was where it fails."""
        line = msgspec.json.encode(entry) + b"\n"
        with self._locked() as fd:
            if self._repair(fd):
                fsync_folder(self._path.parent)
            size = os.lseek(fd, 0, os.SEEK_END)
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
            content = _read_all(fd)
            header_end = content.index(b"\n") + 1
            if _generation(content[:header_end]) != generation or int(position) <= header_end:
                return
            write_atomically(self._path, _new_header() + content[int(position) :])

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
        os.ftruncate(fd, _read_all(fd).rfind(b"\n") + 1 if headed else 0)
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


def _entries(content: bytes) -> Iterator[JournalEntry]:
    for line in content.splitlines():
        try:
            yield msgspec.json.decode(line, type=JournalEntry)
        except msgspec.MsgspecError as error:
            _logger.warning("A journal line cannot be read (%s); the next update_index will find the file.", error)


def _write_all(fd: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]


def _read_all(fd: int) -> bytes:
    size = os.fstat(fd).st_size
    chunks = []
    position = 0
    while position < size:
        chunk = os.pread(fd, size - position, position)
        if not chunk:
            break
        chunks.append(chunk)
        position += len(chunk)
    return b"".join(chunks)
