"""File names of distributions (the packaging specifications for wheels and sdists)."""

import enum
import functools
import re

import msgspec
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from pywharf.core.errors import InvalidFilenameError, InvalidNameError
from pywharf.core.names import ProjectName, normalize

METADATA_SUFFIX = ".metadata"
"""Suffix of a file's URL that gives the URL of its core metadata (PEP 658)."""

_UPLOADABLE = (".whl", ".tar.gz", ".zip")
# Kinds that the original stored and pip can install. Stored files are served; new uploads are rejected.
_LEGACY = (".tar.bz2", ".tbz", ".tgz", ".tar", ".tar.xz", ".txz", ".tlz", ".tar.lz", ".tar.lzma")
_EXTENSIONS = tuple(sorted((*_UPLOADABLE, *_LEGACY), key=len, reverse=True))
_MAX_UPLOAD = 240
MAX_VERSION = 255
"""Maximum characters of a version. A longer one takes time to parse, and Python parses no number over 4,300 digits."""
MAX_FILENAME = 255
"""Maximum bytes of a file's name; no file system allows more."""
_MAX_STORED = MAX_FILENAME - len(".meta")
"""Maximum bytes of a stored file's name, because its record lies beside it with a longer name."""
_FILENAME = re.compile(r"[A-Za-z0-9._+!-]*\Z")
"""The characters that the specifications allow in names of distributions; the packaging library allows more."""


class Kind(enum.Enum):
    """The kind of a distribution file."""

    WHEEL = "wheel"
    SDIST = "sdist"


class DistributionFilename(msgspec.Struct, frozen=True):
    """A parsed file name; `extension` begins with a dot."""

    filename: str
    project: ProjectName
    version: str
    kind: Kind
    extension: str

    def has_project(self, raw: str) -> bool:
        """Return whether `raw`, in any spelling, is this file's project."""
        return is_project(raw, self.project)

    def has_version(self, raw: str) -> bool:
        """Return whether `raw`, in any spelling, is this file's version."""
        if raw == self.version:
            return True
        if len(raw) > MAX_VERSION:
            return False
        try:
            return Version(raw) == Version(self.version)
        except InvalidVersion:
            return False


def is_plain(filename: str) -> bool:
    """Return whether a name has only characters of distribution names, none of which leads to another folder."""
    return _FILENAME.match(filename) is not None


def may_be_stored(filename: str) -> bool:
    """Return whether a storage may hold a distribution of that name, with its record beside it."""
    return is_plain(filename) and len(filename) <= _MAX_STORED


def names_stored_file(filename: str) -> bool:
    """Return whether a storage may hold a distribution of that name. It may be any text."""
    return may_be_stored(filename) and not filename.startswith(".") and extension_of(filename) is not None


def extension_of(filename: str) -> str | None:
    """Return the known extension that `filename` ends in, with its dot, or None."""
    if not is_distribution(filename):
        return None
    return next((e for e in _EXTENSIONS if len(filename) > len(e) and filename.endswith(e)), None)


def is_distribution(filename: str) -> bool:
    """Return whether `filename` has a known extension. Costs little, because a scan asks for each entry of a folder."""
    return filename.endswith(_EXTENSIONS) and filename not in _EXTENSIONS


def parse_upload_filename(filename: str) -> DistributionFilename:
    """Parse the name of a file to publish. Raises InvalidFilenameError for paths, other kinds and bad forms."""
    shown = filename[:_MAX_UPLOAD]
    if len(filename) > _MAX_UPLOAD:
        raise InvalidFilenameError(f"The file name {shown!r}… is over {_MAX_UPLOAD} characters.")
    if not is_plain(filename):
        raise InvalidFilenameError(
            f"{shown!r} is not the file name of a distribution: use ASCII letters, digits and the signs . _ + ! -"
        )
    if not filename.endswith(_UPLOADABLE):
        raise InvalidFilenameError(f"{shown!r} is neither a wheel (.whl) nor an sdist (.tar.gz, .zip).")
    try:
        if filename.endswith(".whl"):
            name, version, _, _ = parse_wheel_filename(filename)
            kind = Kind.WHEEL
        else:
            name, version = parse_sdist_filename(filename)
            kind = Kind.SDIST
        project = normalize(name)
    except (InvalidWheelFilename, InvalidSdistFilename, InvalidVersion, InvalidNameError) as error:
        raise InvalidFilenameError(f"{shown!r} is not a valid wheel or sdist file name: {error}") from error
    extension = extension_of(filename)
    assert extension is not None  # noqa: S101 - the suffix was checked above
    return DistributionFilename(filename, project, str(version), kind, extension)


@functools.lru_cache(maxsize=65536)
def version_of(filename: str, project: ProjectName) -> str | None:
    """Return the version in a stored file's name, in normal form; None if the name has no readable version."""
    extension = extension_of(filename)
    if extension is None or len(filename) > MAX_FILENAME:
        return None
    stem = filename[: -len(extension)]
    if extension == ".whl":
        parts = stem.split("-")
        candidate = parts[1] if len(parts) > 1 else ""
    else:
        candidate = next((stem[i + 1 :] for i, c in enumerate(stem) if c == "-" and is_project(stem[:i], project)), "")
    try:
        return str(Version(candidate))
    except InvalidVersion:
        return None


def is_project(raw: str, project: ProjectName) -> bool:
    """Return whether `raw`, in any spelling, is this project's name."""
    try:
        return normalize(raw) == project
    except InvalidNameError:
        return False
