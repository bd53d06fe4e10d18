"""Safe reading of the core metadata from a wheel or an sdist, on a stream that the caller opened.

Nothing is unpacked. Memory and time are bounded by the limits below, whatever the archive claims about itself.
"""

import errno
import gzip
import io
import posixpath
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import IO, BinaryIO, cast

from pywharf.core.errors import InvalidDistributionError
from pywharf.core.filenames import DistributionFilename, Kind
from pywharf.core.metadata import MAX_METADATA_BYTES

MAX_MEMBERS = 200_000
MAX_PATH = 1024
"""Characters of a member's path."""
MAX_EXPANSION = 200
"""How many times an sdist's size it may unpack to; far above real ones, far below a decompression bomb."""
_EXPANSION_ALLOWANCE = 64 * 1024 * 1024
_LARGE_EXPANSION = 8
_LARGE_ALLOWANCE = 4 * 1024**3
"""The same for large ones: what is unpacked takes a thread's time, some seconds for a GB."""
_CHUNK = 1024 * 1024
_MAX_DIRECTORY = 64 * 1024 * 1024
"""Bytes of a zip's list of members."""
_MEMBER_SIGNATURE = b"PK\x01\x02"
"""What each member in that list begins with."""
_MAX_HEADER = 8 * 1024
"""Bytes that may describe one member of a tar: its long path and the like. Tar keeps them all in memory."""
_MAX_HEADERS = 32 * 1024 * 1024
"""Bytes that may describe all members, beside the one block that each has."""
_MAX_GLOBAL_FIELDS = 20
"""Fields that a tar may give every member; each member gets a copy of them."""
_TAR_BUFFER = 4 * 1024
"""Bytes that tarfile reads at once, so that it is not far ahead of what it was allowed."""
_ENCRYPTED = 0x1
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
"""Compression that can be undone in bounded memory, and that all installers know."""
_UNREADABLE = (
    zipfile.BadZipFile,
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
"""Of the OSErrors those that the archive causes: gzip's own, and a position outside the file."""


def read_metadata(stream: BinaryIO, filename: DistributionFilename) -> bytes:
    """The raw core metadata. Raises InvalidDistributionError where the archive is not what its name says."""
    try:
        if filename.kind is Kind.WHEEL:
            return _from_wheel(stream, filename)
        if filename.extension == ".zip":
            return _from_zip_sdist(stream, filename)
        return _from_tar_sdist(stream, filename)
    except _UNREADABLE as error:
        if isinstance(error, OSError) and error.errno not in _ARCHIVE_ERRNO:
            raise
        kind = "zip" if filename.extension in {".whl", ".zip"} else "tar.gz"
        reason = str(error) or type(error).__name__
        msg = f"{filename.filename!r} is not a readable {kind} archive: {reason}. Build it again and upload that."
        raise InvalidDistributionError(msg) from error


def _from_wheel(stream: BinaryIO, filename: DistributionFilename) -> bytes:
    with _zip(stream, filename) as archive:
        members = _checked_members(archive, filename)
        folders = {path.split("/", 1)[0] for path in members if "/" in path}
        dist_infos = sorted(folder for folder in folders if folder.endswith(".dist-info"))
        if len(dist_infos) != 1 or not _is_of(dist_infos[0], filename):
            msg = (
                f"{filename.filename!r} must hold exactly one folder {filename.project}-{filename.version}.dist-info; "
                f"it has {dist_infos[:5]}."
            )
            raise InvalidDistributionError(msg)
        for needed in ("METADATA", "WHEEL", "RECORD"):
            path = f"{dist_infos[0]}/{needed}"
            if path not in members:
                msg = f"{filename.filename!r} is not a wheel: {path!r} is missing."
                raise InvalidDistributionError(msg)
        return _read_member(archive, f"{dist_infos[0]}/METADATA", filename)


def _from_zip_sdist(stream: BinaryIO, filename: DistributionFilename) -> bytes:
    with _zip(stream, filename) as archive:
        members = _checked_members(archive, filename)
        path = _pkg_info({path.split("/", 1)[0] for path in members}, filename)
        if path not in members:
            raise _without_pkg_info(path, filename)
        return _read_member(archive, path, filename)


class _ZipReads:
    """The stream as zipfile reads it: its list of members, which zipfile takes whole, comes with a limit."""

    def __init__(self, inner: BinaryIO, filename: DistributionFilename) -> None:
        self.seek, self.tell, self.seekable = inner.seek, inner.tell, inner.seekable
        self._inner = inner
        self._filename = filename

    def read(self, size: int = -1) -> bytes:
        if size > _MAX_DIRECTORY:
            msg = f"{self._filename.filename!r} says that its list of members takes {size} bytes."
            raise InvalidDistributionError(msg)
        data = self._inner.read(size if size >= 0 else _MAX_DIRECTORY)
        if data.count(_MEMBER_SIGNATURE) > MAX_MEMBERS:
            raise _too_many_members(self._filename)
        return data


def _zip(stream: BinaryIO, filename: DistributionFilename) -> zipfile.ZipFile:
    return zipfile.ZipFile(cast("IO[bytes]", _ZipReads(stream, filename)))


def _too_many_members(filename: DistributionFilename) -> InvalidDistributionError:
    return InvalidDistributionError(f"{filename.filename!r} has more than {MAX_MEMBERS} members.")


def _checked_members(archive: zipfile.ZipFile, filename: DistributionFilename) -> set[str]:
    paths: set[str] = set()
    for info in archive.infolist():
        # `filename` is what zipfile makes of it (cut at a NUL byte); what other tools see is the original.
        _check_path(info.orig_filename, filename)
        if info.filename in paths:
            raise _twice(info.filename, filename)
        if info.flag_bits & _ENCRYPTED:
            msg = f"{filename.filename!r} holds {info.filename!r} encrypted."
            raise InvalidDistributionError(msg)
        paths.add(info.filename)
    return paths


def _twice(path: str, filename: DistributionFilename) -> InvalidDistributionError:
    return InvalidDistributionError(f"{filename.filename!r} holds {path!r} twice.")


def _check_path(path: str, filename: DistributionFilename) -> None:
    if len(path) > MAX_PATH:
        msg = f"{filename.filename!r} holds the path {path[:100]!r}…, which is over {MAX_PATH} characters."
        raise InvalidDistributionError(msg)
    parts = path.split("/")
    if not path or path.startswith("/") or "\\" in path or "\0" in path or ".." in parts or ":" in parts[0]:
        msg = f"{filename.filename!r} holds the path {path[:200]!r}, which would be unpacked outside its folder."
        raise InvalidDistributionError(msg)


def _read_member(archive: zipfile.ZipFile, path: str, filename: DistributionFilename) -> bytes:
    method = archive.getinfo(path).compress_type
    if method not in _METHODS:
        msg = f"{path!r} in {filename.filename!r} is compressed by the method {method}; use deflate, or store it."
        raise InvalidDistributionError(msg)
    with archive.open(path) as opened:
        return _bounded(opened, path, filename)


def _bounded(opened: IO[bytes], path: str, filename: DistributionFilename) -> bytes:
    raw = opened.read(MAX_METADATA_BYTES + 1)
    if len(raw) > MAX_METADATA_BYTES:
        msg = f"{path!r} in {filename.filename!r} is over {MAX_METADATA_BYTES} bytes."
        raise InvalidDistributionError(msg)
    return raw


def _is_of(dist_info: str, filename: DistributionFilename) -> bool:
    name, _, version = dist_info.removesuffix(".dist-info").rpartition("-")
    return filename.has_project(name) and filename.has_version(version)


def _pkg_info(tops: set[str], filename: DistributionFilename) -> str:
    if len(tops) != 1:
        msg = f"{filename.filename!r} is not an sdist: everything must lie in one folder, it has {sorted(tops)[:5]}."
        raise InvalidDistributionError(msg)
    return posixpath.join(*tops, "PKG-INFO")


def _without_pkg_info(path: str, filename: DistributionFilename) -> InvalidDistributionError:
    return InvalidDistributionError(f"{filename.filename!r} is not an sdist: it has no file {path!r}.")


class _Unpacked:
    """What a gzip stream unpacks to, up to a limit that grows with what was understood of it."""

    def __init__(self, inner: gzip.GzipFile, total: int, filename: DistributionFilename) -> None:
        self._inner = inner
        self._total = total
        self._position = 0
        self._filename = filename
        self.allow(0)

    def allow(self, position: int) -> None:
        """Give up to one more member's header after `position`."""
        self._allowed = position + _MAX_HEADER + _TAR_BUFFER

    def read(self, size: int) -> bytes:
        data = self._inner.read(size)
        self._position += len(data)
        if self._position > self._total:
            msg = f"{self._filename.filename!r} unpacks to more than {self._total} bytes, too much for its size."
            raise InvalidDistributionError(msg)
        if self._position > self._allowed:
            msg = f"{self._filename.filename!r} holds a member that takes over {_MAX_HEADER} bytes to describe."
            raise InvalidDistributionError(msg)
        return data

    def drain(self) -> None:
        """Read to the end, so that gzip's checksum is checked."""
        self._allowed = self._total
        while self.read(_CHUNK):
            pass


def _from_tar_sdist(stream: BinaryIO, filename: DistributionFilename) -> bytes:
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    found: dict[str, bytes] = {}
    tops: set[str] = set()
    with gzip.GzipFile(fileobj=stream) as packed:
        unpacked = _Unpacked(packed, _most_unpacked(size), filename)
        # Stream mode: members come in order, nothing is sought, so each byte is unpacked once.
        with tarfile.open(fileobj=cast("IO[bytes]", unpacked), mode="r|", bufsize=_TAR_BUFFER) as archive:
            for member in _members(archive, unpacked, filename):
                path = member.name.removeprefix("./")
                if path in {"", "."}:
                    continue
                _check_path(path, filename)
                _check_member(member, filename)
                tops.add(path.split("/", 1)[0])
                if member.isfile() and path.count("/") == 1 and path.endswith("/PKG-INFO"):
                    if path in found:
                        raise _twice(path, filename)
                    opened = archive.extractfile(member)
                    assert opened is not None  # noqa: S101 - it is a file
                    found[path] = _bounded(opened, path, filename)
        unpacked.drain()
    path = _pkg_info(tops, filename)
    if path not in found:
        raise _without_pkg_info(path, filename)
    return found[path]


def _most_unpacked(size: int) -> int:
    return min(size * MAX_EXPANSION + _EXPANSION_ALLOWANCE, size * _LARGE_EXPANSION + _LARGE_ALLOWANCE)


def _members(
    archive: tarfile.TarFile, unpacked: _Unpacked, filename: DistributionFilename
) -> Iterator[tarfile.TarInfo]:
    """The members in order, none of which is kept."""
    count = headers = end = 0
    while (member := archive.next()) is not None:
        count += 1
        headers += member.offset_data - end
        if count > MAX_MEMBERS:
            raise _too_many_members(filename)
        if headers > _MAX_HEADERS + count * tarfile.BLOCKSIZE or not _may_be_global(archive.pax_headers):
            msg = f"{filename.filename!r} takes too much to describe its members; build it again without extras."
            raise InvalidDistributionError(msg)
        if member.issparse():
            msg = f"{filename.filename!r} holds the sparse file {member.name[:200]!r}; build it again without."
            raise InvalidDistributionError(msg)
        end = member.offset_data + (member.size if member.isfile() else 0)
        end += -end % tarfile.BLOCKSIZE
        unpacked.allow(end)
        archive.members.clear()  # type: ignore[attr-defined] # tarfile keeps every member it read
        yield member


def _may_be_global(fields: Mapping[str, str]) -> bool:
    return len(fields) <= _MAX_GLOBAL_FIELDS and "size" not in fields


def _check_member(member: tarfile.TarInfo, filename: DistributionFilename) -> None:
    if member.issym() or member.islnk():
        base = posixpath.dirname(member.name) if member.issym() else ""
        target = posixpath.normpath(posixpath.join(base, member.linkname))
        if target.startswith(("/", "../")) or target == "..":
            msg = f"{filename.filename!r} holds the link {member.name[:200]!r}, which points outside its folder."
            raise InvalidDistributionError(msg)
    elif not (member.isfile() or member.isdir()):
        msg = f"{filename.filename!r} holds {member.name[:200]!r}, which is neither a file, a folder nor a link."
        raise InvalidDistributionError(msg)
