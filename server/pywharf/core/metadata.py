"""The fields of core metadata (METADATA of a wheel, PKG-INFO of an sdist) that an index needs."""

import email.errors
import functools
import re
from collections.abc import Container, Mapping
from typing import Any

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
_SHORT = 64 * 1024
"""Bytes of fields that are searched in one call."""
_PLAIN = re.compile(rb"(?:(?!content-|mime-)[a-z0-9-]++:[\t -~]*+(?:\n|\Z))*+\Z", re.IGNORECASE)
"""Fields of one line each in printable ASCII, none of which changes how a parser of e-mails reads the others."""
_NEEDED = re.compile(rb"^(name|version|requires-python):[\t ]*+([\t -~]*+)$", re.IGNORECASE | re.MULTILINE)
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
        fields, unclear = _parsed(_fields(raw.lstrip(b"\r\n") if filename.kind is Kind.SDIST else raw, shown))
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


def _parsed(fields: bytes) -> tuple[Mapping[str, Any], Container[str]]:
    """Parse fields. Return them by name, and the names of those that are unclear.

    In plain fields, as in most distributions, the needed ones are found directly, as the parser of e-mails would in
    twenty times the time.
    """
    if len(fields) <= _SHORT and _PLAIN.match(fields) is not None:
        found = [(str(name, "ascii").lower(), str(value, "ascii")) for name, value in _NEEDED.findall(fields)]
        if len(plain := dict(found)) == len(found):
            return {name.replace("-", "_"): value for name, value in plain.items()}, ()
    parsed, unclear = parse_email(fields)
    return parsed, unclear


@functools.lru_cache(maxsize=1024)
def _is_specifier(text: str) -> bool:
    """Return whether a text is a list of version specifiers, or a form that only former specifications allowed."""
    try:
        SpecifierSet(text)
    except (InvalidSpecifier, ValueError):
        return _OLD_SPECIFIER.match(text) is not None
    return True


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
    if not _is_specifier(specifier):
        raise InvalidDistributionError(
            f"Requires-Python in {shown!r} is {specifier[:80]!r}, which is not a version specifier, "
            "for example '>=3.11'."
        )
    return specifier or None
