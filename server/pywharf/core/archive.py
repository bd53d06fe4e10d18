"""Read the core metadata of a wheel or an sdist safely, from a stream that the caller opened.

Nothing is unpacked to disk. Memory and time are bounded by the limits below, whatever the archive claims about itself.
The whole archive is read. An archive that two installers could read differently is rejected.
"""

import errno
import io
import struct
import tarfile
import zlib
from collections.abc import Callable
from typing import IO, BinaryIO

import msgspec

from pywharf.core.errors import InvalidDistributionError
from pywharf.core.filenames import DistributionFilename, Kind
from pywharf.core.member_tree import MAX_PATH, MemberKind, MemberTree
from pywharf.core.metadata import MAX_METADATA_BYTES
from pywharf.core.tar_reading import tar_members
from pywharf.core.wheel_record import MAX_RECORD_BYTES, WheelRecord
from pywharf.core.zip_format import UnreadableZipError
from pywharf.core.zip_reading import ZipReader

MAX_MEMBERS = 200_000
MAX_EXPANSION = 200
"""Maximum ratio of unpacked to packed size: far above that of real archives, far below a decompression bomb's."""
EXPANSION_ALLOWANCE = 64 * 1024 * 1024
ZIP_ALLOWANCE = 512 * 1024 * 1024
"""Bytes, more than for a tar, because a zip declares its unpacked size in advance."""
_LARGE_EXPANSION = 8
_LARGE_ALLOWANCE = 4 * 1024**3
"""The same limits for large archives: unpacking takes a thread's time, some seconds per GB."""
_MAX_PKG_INFOS = 2
"""Maximum number of PKG-INFO files, at the top or one folder below; each is kept until the archive is read."""
_BUILD_FILES = ("setup.py", "pyproject.toml")
"""Files that identify an sdist without PKG-INFO."""
_UNREADABLE = (
    UnreadableZipError,
    tarfile.TarError,
    OSError,
    zlib.error,
    struct.error,
    EOFError,
    UnicodeError,
    ValueError,
    NotImplementedError,
    RuntimeError,
    KeyError,
    OverflowError,
)
_ARCHIVE_ERRNO = {None, errno.EINVAL}
"""The errno of OSErrors that the archive causes: gzip's own errors (None), and a position outside the file."""


class Contents(msgspec.Struct, frozen=True):
    """The parts of an archive that an index needs."""

    metadata: bytes | None
    """The raw core metadata; None if an sdist has none."""
    notes: tuple[str, ...] = ()
    """Requirements that an old sdist does not meet, one sentence each."""


def read_metadata(stream: BinaryIO, filename: DistributionFilename) -> bytes:
    """Return the raw core metadata, empty if an sdist has none. Raises the same errors as `read_contents`."""
    return read_contents(stream, filename).metadata or b""


def read_contents(stream: BinaryIO, filename: DistributionFilename) -> Contents:
    """Read the whole archive. Raises InvalidDistributionError if it is not what its name says."""
    kind = "zip" if filename.extension in {".whl", ".zip"} else "tar.gz"
    try:
        if filename.kind is Kind.WHEEL:
            return Contents(_from_wheel(stream, filename))
        if filename.extension == ".zip":
            return _from_zip_sdist(stream, filename)
        return _from_tar_sdist(stream, filename)
    except _UNREADABLE as error:
        if isinstance(error, OSError) and error.errno not in _ARCHIVE_ERRNO:
            raise
        reason = str(error) or type(error).__name__
        raise InvalidDistributionError(
            f"{filename.filename!r} is not a readable {kind} archive: {reason}. Build it again and upload that."
        ) from error


def _from_wheel(stream: BinaryIO, filename: DistributionFilename) -> bytes:
    shown = filename.filename
    archive = ZipReader(stream, shown, MAX_MEMBERS)
    tree, dist_infos = _zip_tree(archive, max_unpacked_bytes(stream, ZIP_ALLOWANCE), filename)
    if len(dist_infos) != 1 or not _is_of(dist_infos[0], filename):
        raise InvalidDistributionError(
            f"{shown!r} must hold exactly one folder {filename.project}-{filename.version}.dist-info; "
            f"it has {dist_infos[:5]}."
        )
    for needed in ("METADATA", "WHEEL", "RECORD"):
        path = f"{dist_infos[0]}/{needed}"
        if not tree.is_file(path):
            raise InvalidDistributionError(f"{shown!r} is not a wheel: {path!r} is missing.")
    metadata = archive.read(f"{dist_infos[0]}/METADATA", MAX_METADATA_BYTES)
    try:
        metadata.decode()
    except UnicodeDecodeError as error:
        raise InvalidDistributionError(
            f"The core metadata in {shown!r} is not UTF-8 at byte {error.start}. Build the wheel again."
        ) from error
    path = f"{dist_infos[0]}/RECORD"
    record = WheelRecord(archive.read(path, MAX_RECORD_BYTES), path, shown, MAX_MEMBERS)
    archive.check_contents(record)
    record.check_complete()
    return metadata


def _from_zip_sdist(stream: BinaryIO, filename: DistributionFilename) -> Contents:
    archive = ZipReader(stream, filename.filename, MAX_MEMBERS)
    tree, _ = _zip_tree(archive, max_unpacked_bytes(stream, ZIP_ALLOWANCE), filename)
    tree.check_links()
    archive.check_contents()
    return _sdist_contents(tree, lambda path: archive.read(path, MAX_METADATA_BYTES), filename)


