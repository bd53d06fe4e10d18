"""Core metadata (METADATA of a wheel, PKG-INFO of an sdist), as far as an index needs it."""

import email.errors

import msgspec
from packaging.metadata import parse_email
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from pywharf.core.errors import InvalidDistributionError
from pywharf.core.filenames import DistributionFilename

MAX_METADATA_BYTES = 10 * 1024 * 1024


class CoreMetadata(msgspec.Struct, frozen=True):
    """The fields an index shows."""

    name: str
    version: str
    requires_python: str | None = None


def parse_metadata(raw: bytes, filename: DistributionFilename) -> CoreMetadata:
    """Read core metadata and hold it against the file's name.

    Unknown fields and metadata versions are allowed, as tools write them before indexes know them. Raises
    InvalidDistributionError for a missing or different name or version, or an invalid Requires-Python.
    """
    shown = filename.filename
    try:
        fields, _ = parse_email(raw)
    except (UnicodeError, ValueError, email.errors.MessageError) as error:
        msg = f"The core metadata in {shown!r} cannot be read: {error}."
        raise InvalidDistributionError(msg) from error
    name, version = fields.get("name", ""), fields.get("version", "")
    if not filename.has_project(name):
        msg = (
            f"The core metadata in {shown!r} names the project {name[:80]!r}; the file name says {filename.project!r}."
        )
        raise InvalidDistributionError(msg)
    if not filename.has_version(version):
        msg = (
            f"The core metadata in {shown!r} has the version {version[:80]!r}; the file name says {filename.version!r}."
        )
        raise InvalidDistributionError(msg)
    requires_python = fields.get("requires_python")
    if requires_python is not None:
        try:
            SpecifierSet(requires_python)
        except InvalidSpecifier as error:
            msg = (
                f"Requires-Python in {shown!r} is {requires_python[:80]!r}, which is not a version specifier, "
                "for example '>=3.11'."
            )
            raise InvalidDistributionError(msg) from error
    return CoreMetadata(name, version, requires_python)
