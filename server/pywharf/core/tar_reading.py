"""Read the members of a packed tar in their order, within limits, and only if every reader sees the same.

tarfile keeps in memory whatever describes a member, and follows one of several headers that contradict each other. Here
both are bounded and checked before a member is used.
"""

import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import IO, BinaryIO, Self, cast

from pywharf.core.errors import InvalidDistributionError

_CHUNK = 1024 * 1024
_PACKED_CHUNK = 64 * 1024
_MAX_HEADER = 8 * 1024
"""Maximum bytes that describe one member of a tar, such as its long path. tarfile keeps them all in memory."""
MAX_HEADERS = 32 * 1024 * 1024
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
_MAGIC_BYTES = tarfile.BLOCKSIZE
_OTHER_KINDS = {b"BZh": "compressed by bzip2", b"\xfd7zXZ": "compressed by xz", b"PK\x03\x04": "a zip"}
"""First bytes of archives that are not gzip."""


def tar_members(
    stream: BinaryIO, shown: str, max_members: int, max_bytes: int
) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Yield the members, each with the archive from which its content may be read before the next one.

    `shown` is the file's name. The end is checked after the last member. Raises InvalidDistributionError if a limit is
    exceeded, EOFError, zlib.error and tarfile.TarError if the archive is broken.
    """
    _check_magic(stream.read(_MAGIC_BYTES))
    if zipfile.is_zipfile(stream):
        raise InvalidDistributionError(f"{shown!r} is a zip, too, and pip would unpack it as that; build it again.")
    stream.seek(0)
    unpacked = _Unpacked(stream, max_bytes, shown)
    headers: list[tuple[bytes, int]] = []
    # Stream mode reads members in order without seeking, so each byte is unpacked once.
    with tarfile.open(
        fileobj=cast("IO[bytes]", unpacked), mode="r|", bufsize=_TAR_BUFFER, tarinfo=_noting(headers)
    ) as archive:
        end = 0
        for member, end in _members(archive, unpacked, headers, shown, max_members):  # noqa: B007 - used after the loop
            yield archive, member
    unpacked.drain(end)


class _Unpacked:
    """The unpacked content of a gzip stream, up to a limit that grows as the members of its tar are read."""

    def __init__(self, inner: BinaryIO, total: int, shown: str) -> None:
        self._inner = inner
        self._gzip = zlib.decompressobj(zlib.MAX_WBITS | 16)
        self._packed = b""
        self._total = total
        self._shown = shown
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
            raise InvalidDistributionError.too_large_unpacked(self._shown, self._total)
        if self._position > self._allowed:
            raise InvalidDistributionError(
                f"{self._shown!r} holds a member that takes over {_MAX_HEADER} bytes to describe."
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


def _members(
    archive: tarfile.TarFile, unpacked: _Unpacked, noted: list[tuple[bytes, int]], shown: str, max_members: int
) -> Iterator[tuple[tarfile.TarInfo, int]]:
    """Yield the members in order, each with the position where its content ends. No member is kept."""
    count = headers = end = 0
    while (member := archive.next()) is not None:
        count += 1
        headers += member.offset_data - end
        if count > max_members:
            raise InvalidDistributionError.too_many_members(shown, max_members)
        if headers > MAX_HEADERS + count * tarfile.BLOCKSIZE or not _may_be_global(archive.pax_headers):
            raise InvalidDistributionError(
                f"{shown!r} takes too much to describe its members; build it again without extras."
            )
        if member.issparse():
            raise InvalidDistributionError(
                f"{shown!r} holds the sparse file {member.name[:200]!r}; build it again without."
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
