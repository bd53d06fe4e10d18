"""Read the core metadata of a wheel or an sdist safely, from a stream that the caller opened.

Nothing is unpacked to disk. Memory and time are bounded by the limits below, whatever the archive claims about itself.
The whole archive is read. An archive that two installers could read differently is rejected.
"""

import errno
import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import IO, BinaryIO, Self, cast

import msgspec

from pywharf.core.errors import InvalidDistributionError
from pywharf.core.filenames import DistributionFilename, Kind
from pywharf.core.member_tree import MAX_PATH, MemberKind, MemberTree
from pywharf.core.metadata import MAX_METADATA_BYTES
from pywharf.core.wheel_record import MAX_RECORD_BYTES, WheelRecord
from pywharf.core.zip_reading import UnreadableZipError, ZipReader

MAX_MEMBERS = 200_000
MAX_EXPANSION = 200
"""Maximum ratio of unpacked to packed size: far above that of real archives, far below a decompression bomb's."""
_EXPANSION_ALLOWANCE = 64 * 1024 * 1024
_ZIP_ALLOWANCE = 512 * 1024 * 1024
"""Bytes, more than for a tar, because a zip declares its unpacked size in advance."""
_LARGE_EXPANSION = 8
_LARGE_ALLOWANCE = 4 * 1024**3
"""The same limits for large archives: unpacking takes a thread's time, some seconds per GB."""
_CHUNK = 1024 * 1024
_PACKED_CHUNK = 64 * 1024
_MAX_HEADER = 8 * 1024
"""Maximum bytes that describe one member of a tar, such as its long path. tarfile keeps them all in memory."""
_MAX_HEADERS = 32 * 1024 * 1024
"""Maximum bytes that describe all members, besides the one block that each member has."""
_MAX_GLOBAL_FIELDS = 20
"""Maximum number of fields that a tar sets for every member; each member gets a copy of them."""
_TAR_BUFFER = 4 * 1024
"""Bytes per read of tarfile; small, so that it does not get far ahead of the allowed position."""
_MAX_HEADERS_OF_ONE = 16
"""Maximum number of headers before one member's content."""
_TOO_MANY_HEADERS = "too many headers before one member"
_NOT_GLOBAL = {"size", "path", "linkpath"}
"""Fields that may be set only for a single member."""
_MAX_PKG_INFOS = 2
"""Maximum number of PKG-INFO files, at the top or one folder below; each is kept until the archive is read."""
_MAGIC_BYTES = tarfile.BLOCKSIZE
_OTHER_KINDS = {b"BZh": "compressed by bzip2", b"\xfd7zXZ": "compressed by xz", b"PK\x03\x04": "a zip"}
"""First bytes of archives that are not gzip."""
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
    tree, dist_infos = _zip_tree(archive, _max_unpacked_bytes(stream, _ZIP_ALLOWANCE), filename)
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
    tree, _ = _zip_tree(archive, _max_unpacked_bytes(stream, _ZIP_ALLOWANCE), filename)
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
            raise _too_much(most, filename)
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
        raise InvalidDistributionError(f"{path!r} in {filename.filename!r} is over {MAX_METADATA_BYTES} bytes.")
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


class _Unpacked:
    """The unpacked content of a gzip stream, up to a limit that grows as the members of its tar are read."""

    def __init__(self, inner: BinaryIO, total: int, filename: DistributionFilename) -> None:
        self._inner = inner
        self._gzip = zlib.decompressobj(zlib.MAX_WBITS | 16)
        self._packed = b""
        self._total = total
        self._filename = filename
        self._position = 0
        self.content_end = 0
        """Position after the last non-zero byte read so far."""
        self.allow(0)

    def allow(self, position: int) -> None:
        """Allow reads up to one more member's header after `position`."""
        self._allowed = position + _MAX_HEADER + _TAR_BUFFER

    def read(self, size: int) -> bytes:
        data = b""
        while not data and not self._gzip.eof:
            self._packed = self._packed or self._inner.read(_PACKED_CHUNK)
            data = self._decompressed(size)
            if not data and not self._packed and not self._gzip.eof:
                raise EOFError("it is cut off")
            self._packed = self._gzip.unconsumed_tail
        if not data:
            self._refuse_more()
        before = self._position
        self._position += len(data)
        filled = len(data.rstrip(b"\0"))
        if filled:
            self.content_end = before + filled
        if self._position > self._total:
            raise _too_much(self._total, self._filename)
        if self._position > self._allowed:
            raise InvalidDistributionError(
                f"{self._filename.filename!r} holds a member that takes over {_MAX_HEADER} bytes to describe."
            )
        return data

    def _decompressed(self, size: int) -> bytes:
        try:
            return self._gzip.decompress(self._packed, size)
        except zlib.error as error:
            if "data check" not in str(error) and "length check" not in str(error):
                raise
            raise tarfile.ReadError(f"CRC check failed: {error}") from error

    def drain(self, end: int) -> None:
        """Read to the end, so that gzip's checksum is checked. Only zeros may follow `end` and the gzip stream."""
        self._allowed = self._total
        while self.read(_CHUNK):
            pass
        if self.content_end > end:
            msg = f"bytes follow the end of its tar at {end}, or it holds two archives"
            raise tarfile.ReadError(msg)

    def _refuse_more(self) -> None:
        """Raise ReadError where anything but zeros follows the gzip: else a tar in two of them seems to be cut off."""
        after = self._gzip.unused_data or self._inner.read(_PACKED_CHUNK)
        while after:
            if after.strip(b"\0"):
                raise tarfile.ReadError("bytes follow its gzip, or it holds a second one; compress it as one")
            after = self._inner.read(_PACKED_CHUNK)


