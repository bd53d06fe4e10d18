"""The two forms of the index file, `index.toml` (the original's) and `index.json`, and the `.meta` sidecar."""

import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from pywharf.core.errors import BackendUnavailableError, InvalidConfigError, InvalidNameError
from pywharf.core.filenames import extension_of
from pywharf.core.model import STATUSES, File, Project, ProjectStatus
from pywharf.core.msgspec_warmup import warmed_up
from pywharf.core.names import ProjectName, normalize
from pywharf.core.toml_text import dumps, loads
from pywharf.index.limits import (
    MAX_PROJECT_BYTES,
    MAX_PROJECT_FILES,
    MAX_PROJECTS,
    MAX_TEXT,
    fault_of,
    max_index_bytes,
)

_FORMAT = 1
_UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""The errors that msgspec raises for content that is not in our format."""
_NO_REASON = "true"
"""The value by which a sidecar records 'yanked, no reason given'; flat strings allow no other way."""

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_UPLOAD_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z\Z", re.ASCII)
_SIZE = re.compile(r"\d{1,15}\Z", re.ASCII)
_REVISION = re.compile(r"\d{1,15}\Z", re.ASCII)
_STAMP = re.compile(r"\d{1,20}:-?\d{1,20}\Z", re.ASCII)

_IN_ONE_GO = 1024 * 1024
"""Bytes up to which an index.json is decoded in one call; no other thread runs meanwhile."""
_WINDOW = 1024 * 1024
"""Bytes that are searched in one call."""
_HEAD = re.compile(rb'\{"format":(\d{1,9}),"mtime":(\d{1,15}),"projects":\{')
_NAME = re.compile(rb'"([a-z0-9][a-z0-9-]{0,1000})":')
_BETWEEN = b'},"'
"""The text between two projects, with the last character of the first one."""

LocationField = Callable[[ProjectName, File], tuple[str, str] | None]
"""A function that returns a backend's own field of an entry and its value, or None."""


class Index:
    """A decoded index file. Projects of an `index.json` are decoded on first use."""

    __slots__ = ("_bodies", "_projects", "mtime")

    def __init__(self, mtime: int, projects: "Mapping[ProjectName, Project] | _Bodies") -> None:
        self.mtime = mtime
        """Unix seconds at which the run that wrote the index began."""
        self._bodies = projects if isinstance(projects, _Bodies) else _NO_BODIES
        self._projects = {} if isinstance(projects, _Bodies) else projects

    def __contains__(self, name: ProjectName) -> bool:
        return name in self._bodies.numbers or name in self._projects

    def __iter__(self) -> Iterator[ProjectName]:
        return iter(self._bodies.numbers or self._projects)

    def __len__(self) -> int:
        return len(self._bodies.numbers) or len(self._projects)

    def project(self, name: ProjectName) -> Project | None:
        """Return one project, or None. Raises BackendUnavailableError if its part of the file cannot be decoded."""
        found = self._bodies.find(name)
        if found is None:
            return self._projects.get(name)
        try:
            body = _decode_project(found)
        except _UNDECODABLE as error:
            raise BackendUnavailableError(
                f"The index's entry of {name!r} cannot be read ({error}); run update_index to write it again."
            ) from error
        return Project(
            name=name,
            files=tuple(file for file in body.files if fault_of(file) is None),
            status=body.status,
            status_reason=body.status_reason and body.status_reason[:MAX_TEXT],
            status_revision=body.status_revision,
        )

    def source(self, name: ProjectName) -> object:
        """Return an object that compares equal while the project is unchanged, without decoding the project."""
        found = self._bodies.find(name)
        return self._projects.get(name) if found is None else bytes(found)


class _Bodies:
    """The projects of an `index.json`: the file's content, and where each one lies in it.

    An object for each project would take more memory than its text, and freeing all of them would hold up the server.
    """

    __slots__ = ("_content", "_ends", "_starts", "numbers")

    def __init__(self, content: bytes) -> None:
        self._content = memoryview(content)
        self._starts, self._ends = array("Q"), array("Q")
        self.numbers: dict[ProjectName, int] = {}

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


