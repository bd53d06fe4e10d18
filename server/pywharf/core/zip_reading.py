"""Read a zip only if every reader sees the same: its list of members must match the members before the list.

A zip describes each member twice: in a header before its content and in the list at the end. Installers that read a zip
as it arrives follow the headers, others follow the list. Here both must agree on every member, and no byte may lie
between, before or after them. Nothing is unpacked to disk; a member's content goes through memory in chunks.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO, Protocol

from pywharf.core.errors import InvalidDistributionError
from pywharf.core.zip_directory import ZipDirectory, ZipMember
from pywharf.core.zip_format import (
    DESCRIPTOR_SIGNATURE,
    ENCRYPTED,
    LOCAL,
    LOCAL_SIGNATURE,
    MAX_32,
    STORED,
    UNUSUAL,
    UTF_8,
    WITH_DESCRIPTOR,
    UnreadableZipError,
    widened,
)

_CHUNK = 256 * 1024
_KEPT_BYTES, _MAX_KEPT = 64 * 1024, 4
"""The size and the number of members that are kept in memory when they are read alone."""
_MARK_BYTES = 12
"""Bytes of a signature, a CRC-32 and 32 bits of a size."""
_MAX_MARKS = 1_000
"""Maximum signatures in a member: far more than occur by chance in a member of any size."""


class Digest(Protocol):
    """A consumer that receives a member's content piece by piece."""

    def update(self, data: bytes, /) -> object: ...


class ZipReader:
    """A zip whose list of members is already read; `check_contents` reads the rest."""

    def __init__(self, stream: BinaryIO, shown: str, max_members: int) -> None:
        """Find and read the list of members. Raises UnreadableZipError, or InvalidDistributionError over a limit."""
        self._stream = stream
        self._shown = shown
        self._directory = ZipDirectory(stream, shown, max_members)
        self._kept: dict[ZipMember, tuple[bytes, int]] = {}
        """The content of small members that were read alone, and how many bytes of the file they take."""

    def members(self) -> Iterator[ZipMember]:
        """Yield each member in the order of the list. Raises the same errors as the constructor."""
        return self._directory.members()

    def read(self, path: str, max_bytes: int) -> bytes:
        """Return a member's whole content. Raises KeyError if no member has that path."""
        return self.read_member(self._directory.find(path), max_bytes)

    def read_member(self, member: ZipMember, max_bytes: int) -> bytes:
        """Return a member's whole content.

        Raises InvalidDistributionError if it is over `max_bytes`, and the same errors as the constructor.
        """
        if member.size > max_bytes:
            raise InvalidDistributionError.too_large_member(self._shown, member.path, max_bytes)
        content = _Collected()
        self._stream.seek(member.header_at)
        taken = self._read_content(member, content)
        if member.size <= _KEPT_BYTES and len(self._kept) < _MAX_KEPT:
            self._kept[member] = bytes(content.data), taken
        return bytes(content.data)

    def check_contents(self, check: "ContentCheck | None" = None) -> None:
        """Read the members in file order, and check each against the list of members."""
        self._stream.seek(0)
        at = 0
        for member, end in self._directory.in_file_order():
            if member.header_at != at:
                self._raise_for_gap(at, member.header_at)
            digest = check.begin(member) if check is not None else None
            at += self._read_again(member, digest)
            at += self._read_descriptor(member, end - at)
            if check is not None:
                check.end(member)
        if at != self._directory.begins_at:
            self._raise_for_gap(at, self._directory.begins_at)

    def _read_again(self, member: ZipMember, digest: Digest | None) -> int:
        """Read a member as `_read_content` does, from memory if it was read before."""
        if (kept := self._kept.get(member)) is None:
            return self._read_content(member, digest)
        content, taken = kept
        self._stream.seek(taken, io.SEEK_CUR)
        if digest is not None:
            digest.update(content)
        return taken

    def _raise_for_gap(self, at: int, found: int) -> None:
        if at > found:
            msg = f"two members share the bytes from {found} on"
        elif at == 0:
            msg = f"it begins with {found} bytes that belong to no member"
        else:
            msg = f"{found - at} bytes from byte {at} on belong to no member of its list"
        raise UnreadableZipError(msg)

    def _read_content(self, member: ZipMember, digest: Digest | None) -> int:
        """Read a member's header and content. Returns how many bytes they take."""
        raw = self._stream.read(LOCAL.size)
        if len(raw) != LOCAL.size or not raw.startswith(LOCAL_SIGNATURE):
            raise UnreadableZipError(f"no header lies before {member.path[:200]!r}")
        _, _, flags, method, _, _, crc, packed_size, size, path_size, extra_size = LOCAL.unpack(raw)
        raw_path = self._stream.read(path_size)
        extra = self._stream.read(extra_size)
        if raw_path != member.raw_path:
            raise UnreadableZipError(
                f"its list of members names {member.path[:200]!r}, the member itself "
                f"{raw_path[:200].decode('utf-8', 'replace')!r}"
            )
        checked_flags = ENCRYPTED | WITH_DESCRIPTOR | UNUSUAL | (0 if raw_path.isascii() else UTF_8)
        size, packed_size, _, _ = widened(extra, member.path, (size, packed_size, 0, 0))
        said = (flags & checked_flags, method, crc, packed_size, size)
        listed = (member.flags & checked_flags, member.method, member.crc, member.packed_size, member.size)
        later = member.flags & WITH_DESCRIPTOR != 0
        if said != listed:
            _check_header(member, said, listed, later=later)
        self._inflate(member, digest, unsized=later and packed_size == 0)
        return len(raw) + len(raw_path) + len(extra) + member.packed_size

    def _inflate(self, member: ZipMember, digest: Digest | None, *, unsized: bool) -> None:
        crc = taken = 0
        for data in self._unpacked(member, unsized=unsized):
            taken += len(data)
            if taken > member.size:
                raise self._wrong_size(member, f"more than {member.size}")
            crc = zlib.crc32(data, crc)
            if digest is not None:
                digest.update(data)
        if taken != member.size:
            raise self._wrong_size(member, str(taken))
        if crc != member.crc:
            raise UnreadableZipError(f"Bad CRC-32 of {member.path[:200]!r}")

    def _unpacked(self, member: ZipMember, *, unsized: bool) -> Iterator[bytes]:
        """Yield the member's content in chunks, from the stream's position. `unsized`: no header gives its size."""
        if member.method == STORED:
            marks = _EndMarks()
            for data in self._packed(member):
                if unsized and marks.may_end(data):
                    raise UnreadableZipError(f"it does not say before {member.path[:200]!r} where that ends")
                yield data
            return
        inflating = zlib.decompressobj(-zlib.MAX_WBITS)
        for packed in self._packed(member):
            data = inflating.decompress(packed, _CHUNK)
            while data:
                yield data
                data = b"" if inflating.eof else inflating.decompress(inflating.unconsumed_tail, _CHUNK)
            if inflating.unused_data:
                raise UnreadableZipError(f"bytes lie after the content of {member.path[:200]!r}")
        if not inflating.eof:
            raise UnreadableZipError(f"the content of {member.path[:200]!r} is cut off")

    def _packed(self, member: ZipMember) -> Iterator[bytes]:
        left = member.packed_size
        while left:
            packed = self._stream.read(min(left, _CHUNK))
            if not packed:
                raise UnreadableZipError(f"it is cut off in {member.path[:200]!r}")
            left -= len(packed)
            yield packed

    @staticmethod
    def _wrong_size(member: ZipMember, found: str) -> UnreadableZipError:
        return UnreadableZipError(f"{member.path[:200]!r} has {found} bytes, its list of members says {member.size}")

    def _read_descriptor(self, member: ZipMember, size: int) -> int:
        """Read the sizes that follow the content if its header lacks them. Returns how many bytes they take."""
        if not member.flags & WITH_DESCRIPTOR:
            return 0
        wide = struct.pack("<LQQ", member.crc, member.packed_size, member.size)
        forms = [wide, DESCRIPTOR_SIGNATURE + wide]
        if max(member.packed_size, member.size) <= MAX_32:
            narrow = struct.pack("<LLL", member.crc, member.packed_size, member.size)
            forms += [narrow, DESCRIPTOR_SIGNATURE + narrow]
        raw = self._stream.read(size) if 0 <= size <= len(forms[1]) else b""
        if raw not in forms:
            raise UnreadableZipError(
                f"what follows {member.path[:200]!r} does not give the sizes that its list of members gives"
            )
        return size


