"""What a lock file pins, whatever its format. A lock file is hostile input: each part has a bound."""

from typing import NoReturn
from urllib.parse import unquote, urlsplit

import msgspec
from packaging.version import InvalidVersion, Version

from pywharf.core.errors import InvalidConfigError, InvalidFilenameError, InvalidNameError
from pywharf.core.filenames import MAX_VERSION, parse_upload_filename, version_of
from pywharf.core.names import ProjectName, normalize

MAX_PINS = 20_000
MAX_FILES_OF_PIN = 2_000
_MAX_SHOWN = 100


class LockedFile(msgspec.Struct, frozen=True):
    """One file of a pinned release, as far as the lock file describes it."""

    filename: str | None = None
    sha256: str | None = None
    """Hex digest in lower case."""
    upload_time: str | None = None
    """As in the lock file, which should be RFC 3339."""
    url: str | None = None
    size: int | None = None
    """Bytes."""


class Pin(msgspec.Struct, frozen=True):
    """One release of a project, from an index."""

    project: ProjectName
    version: str
    """In the normal form of PEP 440."""
    files: tuple[LockedFile, ...] = ()
    """Empty: the lock file names none, so it means every file of the release."""
    index: str | None = None
    """The URL of the index, if the lock file records it."""
    direct: bool = False
    """Whether the files come from a URL or a path and not from an index, so that only rules about all files count."""


class Note(msgspec.Struct, frozen=True):
    """A part of a lock file that pins nothing, or nothing of an index."""

    what: str
    why: str
    """What goes on after its subject: `is not pinned to one version`."""
    is_direct_pin: bool = False
    """Whether it is among the pins all the same, as a direct one."""

    def sentence(self, done: str) -> str:
        """Return what a person should know. `done` is what was to be done with the part, such as `tested`."""
        return f"{self.what!r} {self.why}, so it is not {done}"


class Lock(msgspec.Struct, frozen=True):
    """A lock file."""

    pins: tuple[Pin, ...] = ()
    notes: tuple[Note, ...] = ()


class Draft:
    """The pins and notes of a lock file that is being read."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._pins: list[Pin] = []
        self._notes: list[Note] = []

    def pin(self, name: str, version: str, files: tuple[LockedFile, ...], index: str | None = None) -> None:
        """Add a pin. Raises InvalidConfigError for a bad name or version, and past the bounds."""
        try:
            project = normalize(name)
        except InvalidNameError as error:
            self.fail(str(error))
        try:
            normal = str(Version(version[: MAX_VERSION + 1]))
        except (InvalidVersion, ValueError):
            self.fail(f"{version[:_MAX_SHOWN]!r} of {project!r} is not a version (PEP 440).")
        if len(version) > MAX_VERSION:
            self.fail(f"a version of {project!r} is over {MAX_VERSION} characters.")
        if len(files) > MAX_FILES_OF_PIN:
            self.fail(f"{project!r} has more than {MAX_FILES_OF_PIN} files.")
        if len(self._pins) >= MAX_PINS:
            self.fail(f"it pins more than {MAX_PINS} releases.")
        self._pins.append(Pin(project, normal, files, index))

    def direct(self, what: str, name: str | None, *files: LockedFile) -> None:
        """Add what comes from a URL or a path, one pin for each file whose name can be read, and note it."""
        read = False
        for file in files:
            try:
                project = normalize(name) if name is not None else _project_of(file.filename or "")
            except (InvalidNameError, InvalidFilenameError):
                continue
            version = version_of(file.filename or "", project)
            if version is not None:
                self.pin(project, version, (file,))
                self._pins[-1] = msgspec.structs.replace(self._pins[-1], direct=True)
                read = True
        self.note(what, "does not come from an index", is_direct_pin=read)

    def note(self, what: str, why: str, *, is_direct_pin: bool = False) -> None:
        """Note a part of the lock file; see Note."""
        if len(self._notes) < MAX_PINS:
            self._notes.append(Note(what[:_MAX_SHOWN], why, is_direct_pin))

    def fail(self, reason: str) -> NoReturn:
        """Raise InvalidConfigError for the lock file."""
        raise InvalidConfigError(f"{self._source}: {reason}")

    def lock(self) -> Lock:
        """Return what was read."""
        return Lock(tuple(self._pins), tuple(self._notes))


def _project_of(filename: str) -> ProjectName:
    return parse_upload_filename(filename).project


def filename_of(url: str) -> str | None:
    """Return the name of the file that a URL leads to, or None."""
    try:
        return unquote(urlsplit(url).path.rpartition("/")[2]) or None
    except ValueError:
        return None


def sha256_of(text: str) -> str | None:
    """Return the digest of `sha256:HEX` in lower case; None for another algorithm."""
    algorithm, _, digest = text.partition(":")
    return digest.lower() if algorithm == "sha256" else None
