"""Find a zip's list of members (its central directory), read it, and reject one that has two meanings.

The list lies at the end of the file, after the members' content, and before a record that gives its position.
"""

import io
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from pywharf.core.errors import InvalidDistributionError
from pywharf.core.zip_format import (
    CENTRAL,
    CENTRAL_SIGNATURE,
    DEFLATED,
    ENCRYPTED,
    END,
    END_64,
    END_64_SIGNATURE,
    END_SIGNATURE,
    LOCATOR,
    LOCATOR_SIGNATURE,
    MAX_16,
    MAX_32,
    SIGNATURES,
    STORED,
    UNUSUAL,
    UTF_8,
    UnreadableZipError,
    widened,
)

_MAX_DIRECTORY = 64 * 1024 * 1024
"""Maximum bytes of a zip's list of members."""
_SMALL = 64 * 1024
"""Bytes of a list whose entries are kept once they are read."""
_MAX_VERSION = 63
"""The highest version of the specification, times ten, that an installer must know; pip refuses a higher one."""
_LINK, _FILE_TYPES = 0xA000, 0xF000
_PLAIN_TYPES = {0x0000, 0x8000, 0x4000}
"""Unix file types: not given, file, folder."""


class ZipMember(NamedTuple):
    """A member as the list of members describes it."""

    path: str
    raw_path: bytes
    is_folder: bool
    is_link: bool
    method: int
    flags: int
    crc: int
    packed_size: int
    size: int
    header_at: int
    """Position of the member's own header."""


class ZipDirectory:
    """A zip's list of members. `members` must be called before a member is looked up."""

    def __init__(self, stream: BinaryIO, shown: str, max_members: int) -> None:
        """Find and read the list. Raises UnreadableZipError, or InvalidDistributionError over a limit."""
        self._shown = shown
        self.begins_at, self._raw, self._expected = _find(stream, shown, max_members)
        self._entries: list[tuple[int, int]] = []
        """For each member, the positions of its header and of its entry in the list."""
        self._kept: dict[int, tuple[ZipMember, int]] | None = {} if len(self._raw) <= _SMALL else None
        """Entries by position, which are needed three times; None if they would take much memory."""

    def members(self) -> Iterator[ZipMember]:
        """Yield each member in the order of the list. Raises the same errors as the constructor."""
        self._entries.clear()
        position = 0
        while position < len(self._raw):
            member, after = self._entry(position)
            self._entries.append((member.header_at, position))
            position = after
            yield member
        if len(self._entries) != self._expected:
            raise UnreadableZipError(
                f"its list of members has {len(self._entries)} entries, its end says {self._expected}"
            )

    def in_file_order(self) -> Iterator[tuple[ZipMember, int]]:
        """Yield each member in the order of the file, with the position where the next one or the list begins."""
        ordered = sorted(self._entries)
        for number, (_, position) in enumerate(ordered, 1):
            end = ordered[number][0] if number < len(ordered) else self.begins_at
            yield self._entry(position)[0], end

    def find(self, path: str) -> ZipMember:
        """Return the member of that path. Raises KeyError if there is none."""
        raw_path = path.encode("utf-8", "surrogateescape")
        for _, position in self._entries:
            if self._raw.startswith(raw_path, position + CENTRAL.size):
                member, _ = self._entry(position)
                if member.path == path:
                    return member
        raise KeyError(path)

    def _entry(self, position: int) -> tuple[ZipMember, int]:
        """Return the member whose entry is at the position, and the position after the entry."""
        if self._kept is None:
            return self._read_entry(position)
        if (kept := self._kept.get(position)) is None:
            kept = self._kept[position] = self._read_entry(position)
        return kept

    def _read_entry(self, position: int) -> tuple[ZipMember, int]:
        try:
            fields = CENTRAL.unpack_from(self._raw, position)
        except struct.error as error:
            raise UnreadableZipError("its list of members is cut off") from error
        signature, _, version, flags, method, _, _, crc, packed_size, size = fields[:10]
        path_size, extra_size, comment_size, disk, _, attributes, header_at = fields[10:]
        if signature != CENTRAL_SIGNATURE:
            raise UnreadableZipError("its list of members holds something else")
        start = position + CENTRAL.size
        after = start + path_size + extra_size + comment_size
        if after > len(self._raw):
            raise UnreadableZipError("its list of members is cut off")
        raw_path = self._raw[start : start + path_size]
        path = _decoded(raw_path, flags)
        extra = self._raw[start + path_size : start + path_size + extra_size]
        size, packed_size, header_at, disk = widened(extra, path, (size, packed_size, header_at, disk))
        self._check_entry(path, version, flags, method, disk)
        file_type = (attributes >> 16) & _FILE_TYPES
        if file_type not in _PLAIN_TYPES and file_type != _LINK:
            raise InvalidDistributionError.special_member(self._shown, path)
        is_folder = path.endswith("/")
        if is_folder and size:
            raise InvalidDistributionError(
                f"{self._shown!r} holds the folder {path[:200]!r} with {size} bytes of content."
            )
        member = ZipMember(
            path, raw_path, is_folder, file_type == _LINK, method, flags, crc, packed_size, size, header_at
        )
        return member, after

    def _check_entry(self, path: str, version: int, flags: int, method: int, disk: int) -> None:
        if flags & ENCRYPTED:
            raise InvalidDistributionError(f"{self._shown!r} holds {path[:200]!r} encrypted.")
        if version & 0xFF > _MAX_VERSION or flags & UNUSUAL or disk:  # the other half of the version is reserved
            raise UnreadableZipError(f"{path[:200]!r} uses features of zip that installers do not know")
        if method not in {STORED, DEFLATED}:
            raise InvalidDistributionError(
                f"{path[:200]!r} in {self._shown!r} is compressed by the method {method}; use deflate, or store it."
            )