def _check_header(member: ZipMember, said: tuple[int, ...], listed: tuple[int, ...], *, later: bool) -> None:
    """Compare a member's header with the list. `later`: its sizes may follow its content."""
    for what, one, other in zip(("flags", "method", "CRC-32", "packed size", "size"), said, listed, strict=True):
        if one != other and not (later and one == 0 and what in {"CRC-32", "packed size", "size"}):
            raise UnreadableZipError(
                f"its list of members gives {member.path[:200]!r} the {what} {other}, the member itself {one}"
            )


class ContentCheck(Protocol):
    """A check of the contents while they are read."""

    def begin(self, member: ZipMember) -> Digest | None:
        """Return the consumer of the next member's content, or None."""

    def end(self, member: ZipMember) -> None:
        """Check the member after its whole content was read."""


class _EndMarks:
    """Positions in stored content that a reader could mistake for its end if it does not know the size."""

    def __init__(self) -> None:
        self._previous = b""
        self._passed = 0
        """Number of bytes before `_previous`."""
        self._marks = 0

    def may_end(self, data: bytes) -> bool:
        """Return whether the content so far, with `data`, holds a descriptor of the bytes before that descriptor."""
        window = self._previous + data
        at = window.find(DESCRIPTOR_SIGNATURE)
        while 0 <= at <= len(window) - _MARK_BYTES:
            self._marks += 1
            # After the signature come a CRC-32 and the size, whose lower half is first.
            size = struct.unpack_from("<L", window, at + 8)[0]
            if size == (self._passed + at) & MAX_32 or self._marks > _MAX_MARKS:
                return True
            at = window.find(DESCRIPTOR_SIGNATURE, at + 1)
        keep = min(len(window), _MARK_BYTES - 1)
        self._previous = window[len(window) - keep :]
        self._passed += len(window) - keep
        return False


class _Collected:
    def __init__(self) -> None:
        self.data = bytearray()

    def update(self, data: bytes, /) -> None:
        self.data += data
