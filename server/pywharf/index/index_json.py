"""The form of `index.json`: an object of projects, each decoded when it is first used.

The text of a large index is kept as it was read, with two positions for each project. An object for each project would
take more memory than its text, and freeing all of them would hold up the server.
"""

import re
from array import array
from collections.abc import Iterable, Iterator

import msgspec

from pywharf.core.model import File, Project
from pywharf.core.msgspec_warmup import warmed_up
from pywharf.core.names import ProjectName
from pywharf.index.freeing import free_slowly
from pywharf.index.limits import MAX_PROJECT_BYTES, MAX_PROJECT_FILES, MAX_PROJECTS
from pywharf.index.sidecars import is_sha256

_FORMAT = 1
_IN_ONE_GO = 1024 * 1024
"""Bytes up to which an index.json is decoded in one call; no other thread runs meanwhile."""
_WINDOW = 1024 * 1024
"""Bytes that are searched in one call."""
_HEAD = re.compile(rb'\{"format":(\d{1,9}),"mtime":(\d{1,15}),"projects":\{')
_NAME = re.compile(rb'"([a-z0-9][a-z0-9-]{0,1000})":')
_BETWEEN = b'},"'
"""The text between two projects, with the last character of the first one."""


class Bodies:
    """The projects of an `index.json`: the file's content, and where each one lies in it."""

    __slots__ = ("_content", "_ends", "_starts", "numbers")

    def __init__(self, content: bytes) -> None:
        self._content = memoryview(content)
        self._starts, self._ends = array("Q"), array("Q")
        self.numbers: dict[ProjectName, int] = {}

    def __del__(self) -> None:
        free_slowly(self.numbers)

    def __len__(self) -> int:
        return len(self._starts)

    def add(self, name: ProjectName, start: int, end: int) -> None:
        """Add a project whose text is between the positions. Of two with one name, the later one counts."""
        self.numbers[name] = len(self._starts)
        self._starts.append(start)
        self._ends.append(end)

    def find(self, name: ProjectName) -> memoryview | None:
        """Return a project's text, or None."""
        number = self.numbers.get(name)
        return None if number is None else self._content[self._starts[number] : self._ends[number]]


@warmed_up
class ProjectBody(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A project without its name."""

    files: tuple[File, ...] = ()
    status: str = "active"
    status_reason: str | None = None
    status_revision: int = 0


def decode_project(raw: memoryview) -> ProjectBody:
    """Decode a project's text. Raises msgspec's errors."""
    # Count the files before decoding them, which happens in one call. Each file is an object.
    if raw.nbytes > MAX_PROJECT_BYTES or bytes(raw).count(b"{") > 2 * MAX_PROJECT_FILES:
        raise msgspec.ValidationError(f"it has {raw.nbytes} bytes, or more than {MAX_PROJECT_FILES} files")
    body = msgspec.json.decode(raw, type=ProjectBody)
    _check_digests(body.files)
    return body


def _check_digests(files: Iterable[File]) -> None:
    """Refuse malformed digests: they become response headers, which cannot hold every text that JSON can."""
    for file in files:
        if not all(is_sha256(digest) for digest in (file.sha256, file.metadata_sha256) if digest is not None):
            raise msgspec.ValidationError(f"a digest of {file.filename!r} is not of 64 hexadecimal digits")


@warmed_up
class _IndexDocument(msgspec.Struct, frozen=True):
    format: int
    mtime: int
    projects: dict[str, msgspec.Raw]


def encode_project(project: Project) -> bytes:
    """Return a project's part of the file."""
    body = ProjectBody(project.files, project.status, project.status_reason, project.status_revision)
    return b"%b:%b" % (msgspec.json.encode(project.name), msgspec.json.encode(body))


def content_of(mtime: int, projects: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the file's content piece by piece, with `mtime` in Unix seconds."""
    yield b'{"format":%d,"mtime":%d,"projects":{' % (_FORMAT, mtime)
    for number, part in enumerate(projects):
        if number:
            yield b","
        yield part
    yield b"}}"


def json_mtime(content: bytes) -> int | None:
    """Return the time in the head of a file that update_index wrote, or None."""
    head = _HEAD.match(content)
    return int(head[2]) if head is not None else None


def decode_json(content: bytes) -> tuple[int, Bodies]:
    """Find the projects of an index. Return its time and the projects. Raises msgspec's errors."""
    if len(content) > _IN_ONE_GO:
        return _split(content)
    document = msgspec.json.decode(content, type=_IndexDocument)
    _check_format(document.format)
    # The names were normalized when the file was written.
    bodies = Bodies(b"".join(bytes(body) for body in document.projects.values()))
    at = 0
    for name, body in document.projects.items():
        size = len(bytes(body))
        bodies.add(ProjectName(name), at, at + size)
        at += size
    return document.mtime, bodies


def _check_format(number: int) -> None:
    if number != _FORMAT:
        raise msgspec.ValidationError(f"its format is {number}, this version reads {_FORMAT}")


def _split(content: bytes) -> tuple[int, Bodies]:
    """Find the projects of a large index one by one, so that other threads run in between.

    The text is split where update_index ends a project. That sequence occurs nowhere else: in a JSON string each
    quotation mark has a backslash before it.
    """
    head = _HEAD.match(content)
    if head is None or not content.endswith(b"}}}"):
        raise msgspec.ValidationError("it was not written by update_index")
    _check_format(int(head[1]))
    bodies = Bodies(content)
    at, last = head.end(), len(content) - 2
    while at < last:
        name = _NAME.match(content, at, last)
        if name is None or len(bodies.numbers) >= MAX_PROJECTS:
            raise msgspec.ValidationError(
                f"it was not written by update_index, or has more than {MAX_PROJECTS} projects"
            )
        end = _end_of_project(content, name.end(), last)
        bodies.add(ProjectName(str(name[1], "ascii")), name.end(), end)
        at = end + 1
    return int(head[2]), bodies


def _end_of_project(content: bytes, start: int, last: int) -> int:
    """Return the position after the project that begins at `start`. One search holds up the other threads."""
    while start < last:
        window = start + _WINDOW
        found = content.find(_BETWEEN, start, min(window + len(_BETWEEN) - 1, last))
        if found >= 0:
            return found + 1
        start = window
    return last