def _zip_tree(archive: ZipReader, most: int, filename: DistributionFilename) -> tuple[MemberTree, list[str]]:
    """Return the checked paths of a zip, and the names of its folders that end in `.dist-info`."""
    shown = filename.filename
    tree = MemberTree(shown, MAX_MEMBERS)
    dist_infos: set[str] = set()
    total = 0
    for member in archive.members():
        total += member.size
        if total > most:
            raise InvalidDistributionError.too_large_unpacked(shown, most)
        kind = MemberKind.FOLDER if member.is_folder else MemberKind.FILE
        target = ""
        if member.is_link:
            if filename.kind is Kind.WHEEL:
                raise InvalidDistributionError(
                    f"{shown!r} holds the link {member.path[:200]!r}; a wheel holds files and folders."
                )
            kind = MemberKind.LINK
            target = archive.read_member(member, MAX_PATH).decode("utf-8", "surrogateescape")
        plain = tree.add(member.path, kind, target)
        if plain and plain != member.path.removesuffix("/"):
            raise InvalidDistributionError(
                f"{shown!r} holds {member.path[:200]!r}, which is another spelling of {plain[:200]!r}."
            )
        top, _, rest = plain.partition("/")
        if top.endswith(".dist-info") and (rest or member.is_folder):
            dist_infos.add(top)
    return tree, sorted(dist_infos)


def _bounded(opened: IO[bytes], path: str, filename: DistributionFilename) -> bytes:
    raw = opened.read(MAX_METADATA_BYTES + 1)
    if len(raw) > MAX_METADATA_BYTES:
        raise InvalidDistributionError.too_large_member(filename.filename, path, MAX_METADATA_BYTES)
    return raw


def _is_of(dist_info: str, filename: DistributionFilename) -> bool:
    name, _, version = dist_info.removesuffix(".dist-info").rpartition("-")
    return filename.has_project(name) and filename.has_version(version)


def _sdist_contents(tree: MemberTree, read: Callable[[str], bytes], filename: DistributionFilename) -> Contents:
    """Return an sdist's core metadata, and a note for each requirement of the current specification that it lacks."""
    shown = filename.filename
    is_flat = len(tree.tops) != 1 or bool(tree.files_at_top)
    folder = "" if is_flat else f"{next(iter(tree.tops))}/"
    path = f"{folder}PKG-INFO"
    if not any(tree.is_file(folder + name) for name in ("PKG-INFO", *_BUILD_FILES)):
        raise InvalidDistributionError(
            f"{shown!r} is not an sdist: everything must lie in one folder, it has {sorted(tree.tops)[:5]}."
            if is_flat
            else f"{shown!r} is not an sdist: it has no file {path!r}, and none of {' and '.join(_BUILD_FILES)}."
        )
    notes = []
    if is_flat:
        stem = f"{filename.project.replace('-', '_')}-{filename.version}"
        notes.append(f"{shown!r} has files outside a folder; an sdist holds everything in one folder, {stem!r}.")
    if tree.is_file(path):
        return Contents(read(path), tuple(notes))
    if tree.has(path):
        raise InvalidDistributionError(f"{shown!r} is not an sdist: {path!r} must be a regular file.")
    notes.append(
        f"{shown!r} has no file {path!r}: its name and version are what the file name says, and clients are told no "
        "Requires-Python."
    )
    return Contents(None, tuple(notes))


def _from_tar_sdist(stream: BinaryIO, filename: DistributionFilename) -> Contents:
    shown = filename.filename
    found: dict[str, bytes] = {}
    tree = MemberTree(shown, MAX_MEMBERS)
    for archive, member in tar_members(stream, shown, MAX_MEMBERS, max_unpacked_bytes(stream, EXPANSION_ALLOWANCE)):
        path = _add_to_tree(tree, member, filename)
        if member.isfile() and path.count("/") <= 1 and path.rpartition("/")[2] == "PKG-INFO":
            opened = archive.extractfile(member)
            assert opened is not None  # noqa: S101 - it is a file
            found[path] = _bounded(opened, path, filename)
            if len(found) > _MAX_PKG_INFOS:
                raise InvalidDistributionError(f"{shown!r} is not an sdist: everything must lie in one folder.")
    tree.check_links()
    return _sdist_contents(tree, found.__getitem__, filename)


def _add_to_tree(tree: MemberTree, member: tarfile.TarInfo, filename: DistributionFilename) -> str:
    shown = filename.filename
    if member.isfile():
        return tree.add(member.name, MemberKind.FILE)
    if member.size:
        raise InvalidDistributionError(
            f"{shown!r} holds {member.name[:200]!r}, no regular file, with {member.size} bytes of content."
        )
    if member.isdir():
        return tree.add(member.name, MemberKind.FOLDER)
    if member.issym():
        return tree.add(member.name, MemberKind.LINK, member.linkname)
    if member.islnk():
        # A hard link must be a second name of an earlier file; not every unpacker can link to anything else.
        target = "/".join(part for part in member.linkname.split("/") if part not in {"", "."})
        if member.linkname.startswith("/") or not tree.is_file(target):
            raise InvalidDistributionError(
                f"{shown!r} holds the link {member.name[:200]!r}, which points outside its folder or to "
                f"{member.linkname[:200]!r}, which is no file before it."
            )
        return tree.add(member.name, MemberKind.FILE)
    raise InvalidDistributionError.special_member(shown, member.name)


def max_unpacked_bytes(stream: BinaryIO, allowance: int) -> int:
    """Return the maximum unpacked size of the archive in `stream`, which is then at its start."""
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    return min(size * MAX_EXPANSION + allowance, size * _LARGE_EXPANSION + _LARGE_ALLOWANCE)
