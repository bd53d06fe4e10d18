"""The pins of each repo: a file to which each change adds a JSON line. Blocking; call it in a thread.

Its first line holds a random generation, as a journal's does: as long as that stays, a process reads what was added
since it read last. A file with many lines that mean nothing any longer is written again.
"""

import contextlib
import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec
from cachetools import LRUCache

from pywharf.backends.file_system.cache_layout import make_folder, replace
from pywharf.core.errors import BackendUnavailableError, InvalidNameError
from pywharf.core.msgspec_warmup import warmed_up
from pywharf.core.names import ProjectName, RepoName, parse_repo_name
from pywharf.disk.durable import locked, open_fresh
from pywharf.index.ports import Pin

_SUFFIX = ".pins"
_HEADER_BYTES = 33
_MAX_LINE_BYTES = 4096
_MAX_BYTES = 64 * 1024 * 1024
_KNOWN_REPOS = 8
"""Repos whose pins stay in memory: with 20,000 pins some 10 MB each."""
_SPARE_LINES = 1024
"""Lines that mean nothing any longer before a file is written again, beyond as many as mean something."""


@warmed_up
class _Line(msgspec.Struct, frozen=True, omit_defaults=True):
    project: ProjectName
    filename: str
    sha256: str | None = None
    """None: the file is not pinned any longer."""
    size: int = 0


class _Read(msgspec.Struct):
    """What a process has read of one repo's file."""

    generation: bytes = b""
    position: int = 0
    lines: int = 0
    pins: dict[tuple[ProjectName, str], Pin] = {}


class CachePins:
    """The pins of all repos of one cache. Any number of servers may use the folder concurrently."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "pins"
        self._known: LRUCache[RepoName, _Read] = LRUCache(_KNOWN_REPOS)
        self._reading = threading.Lock()
        self._changing = threading.Lock()
        """Serializes this process' writers, so that they wait for each other without polling."""

    def of(self, repo: RepoName) -> tuple[Pin, ...]:
        """Return what a repo has pinned."""
        with self._reading:
            return tuple(self._read(repo).pins.values())

    def repos(self) -> tuple[RepoName, ...]:
        """Return the repos that have pinned anything."""
        return tuple(repo for repo in self._named() if self.of(repo))

    def _named(self) -> Iterator[RepoName]:
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            with contextlib.suppress(InvalidNameError):
                yield parse_repo_name(path.name.removesuffix(_SUFFIX))

    def pin(self, repo: RepoName, pin: Pin, spool: Path) -> None:
        """Pin a file durably."""
        self._change(repo, _line_of(pin), spool)

    def unpin(self, repo: RepoName, project: ProjectName, filename: str, spool: Path) -> None:
        """Remove a pin durably."""
        self._change(repo, _Line(project, filename), spool)

    def _change(self, repo: RepoName, line: _Line, spool: Path) -> None:
        text = msgspec.json.encode(line) + b"\n"
        if len(text) > _MAX_LINE_BYTES:
            raise BackendUnavailableError(f"A pin has {len(text)} bytes; at most {_MAX_LINE_BYTES} are possible.")
        make_folder(self._folder)
        with self._changing, self._locked():
            with self._reading:
                known = self._read(repo)
            if known.pins.get((line.project, line.filename)) == _pin_of(line):
                return
            if not known.generation or known.lines > 2 * len(known.pins) + _SPARE_LINES:
                self._write_again(repo, known, spool)
                with self._reading:
                    known = self._read(repo)
            self._append(repo, known.position, text)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with locked(self._folder / "lock"):
            yield

    def _path(self, repo: RepoName) -> Path:
        return self._folder / f"{repo}{_SUFFIX}"

    def _read(self, repo: RepoName) -> _Read:
        """Read what was added to a repo's file, or all of it if it was written again."""
        try:
            file = open_fresh(self._path(repo))
        except FileNotFoundError:
            self._known.pop(repo, None)
            return _Read()
        with file:
            size = os.fstat(file.fileno()).st_size
            if size > _MAX_BYTES:
                raise BackendUnavailableError(f"The pins of {repo!r} have {size} bytes, of {_MAX_BYTES} at most.")
            generation = file.read(_HEADER_BYTES)
            known = self._known.get(repo)
            if known is None or known.generation != generation or known.position > size:
                known = self._known[repo] = _Read(generation, _HEADER_BYTES)
            file.seek(known.position)
            _read_lines(file, known)
        return known

    def _write_again(self, repo: RepoName, known: _Read, spool: Path) -> None:
        lines = [msgspec.json.encode(_line_of(p)) for p in known.pins.values()]
        header = uuid.uuid4().hex.encode()
        replace(self._path(repo), b"\n".join([header, *lines]) + b"\n", spool)

    def _append(self, repo: RepoName, position: int, text: bytes) -> None:
        with self._path(repo).open("r+b", 0) as file:
            end = file.seek(0, os.SEEK_END)
            # Behind a line that a crash cut off, which is no pin then.
            rest = text if end == position else b"\n" + text
            try:
                while rest:
                    rest = rest[file.write(rest) :]
                os.fsync(file.fileno())
            except OSError:
                file.truncate(end)
                raise


def _read_lines(file: BinaryIO, known: _Read) -> None:
    """Take the whole lines up to the file's end. One that is not whole yet is left for later."""
    while line := file.readline(_MAX_LINE_BYTES + 1):
        if not line.endswith(b"\n"):
            if len(line) <= _MAX_LINE_BYTES:
                return
            known.position += len(line)  # no line of this program
            continue
        known.position += len(line)
        known.lines += 1
        try:
            read = msgspec.json.decode(line, type=_Line)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue
        pin = _pin_of(read)
        if pin is None:
            known.pins.pop((read.project, read.filename), None)
        else:
            known.pins[read.project, read.filename] = pin


def _pin_of(line: _Line) -> Pin | None:
    if line.sha256 is None:
        return None
    return Pin(line.project, line.filename, line.sha256, line.size)


def _line_of(pin: Pin) -> _Line:
    return _Line(pin.project, pin.filename, pin.sha256, pin.size)