_NO_BODIES = _Bodies(b"")
EMPTY_INDEX = Index(0, {})


@warmed_up
class _ProjectBody(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    files: tuple[File, ...] = ()
    status: str = "active"
    status_reason: str | None = None
    status_revision: int = 0


def _decode_project(raw: memoryview) -> _ProjectBody:
    # Count the files before decoding them, which happens in one call. Each file is an object.
    if raw.nbytes > MAX_PROJECT_BYTES or bytes(raw).count(b"{") > 2 * MAX_PROJECT_FILES:
        raise msgspec.ValidationError(f"it has {raw.nbytes} bytes, or more than {MAX_PROJECT_FILES} files")
    body = msgspec.json.decode(raw, type=_ProjectBody)
    _check_digests(body.files)
    return body


def _check_digests(files: Iterable[File]) -> None:
    """Refuse malformed digests: they become response headers, which cannot hold every text that JSON can."""
    for file in files:
        if not all(_SHA256.match(digest) for digest in (file.sha256, file.metadata_sha256) if digest is not None):
            raise msgspec.ValidationError(f"a digest of {file.filename!r} is not of 64 hexadecimal digits")


@warmed_up
class _IndexDocument(msgspec.Struct, frozen=True):
    format: int
    mtime: int
    projects: dict[str, msgspec.Raw]


def decode_index(content: bytes, filename: str) -> Index:
    """Decode an index file. Its content is empty if the file is over the limit of its codec (`max_index_bytes`).

    Raises BackendUnavailableError if the file is not in our format; the message says what to do.
    """
    try:
        if not content or len(content) > max_index_bytes(filename):
            raise msgspec.ValidationError(
                f"it is empty, or over the {max_index_bytes(filename)} bytes that it may have"
            )
        if filename.endswith(".json"):
            return _decode_json(content)
        return _decode_toml(content.decode(), filename)
    except (*_UNDECODABLE, InvalidConfigError, InvalidNameError) as error:
        raise BackendUnavailableError(
            f"The index file {filename} cannot be read ({error}); run update_index to write it again."
        ) from error


class IndexEncoder:
    """An encoder of one index file, whose projects are added in the order of their names.

    It keeps a JSON project as bytes, which take a third of the memory of its records.
    """

    def __init__(self, filename: str, *, backend_type: str, location: LocationField) -> None:
        """`filename`'s extension selects the codec."""
        self._backend_type = backend_type
        self._location = location
        self._bodies: list[bytes] | None = [] if filename.endswith(".json") else None
        self._projects: list[Project] = []

    def add(self, project: Project) -> None:
        """Add the next project."""
        if self._bodies is None:
            self._projects.append(project)
            return
        body = _ProjectBody(project.files, project.status, project.status_reason, project.status_revision)
        self._bodies.append(b"%b:%b" % (msgspec.json.encode(project.name), msgspec.json.encode(body)))

    def encoded(self, mtime: int) -> bytes:
        """Return the file's content, with `mtime` in Unix seconds."""
        if self._bodies is None:
            return _encode_toml(mtime, self._projects, self._backend_type, self._location)
        return b"".join(_joined(b'{"format":%d,"mtime":%d,"projects":{' % (_FORMAT, mtime), self._bodies, b"}}"))


def encode_index(
    filename: str, mtime: int, projects: Iterable[Project], *, backend_type: str, location: LocationField
) -> bytes:
    """Encode the index file of `projects`, as IndexEncoder does."""
    encoder = IndexEncoder(filename, backend_type=backend_type, location=location)
    for project in projects:
        encoder.add(project)
    return encoder.encoded(mtime)


def _joined(head: bytes, parts: Iterable[bytes], tail: bytes) -> Iterator[bytes]:
    yield head
    for number, part in enumerate(parts):
        if number:
            yield b","
        yield part
    yield tail


def _decode_json(content: bytes) -> Index:
    if len(content) > _IN_ONE_GO:
        return _split(content)
    document = msgspec.json.decode(content, type=_IndexDocument)
    _check_format(document.format)
    # The names were normalized when the file was written.
    bodies = _Bodies(b"".join(bytes(body) for body in document.projects.values()))
    at = 0
    for name, body in document.projects.items():
        size = len(bytes(body))
        bodies.add(ProjectName(name), at, at + size)
        at += size
    return Index(document.mtime, bodies)


def _check_format(number: int) -> None:
    if number != _FORMAT:
        raise msgspec.ValidationError(f"its format is {number}, this version reads {_FORMAT}")


def _split(content: bytes) -> Index:
    """Find the projects of a large index one by one, so that other threads run in between.

    The text is split where update_index ends a project. That sequence occurs nowhere else: in a JSON string each
    quotation mark has a backslash before it.
    """
    head = _HEAD.match(content)
    if head is None or not content.endswith(b"}}}"):
        raise msgspec.ValidationError("it was not written by update_index")
    _check_format(int(head[1]))
    bodies = _Bodies(content)
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
    return Index(int(head[2]), bodies)


def _end_of_project(content: bytes, start: int, last: int) -> int:
    """Return the position after the project that begins at `start`. One search holds up the other threads."""
    while start < last:
        window = start + _WINDOW
        found = content.find(_BETWEEN, start, min(window + len(_BETWEEN) - 1, last))
        if found >= 0:
            return found + 1
        start = window
    return last


@warmed_up
class _TomlEntry(msgspec.Struct, frozen=True):
    distrib: str
    package: str
    ext: str
    sha256: str
    meta: dict[str, str] = {}
    package_path: str | None = None
    url: str | None = None


class _TomlProject(msgspec.Struct, frozen=True):
    name: str
    status: str = "active"
    reason: str | None = None
    revision: int = 0


@warmed_up
class _TomlDocument(msgspec.Struct, frozen=True):
    mtime: int
    pkgs: list[Any] = []
    """Items of _TomlEntry, converted one by one: for a large index, one call for all would hold up the event loop."""
    projects: list[_TomlProject] = []


def _decode_toml(text: str, source: str) -> Index:
    document = msgspec.convert(loads(text, source), _TomlDocument)
    files: dict[ProjectName, dict[str, File]] = {}
    tables = document.pkgs[::-1]
    document.pkgs.clear()
    while tables:  # free each one immediately: freeing all together would hold up the event loop, too
        entry = msgspec.convert(tables.pop(), _TomlEntry)
        filename = f"{entry.package}.{entry.ext}"
        file = file_from_meta(filename, entry.meta | {"sha256": entry.sha256}, entry.url)
        if fault_of(file) is not None:
            continue  # update_index names it
        files.setdefault(normalize(entry.distrib), {})[filename] = file
    statuses = {normalize(p.name): p for p in document.projects}
    projects: dict[ProjectName, Project] = {}
    for name in sorted(files.keys() | statuses.keys()):
        own, status = files.get(name, {}), statuses.get(name)
        projects[name] = Project(
            name=name,
            files=tuple(own[f] for f in sorted(own)),
            status=status.status if status else "active",
            status_reason=status.reason and status.reason[:MAX_TEXT] if status else None,
            status_revision=status.revision if status else 0,
        )
    return Index(document.mtime, projects)


def _encode_toml(mtime: int, projects: Iterable[Project], backend_type: str, location: LocationField) -> bytes:
    pkgs: list[dict[str, Any]] = []
    statuses: list[dict[str, Any]] = []
    for project in projects:
        for file in project.files:
            extension = extension_of(file.filename) or ""
            entry: dict[str, Any] = {
                "type": backend_type,
                "distrib": project.name,
                "package": file.filename.removesuffix(extension),
                "ext": extension.removeprefix("."),
                "sha256": file.sha256,
            }
            own = location(project.name, file)
            if own is not None:
                entry[own[0]] = own[1]
            pkgs.append(entry | {"meta": meta_of(project.name, file)})
        if project.status != "active" or project.status_revision or not project.files:
            reason = {} if project.status_reason is None else {"reason": project.status_reason}
            revision = {"revision": project.status_revision} if project.status_revision else {}
            statuses.append({"name": project.name, "status": project.status} | reason | revision)
    document: dict[str, Any] = {"mtime": mtime, "pkgs": pkgs}
    if statuses:
        document["projects"] = statuses
    return dumps(document).encode()


def meta_of(project: ProjectName, file: File) -> dict[str, str]:
    """Return the flat strings of a `.meta` sidecar or a release's body; `distrib` and `sha256` are always there."""
    meta = {"distrib": str(project), "sha256": file.sha256}
    if file.size is not None:
        meta["size"] = str(file.size)
    given = {
        "upload_time": file.upload_time,
        "requires_python": file.requires_python,
        "metadata_sha256": file.metadata_sha256,
        "stamp": file.stamp,
    }
    meta |= {key: value for key, value in given.items() if value is not None}
    if file.yanked is not None:
        meta["yanked"] = file.yanked or _NO_REASON
    if file.revision:
        meta["revision"] = str(file.revision)
    return meta


def file_from_meta(filename: str, meta: Mapping[str, str], location: str | None = None) -> File:
    """Return a file from its flat strings. Keys that are not ours are ignored (the original kept the whole form).

    A malformed value counts as unknown if it can be read from the storage again. Raises InvalidConfigError if `sha256`
    is missing or malformed.
    """
    sha256 = meta.get("sha256", "").lower()
    if not _SHA256.match(sha256):
        raise InvalidConfigError(f"the sha256 of {filename!r} is {sha256[:80]!r}; it must be 64 hexadecimal digits.")
    yanked = meta.get("yanked")
    return File(
        filename=filename,
        sha256=sha256,
        size=int(size) if (size := _formed(meta, "size", _SIZE)) else None,
        upload_time=_formed(meta, "upload_time", _UPLOAD_TIME),
        requires_python=meta.get("requires_python") or None,
        metadata_sha256=_formed(meta, "metadata_sha256", _SHA256),
        yanked="" if yanked == _NO_REASON else yanked,
        location=location,
        stamp=_formed(meta, "stamp", _STAMP),
        revision=int(_formed(meta, "revision", _REVISION) or 0),
    )


def _formed(meta: Mapping[str, str], key: str, form: re.Pattern[str]) -> str | None:
    value = meta.get(key, "")
    return value if form.match(value) else None


def parse_meta(text: str, source: str) -> dict[str, str]:
    """Parse a `.meta` sidecar. Raises InvalidConfigError unless it is flat strings, with distrib and sha256."""
    table = loads(text, source)
    wrong = sorted(key for key, value in table.items() if not isinstance(value, str))
    missing = sorted({"distrib", "sha256"} - table.keys())
    if wrong or missing:
        raise InvalidConfigError(
            f"{source}: " + (f"{wrong[0]!r} is not a string." if wrong else f"{missing[0]!r} is missing.")
        )
    return table


def parse_status(text: str, source: str) -> ProjectStatus:
    """Parse a project's status file (PEP 792): `status`, and optionally `reason` and `revision`.

    A file that somebody wrote by hand needs no revision. Raises InvalidConfigError.
    """
    table = loads(text, source)
    status, reason, revision = table.get("status"), table.get("reason"), table.get("revision", 0)
    if (
        status not in STATUSES
        or not isinstance(reason, str | None)
        or type(revision) is not int
        or revision < 0
        or table.keys() - {"status", "reason", "revision"}
    ):
        raise InvalidConfigError(
            f"{source}: status must be one of {', '.join(STATUSES)}, with an optional text `reason` and number "
            "`revision`, nothing else."
        )
    if reason is not None and len(reason) > MAX_TEXT:
        raise InvalidConfigError(
            f"{source}: its reason has {len(reason)} characters; at most {MAX_TEXT} are allowed. Shorten it."
        )
    return ProjectStatus(status, reason, revision)


def status_text(status: ProjectStatus) -> str:
    """Return the text of a project's status file, which `parse_status` reads."""
    reason = {} if status.reason is None else {"reason": status.reason}
    return dumps({"status": status.status, **reason, "revision": status.revision})