def _from_tar_sdist(stream: BinaryIO, filename: DistributionFilename) -> Contents:
    most = _max_unpacked_bytes(stream, _EXPANSION_ALLOWANCE)
    _check_magic(stream.read(_MAGIC_BYTES))
    if zipfile.is_zipfile(stream):
        raise InvalidDistributionError(
            f"{filename.filename!r} is a zip, too, and pip would unpack it as that; build it again."
        )
    stream.seek(0)
    found: dict[str, bytes] = {}
    tree = MemberTree(filename.filename, MAX_MEMBERS)
    unpacked = _Unpacked(stream, most, filename)
    headers: list[tuple[bytes, int]] = []
    # Stream mode reads members in order without seeking, so each byte is unpacked once.
    with tarfile.open(
        fileobj=cast("IO[bytes]", unpacked), mode="r|", bufsize=_TAR_BUFFER, tarinfo=_noting(headers)
    ) as archive:
        end = 0
        for member, end in _members(archive, unpacked, headers, filename):  # noqa: B007 - used after the loop
            path = _add_to_tree(tree, member, filename)
            if member.isfile() and path.count("/") <= 1 and path.rpartition("/")[2] == "PKG-INFO":
                opened = archive.extractfile(member)
                assert opened is not None  # noqa: S101 - the member is a file
                found[path] = _bounded(opened, path, filename)
                if len(found) > _MAX_PKG_INFOS:
                    raise InvalidDistributionError(
                        f"{filename.filename!r} is not an sdist: everything must lie in one folder."
                    )
    unpacked.drain(end)
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
    raise InvalidDistributionError(
        f"{shown!r} holds {member.name[:200]!r}, which is neither a file, a folder nor a link."
    )


def _check_magic(magic: bytes) -> None:
    for begins, kind in _OTHER_KINDS.items():
        if magic.startswith(begins):
            raise tarfile.ReadError(f"it is {kind}; compress it by gzip")
    if len(magic) == _MAGIC_BYTES and _is_tar_header(magic):
        raise tarfile.ReadError("it is a tar that is not compressed; compress it by gzip")


def _is_tar_header(block: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def _noting(headers: list[tuple[bytes, int]]) -> type[tarfile.TarInfo]:
    """Return a TarInfo class that records each header's kind and size before other headers override them."""

    class Noting(tarfile.TarInfo):
        @classmethod
        def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
            info = super().frombuf(buf, encoding, errors)
            if len(headers) > _MAX_HEADERS_OF_ONE:
                raise tarfile.HeaderError(_TOO_MANY_HEADERS)
            headers.append((info.type, info.size))
            return info

    return Noting


def _max_unpacked_bytes(stream: BinaryIO, allowance: int) -> int:
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    return min(size * MAX_EXPANSION + allowance, size * _LARGE_EXPANSION + _LARGE_ALLOWANCE)


def _too_much(most: int, filename: DistributionFilename) -> InvalidDistributionError:
    return InvalidDistributionError(f"{filename.filename!r} unpacks to more than {most} bytes, too much for its size.")


def _members(
    archive: tarfile.TarFile, unpacked: _Unpacked, noted: list[tuple[bytes, int]], filename: DistributionFilename
) -> Iterator[tuple[tarfile.TarInfo, int]]:
    """Yield the members in order, each with the position where its content ends. No member is kept."""
    count = headers = end = 0
    while (member := archive.next()) is not None:
        count += 1
        headers += member.offset_data - end
        if count > MAX_MEMBERS:
            raise InvalidDistributionError(f"{filename.filename!r} has more than {MAX_MEMBERS} members.")
        if headers > _MAX_HEADERS + count * tarfile.BLOCKSIZE or not _may_be_global(archive.pax_headers):
            raise InvalidDistributionError(
                f"{filename.filename!r} takes too much to describe its members; build it again without extras."
            )
        if member.issparse():
            raise InvalidDistributionError(
                f"{filename.filename!r} holds the sparse file {member.name[:200]!r}; build it again without."
            )
        _check_headers(noted, member)
        noted.clear()
        end = member.offset_data + (member.size if member.isfile() else 0)
        end += -end % tarfile.BLOCKSIZE
        unpacked.allow(end)
        archive.members.clear()  # type: ignore[attr-defined] # tarfile keeps every member it read
        yield member, end


def _check_headers(noted: list[tuple[bytes, int]], member: tarfile.TarInfo) -> None:
    """Reject a member whose headers contradict each other, because tools differ in which header they follow."""
    kinds = [kind for kind, _ in noted[:-1]]
    pax = sum(kind in {tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE} for kind in kinds)
    names, links = kinds.count(tarfile.GNUTYPE_LONGNAME), kinds.count(tarfile.GNUTYPE_LONGLINK)
    if max(pax, names, links) > 1 or (pax and (names or links)):
        raise tarfile.ReadError(f"{member.name[:200]!r} is described twice")
    if noted and noted[-1][1] != member.size:
        raise tarfile.ReadError(f"{member.name[:200]!r} has two sizes, {noted[-1][1]} and {member.size}")


def _may_be_global(fields: Mapping[str, str]) -> bool:
    return len(fields) <= _MAX_GLOBAL_FIELDS and not fields.keys() & _NOT_GLOBAL
