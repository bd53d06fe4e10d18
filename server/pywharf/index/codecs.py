"""Decode an index file in either of its two forms, `index.toml` (the original's) and `index.json`; encode it."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from pywharf.core.errors import BackendUnavailableError, InvalidConfigError, InvalidNameError
from pywharf.core.model import Project
from pywharf.core.names import ProjectName
from pywharf.index.index_json import Bodies, content_of, decode_json, decode_project, encode_project, json_mtime
from pywharf.index.index_toml import LocationField, decode_toml, encode_toml, toml_mtime
from pywharf.index.limits import MAX_TEXT, fault_of, max_index_bytes

_UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""The errors that msgspec raises for content that is not in our format."""


class Index:
    """A decoded index file. Projects of an `index.json` are decoded on first use."""

    __slots__ = ("_bodies", "_projects", "mtime")

    def __init__(self, mtime: int, projects: "Mapping[ProjectName, Project] | Bodies") -> None:
        self.mtime = mtime
        """Unix seconds at which the run that wrote the index began."""
        self._bodies = projects if isinstance(projects, Bodies) else _NO_BODIES
        self._projects = {} if isinstance(projects, Bodies) else projects

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
            body = decode_project(found)
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


_NO_BODIES = Bodies(b"")
EMPTY_INDEX = Index(0, {})


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
            return Index(*decode_json(content))
        return Index(*decode_toml(content.decode(), filename))
    except (*_UNDECODABLE, InvalidConfigError, InvalidNameError) as error:
        raise BackendUnavailableError(
            f"The index file {filename} cannot be read ({error}); run update_index to write it again."
        ) from error


def written_at(content: bytes, filename: str) -> int | None:
    """Return the time in Unix seconds that an index file begins with; None if update_index did not write it.

    The rest of the file is not read.
    """
    return json_mtime(content) if filename.endswith(".json") else toml_mtime(content)


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
        else:
            self._bodies.append(encode_project(project))

    def encoded(self, mtime: int) -> bytes:
        """Return the file's content, with `mtime` in Unix seconds."""
        return b"".join(self._content(mtime))

    def digest(self, mtime: int) -> bytes:
        """Return the SHA-256 of what `encoded` returns."""
        digest = hashlib.sha256()
        for part in self._content(mtime):
            digest.update(part)
        return digest.digest()

    def _content(self, mtime: int) -> Iterable[bytes]:
        if self._bodies is None:
            return (encode_toml(mtime, self._projects, self._backend_type, self._location),)
        return content_of(mtime, self._bodies)


def encode_index(
    filename: str, mtime: int, projects: Iterable[Project], *, backend_type: str, location: LocationField
) -> bytes:
    """Encode the index file of `projects`, as IndexEncoder does."""
    encoder = IndexEncoder(filename, backend_type=backend_type, location=location)
    for project in projects:
        encoder.add(project)
    return encoder.encoded(mtime)
