"""The fields of core metadata (METADATA of a wheel, PKG-INFO of an sdist) that an index needs."""

import email.errors
import re

import msgspec
from packaging.metadata import parse_email
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from pywharf.core.errors import InvalidDistributionError
from pywharf.core.filenames import DistributionFilename, Kind

MAX_METADATA_BYTES = 10 * 1024 * 1024
MAX_REQUIRES_PYTHON = 1_000
"""Maximum characters of Requires-Python, which every page of the project holds."""
MAX_FIELDS = 20_000
MAX_FIELD_NAMES = 200
"""Maximum number of different field names. The parser searches all fields for each name."""
MAX_LINES = 100_000
"""Maximum lines of all fields. A description may be a field, and has as many lines as it has."""
_OLD_SPECIFIER = re.compile(r"(?:[\s,]*+(?:[~=!<>]=|===|[<>])?+\s*+v?+[0-9][0-9A-Za-z.*+!_-]*+)++[\s,]*+\Z", re.ASCII)
"""Values of Requires-Python on package indexes. The specification no longer allows some (`>=3.5.*`, `3`)."""
_FIELD = re.compile(rb"\n([^\s:]+)")
"""The name of a field. The literal at its beginning lets a search skip long lines: it holds the GIL meanwhile."""


class CoreMetadata(msgspec.Struct, frozen=True):
    """The fields that an index shows."""

    name: str
    version: str
    requires_python: str | None = None


def parse_metadata(raw: bytes, filename: DistributionFilename) -> CoreMetadata:
    """Parse core metadata and check it against the file's name.

    Unknown fields and metadata versions are allowed, because tools write them before indexes know them. Raises
    InvalidDistributionError for a missing or different name or version, or a Requires-Python that is not a list of
    versions. A value that only former specifications allowed, such as `>=3.5.*`, is kept unchanged.
    """
    shown = filename.filename
    try:
        # Old sdists may begin with a blank line.
        fields, unclear = parse_email(_fields(raw.lstrip(b"\r\n") if filename.kind is Kind.SDIST else raw, shown))
    except (UnicodeError, ValueError, email.errors.MessageError) as error:
        raise InvalidDistributionError(f"The core metadata in {shown!r} cannot be read: {error}.") from error
    name, version = fields.get("name", ""), fields.get("version", "")
    if not filename.has_project(name):
        raise InvalidDistributionError(
            f"The core metadata in {shown!r} names the project {name[:80]!r}; the file name says {filename.project!r}."
        )
    if not filename.has_version(version):
        raise InvalidDistributionError(
            f"The core metadata in {shown!r} has the version {version[:80]!r}; the file name says {filename.version!r}."
        )
    if "requires-python" in unclear:
        raise InvalidDistributionError(
            f"The core metadata in {shown!r} has two Requires-Python, or one that is not UTF-8; write one."
        )
    return CoreMetadata(name, version, _requires_python(fields.get("requires_python"), shown))


def _fields(raw: bytes, shown: str) -> bytes:
    """Return the fields only: an index does not need the description, which may hold arbitrarily nested e-mails."""
    text = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    fields = text.partition(b"\n\n")[0]
    names: set[bytes] = set()
    for count, found in enumerate(_FIELD.finditer(b"\n" + fields), 1):
        names.add(found[1].lower())
        if count > MAX_FIELDS or len(names) > MAX_FIELD_NAMES:
            raise InvalidDistributionError(
                f"The core metadata in {shown!r} has more than {MAX_FIELDS} fields, or {MAX_FIELD_NAMES} names of them."
            )
    if (line_count := fields.count(b"\n")) > MAX_LINES:
        raise InvalidDistributionError(
            f"The fields of the core metadata in {shown!r} have {line_count} lines; at most {MAX_LINES} are allowed."
        )
    return fields


def _requires_python(raw: str | None, shown: str) -> str | None:
    """Return the specifier on one line; None if it is missing or empty, which means the same."""
    if raw is not None and len(raw) > MAX_REQUIRES_PYTHON:
        raise InvalidDistributionError(
            f"Requires-Python in {shown!r} has {len(raw)} characters; at most {MAX_REQUIRES_PYTHON} are allowed. "
            "Shorten it and build the file again."
        )
    specifier = " ".join((raw or "").split())
    if not specifier.isprintable():
        raise InvalidDistributionError(
            f"Requires-Python in {shown!r} is {specifier[:80]!r}; it holds characters that cannot be shown."
        )
    try:
        SpecifierSet(specifier)
    except (InvalidSpecifier, ValueError) as error:
        if not _OLD_SPECIFIER.match(specifier):
            raise InvalidDistributionError(
                f"Requires-Python in {shown!r} is {specifier[:80]!r}, which is not a version specifier, "
                "for example '>=3.11'."
            ) from error
    return specifier or None