def _find(stream: BinaryIO, shown: str, max_members: int) -> tuple[int, bytes, int]:
    """Return the position of the list of members, its bytes, and how many members the zip's end gives."""
    size = stream.seek(0, io.SEEK_END)
    tail_size = min(size, END.size + MAX_16)
    stream.seek(size - tail_size)
    tail = stream.read(tail_size)
    end_at, (disk, first_disk, here, count, directory_size, directory_at) = _find_end(tail, size)
    whole_end = end_at
    if end_at >= LOCATOR.size + END_64.size:
        stream.seek(end_at - LOCATOR.size - END_64.size)
        head = stream.read(LOCATOR.size + END_64.size)
        if head[END_64.size :].startswith(LOCATOR_SIGNATURE):
            whole_end = end_at - len(head)
            large = _read_end_64(head, whole_end)
            _check_small_against_large((disk, first_disk, here, count, directory_size, directory_at), large)
            disk, first_disk, here, count, directory_size, directory_at = large
    if disk or first_disk or here != count:
        raise UnreadableZipError("it is one part of several")
    if directory_at + directory_size != whole_end:
        before = whole_end - directory_at - directory_size
        raise UnreadableZipError(
            f"{before} bytes lie before it or before its end, or it holds two archives"
            if before > 0
            else "its list of members reaches beyond its end"
        )
    if directory_size > _MAX_DIRECTORY:
        raise InvalidDistributionError(f"{shown!r} says that its list of members takes {directory_size} bytes.")
    stream.seek(directory_at)
    directory = stream.read(directory_size)
    if len(directory) != directory_size:
        raise UnreadableZipError("it is cut off")
    if directory.count(CENTRAL_SIGNATURE) > max_members:
        raise InvalidDistributionError.too_many_members(shown, max_members)
    return directory_at, directory, count


def _find_end(tail: bytes, size: int) -> tuple[int, tuple[int, int, int, int, int, int]]:
    """Return the position of the record at the zip's end, and its six numbers."""
    at = len(tail) - END.size
    if at >= 0 and not (tail.startswith(END_SIGNATURE, at) and tail.endswith(b"\0\0")):
        at = tail.rfind(END_SIGNATURE, 0, at + len(END_SIGNATURE))
    if at < 0:
        raise UnreadableZipError("it has no end of a zip")
    _, *numbers, comment_size = END.unpack_from(tail, at)
    after = len(tail) - at - END.size - comment_size
    if after > 0:
        raise UnreadableZipError(f"{after} bytes follow its end")
    if after < 0:
        raise UnreadableZipError("it is cut off at its end")
    if comment_size and any(signature in tail[at + END.size :] for signature in SIGNATURES):
        raise UnreadableZipError("its comment may be taken for a part of it")
    disk, first_disk, here, count, directory_size, directory_at = numbers
    return size - len(tail) + at, (disk, first_disk, here, count, directory_size, directory_at)


def _read_end_64(head: bytes, at: int) -> tuple[int, int, int, int, int, int]:
    """Return the numbers of the zip64 record at the zip's end. It must lie directly before its locator."""
    signature, record_size, _, _, disk, first_disk, here, count, size, start = END_64.unpack_from(head)
    _, end_disk, end_at, disks = LOCATOR.unpack_from(head, END_64.size)
    if signature != END_64_SIGNATURE or record_size != END_64.size - 12 or end_at != at or end_disk or disks > 1:
        raise UnreadableZipError("the two parts of its end do not fit")
    return disk, first_disk, here, count, size, start


def _check_small_against_large(small: tuple[int, ...], large: tuple[int, ...]) -> None:
    """Check the record that every reader knows against the zip64 record, except for numbers that refer to it."""
    marks = (MAX_16, MAX_16, MAX_16, MAX_16, MAX_32, MAX_32)
    if any(one not in {other, mark} for one, other, mark in zip(small, large, marks, strict=True)):
        raise UnreadableZipError("the two parts of its end do not fit")


def _decoded(raw: bytes, flags: int) -> str:
    """Decode a path. Bytes that are not UTF-8, which old archives may hold, become lone surrogates."""
    try:
        return raw.decode("utf-8", "strict" if flags & UTF_8 else "surrogateescape")
    except UnicodeDecodeError as error:
        raise UnreadableZipError(f"the path {raw[:200]!r} is said to be UTF-8 and is not") from error
