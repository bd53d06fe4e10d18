"""Read a zip only if every reader sees the same: its list of members must match the members before the list.

A zip describes each member twice: in a header before its content and in the list at the end. Installers that read a zip
as it arrives follow the headers, others follow the list. Here both must agree on every member, and no byte may lie
between, before or after them. Nothing is unpacked to disk; a member's content goes through memory in chunks.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple, Protocol

from pywharf.core.errors import InvalidDistributionError

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_LOCAL_SIGNATURE, _CENTRAL_SIGNATURE, _END_SIGNATURE = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_END_64_SIGNATURE, _LOCATOR_SIGNATURE, _DESCRIPTOR_SIGNATURE = b"PK\x06\x06", b"PK\x06\x07", b"PK\x07\x08"
_SIGNATURES = (_LOCAL_SIGNATURE, _CENTRAL_SIGNATURE, _END_SIGNATURE, _END_64_SIGNATURE, _LOCATOR_SIGNATURE)
_MAX_16, _MAX_32 = 0xFFFF, 0xFFFFFFFF
_MAX_DIRECTORY = 64 * 1024 * 1024
"""Maximum bytes of a zip's list of members."""
_CHUNK = 256 * 1024
_MARK_BYTES = 12
"""Bytes of a signature, a CRC-32 and 32 bits of a size."""
_MAX_MARKS = 1_000
"""Maximum signatures in a member: far more than occur by chance in a member of any size."""
_ENCRYPTED = 0x1
_WITH_DESCRIPTOR = 0x8
_UNUSUAL = 0x20 | 0x40 | 0x2000
"""Flags of patched data, strong encryption and hidden headers, which no installer supports."""
_UTF_8 = 0x800
_MAX_VERSION = 63
"""The highest version of the specification, times ten, that an installer must know; pip refuses a higher one."""
_STORED, _DEFLATED = 0, 8
_ZIP_64_EXTRA, _UNICODE_PATH_EXTRA = 0x0001, 0x7075
_LINK, _FILE_TYPES = 0xA000, 0xF000
_PLAIN_TYPES = {0x0000, 0x8000, 0x4000}
"""Unix file types: not given, file, folder."""


class UnreadableZipError(Exception):
    """A damaged zip, or a file that is not a zip. The text says where."""


class Digest(Protocol):
    """A consumer that receives a member's content piece by piece."""

    def update(self, data: bytes, /) -> object: ...


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


class ZipReader:
    """A zip whose list of members is already read; `check_contents` reads the rest."""

    def __init__(self, stream: BinaryIO, shown: str, max_members: int) -> None:
        """Find and read the list of members. Raises UnreadableZipError, or InvalidDistributionError over a limit."""
        self._stream = stream
        self._shown = shown
        self._max_members = max_members
        self._directory_at, self._directory, self._expected = self._find_directory()
        self._entries: list[tuple[int, int]] = []
        """For each member, the positions of its header and of its entry in the list of members."""

    def members(self) -> Iterator[ZipMember]:
        """Yield each member in the order of the list. Raises the same errors as the constructor."""
        self._entries.clear()
        position = 0
        while position < len(self._directory):
            member, after = self._entry(position)
            self._entries.append((member.header_at, position))
            position = after
            yield member
        if len(self._entries) != self._expected:
            raise UnreadableZipError(
                f"its list of members has {len(self._entries)} entries, its end says {self._expected}"
            )

    def read(self, path: str, max_bytes: int) -> bytes:
        """Return a member's whole content. Raises KeyError if no member has that path."""
        raw_path = path.encode("utf-8", "surrogateescape")
        for _, position in self._entries:
            if self._directory.startswith(raw_path, position + _CENTRAL.size):
                member, _ = self._entry(position)
                if member.path == path:
                    return self.read_member(member, max_bytes)
        raise KeyError(path)

    def read_member(self, member: ZipMember, max_bytes: int) -> bytes:
        """Return a member's whole content.

        Raises InvalidDistributionError if it is over `max_bytes`, and the same errors as the constructor.
        """
        if member.size > max_bytes:
            raise InvalidDistributionError(f"{member.path[:200]!r} in {self._shown!r} is over {max_bytes} bytes.")
        content = _Collected()
        self._stream.seek(member.header_at)
        self._read_content(member, content)
        return bytes(content.data)

    def check_contents(self, check: "ContentCheck | None" = None) -> None:
        """Read the members in file order, and check each against the list of members."""
        ordered = sorted(self._entries)
        at = 0
        for number, (header_at, position) in enumerate(ordered):
            member, _ = self._entry(position)
            if header_at != at:
                self._raise_for_gap(at, header_at)
            if number == 0:
                self._stream.seek(0)
            end = ordered[number + 1][0] if number + 1 < len(ordered) else self._directory_at
            digest = check.begin(member) if check is not None else None
            at += self._read_content(member, digest)
            at += self._read_descriptor(member, end - at)
            if check is not None:
                check.end(member)
        if at != self._directory_at:
            self._raise_for_gap(at, self._directory_at)

    def _raise_for_gap(self, at: int, found: int) -> None:
        if at > found:
            msg = f"two members share the bytes from {found} on"
        elif at == 0:
            msg = f"it begins with {found} bytes that belong to no member"
        else:
            msg = f"{found - at} bytes from byte {at} on belong to no member of its list"
        raise UnreadableZipError(msg)

    def _find_directory(self) -> tuple[int, bytes, int]:
        size = self._stream.seek(0, io.SEEK_END)
        tail_size = min(size, _END.size + _MAX_16)
        self._stream.seek(size - tail_size)
        tail = self._stream.read(tail_size)
        end_at, (disk, first_disk, here, count, directory_size, directory_at) = _find_end(tail, size)
        whole_end = end_at
        if end_at >= _LOCATOR.size + _END_64.size:
            self._stream.seek(end_at - _LOCATOR.size - _END_64.size)
            head = self._stream.read(_LOCATOR.size + _END_64.size)
            if head[_END_64.size :].startswith(_LOCATOR_SIGNATURE):
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
            raise InvalidDistributionError(
                f"{self._shown!r} says that its list of members takes {directory_size} bytes."
            )
        self._stream.seek(directory_at)
        directory = self._stream.read(directory_size)
        if len(directory) != directory_size:
            raise UnreadableZipError("it is cut off")
        if directory.count(_CENTRAL_SIGNATURE) > self._max_members:
            raise InvalidDistributionError(f"{self._shown!r} has more than {self._max_members} members.")
        return directory_at, directory, count

    def _entry(self, position: int) -> tuple[ZipMember, int]:
        try:
            fields = _CENTRAL.unpack_from(self._directory, position)
        except struct.error as error:
            raise UnreadableZipError("its list of members is cut off") from error
        signature, _, version, flags, method, _, _, crc, packed_size, size = fields[:10]
        path_size, extra_size, comment_size, disk, _, attributes, header_at = fields[10:]
        if signature != _CENTRAL_SIGNATURE:
            raise UnreadableZipError("its list of members holds something else")
        start = position + _CENTRAL.size
        after = start + path_size + extra_size + comment_size
        if after > len(self._directory):
            raise UnreadableZipError("its list of members is cut off")
        raw_path = self._directory[start : start + path_size]
        path = _decoded(raw_path, flags)
        extra = self._directory[start + path_size : start + path_size + extra_size]
        size, packed_size, header_at, disk = _widened(extra, path, (size, packed_size, header_at, disk))
        self._check_entry(path, version, flags, method, disk)
        file_type = (attributes >> 16) & _FILE_TYPES
        if file_type not in _PLAIN_TYPES | {_LINK}:
            raise InvalidDistributionError(
                f"{self._shown!r} holds {path[:200]!r}, which is neither a file, a folder nor a link."
            )
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
        if flags & _ENCRYPTED:
            raise InvalidDistributionError(f"{self._shown!r} holds {path[:200]!r} encrypted.")
        if version & 0xFF > _MAX_VERSION or flags & _UNUSUAL or disk:  # the other half of the version is reserved
            raise UnreadableZipError(f"{path[:200]!r} uses features of zip that installers do not know")
        if method not in {_STORED, _DEFLATED}:
            raise InvalidDistributionError(
                f"{path[:200]!r} in {self._shown!r} is compressed by the method {method}; use deflate, or store it."
            )

    def _read_content(self, member: ZipMember, digest: Digest | None) -> int:
        """Read a member's header and content. Returns how many bytes they take."""
        raw = self._stream.read(_LOCAL.size)
        if len(raw) != _LOCAL.size or not raw.startswith(_LOCAL_SIGNATURE):
            raise UnreadableZipError(f"no header lies before {member.path[:200]!r}")
        _, _, flags, method, _, _, crc, packed_size, size, path_size, extra_size = _LOCAL.unpack(raw)
        raw_path = self._stream.read(path_size)
        extra = self._stream.read(extra_size)
        if raw_path != member.raw_path:
            raise UnreadableZipError(
                f"its list of members names {member.path[:200]!r}, the member itself "
                f"{raw_path[:200].decode('utf-8', 'replace')!r}"
            )
        checked_flags = _ENCRYPTED | _WITH_DESCRIPTOR | _UNUSUAL | (0 if raw_path.isascii() else _UTF_8)
        size, packed_size, _, _ = _widened(extra, member.path, (size, packed_size, 0, 0))
        said = (flags & checked_flags, method, crc, packed_size, size)
        listed = (member.flags & checked_flags, member.method, member.crc, member.packed_size, member.size)
        later = member.flags & _WITH_DESCRIPTOR != 0
        for what, one, other in zip(("flags", "method", "CRC-32", "packed size", "size"), said, listed, strict=True):
            if one != other and not (later and one == 0 and what in {"CRC-32", "packed size", "size"}):
                raise UnreadableZipError(
                    f"its list of members gives {member.path[:200]!r} the {what} {other}, the member itself {one}"
                )
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
        if member.method == _STORED:
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
        if not member.flags & _WITH_DESCRIPTOR:
            return 0
        wide = struct.pack("<LQQ", member.crc, member.packed_size, member.size)
        forms = [wide, _DESCRIPTOR_SIGNATURE + wide]
        if max(member.packed_size, member.size) <= _MAX_32:
            narrow = struct.pack("<LLL", member.crc, member.packed_size, member.size)
            forms += [narrow, _DESCRIPTOR_SIGNATURE + narrow]
        raw = self._stream.read(size) if 0 <= size <= len(forms[1]) else b""
        if raw not in forms:
            raise UnreadableZipError(
                f"what follows {member.path[:200]!r} does not give the sizes that its list of members gives"
            )
        return size


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
        at = window.find(_DESCRIPTOR_SIGNATURE)
        while 0 <= at <= len(window) - _MARK_BYTES:
            self._marks += 1
            # After the signature come a CRC-32 and the size, whose lower half is first.
            size = struct.unpack_from("<L", window, at + 8)[0]
            if size == (self._passed + at) & _MAX_32 or self._marks > _MAX_MARKS:
                return True
            at = window.find(_DESCRIPTOR_SIGNATURE, at + 1)
        keep = min(len(window), _MARK_BYTES - 1)
        self._previous = window[len(window) - keep :]
        self._passed += len(window) - keep
        return False


class _Collected:
    def __init__(self) -> None:
        self.data = bytearray()

    def update(self, data: bytes, /) -> None:
        self.data += data


def _find_end(tail: bytes, size: int) -> tuple[int, tuple[int, int, int, int, int, int]]:
    """Return the position of the record at the zip's end, and its six numbers."""
    at = len(tail) - _END.size
    if at >= 0 and not (tail.startswith(_END_SIGNATURE, at) and tail.endswith(b"\0\0")):
        at = tail.rfind(_END_SIGNATURE, 0, at + len(_END_SIGNATURE))
    if at < 0:
        raise UnreadableZipError("it has no end of a zip")
    _, *numbers, comment_size = _END.unpack_from(tail, at)
    after = len(tail) - at - _END.size - comment_size
    if after > 0:
        raise UnreadableZipError(f"{after} bytes follow its end")
    if after < 0:
        raise UnreadableZipError("it is cut off at its end")
    if any(signature in tail[at + _END.size :] for signature in _SIGNATURES):
        raise UnreadableZipError("its comment may be taken for a part of it")
    disk, first_disk, here, count, directory_size, directory_at = numbers
    return size - len(tail) + at, (disk, first_disk, here, count, directory_size, directory_at)


def _read_end_64(head: bytes, at: int) -> tuple[int, int, int, int, int, int]:
    """Return the numbers of the zip64 record at the zip's end. It must lie directly before its locator."""
    signature, record_size, _, _, disk, first_disk, here, count, size, start = _END_64.unpack_from(head)
    _, end_disk, end_at, disks = _LOCATOR.unpack_from(head, _END_64.size)
    if signature != _END_64_SIGNATURE or record_size != _END_64.size - 12 or end_at != at or end_disk or disks > 1:
        raise UnreadableZipError("the two parts of its end do not fit")
    return disk, first_disk, here, count, size, start


def _check_small_against_large(small: tuple[int, ...], large: tuple[int, ...]) -> None:
    """Check the record that every reader knows against the zip64 record, except for numbers that refer to it."""
    marks = (_MAX_16, _MAX_16, _MAX_16, _MAX_16, _MAX_32, _MAX_32)
    if any(one not in {other, mark} for one, other, mark in zip(small, large, marks, strict=True)):
        raise UnreadableZipError("the two parts of its end do not fit")


def _decoded(raw: bytes, flags: int) -> str:
    """Decode a path. Bytes that are not UTF-8, which old archives may hold, become lone surrogates."""
    try:
        return raw.decode("utf-8", "strict" if flags & _UTF_8 else "surrogateescape")
    except UnicodeDecodeError as error:
        raise UnreadableZipError(f"the path {raw[:200]!r} is said to be UTF-8 and is not") from error


def _widened(extra: bytes, path: str, numbers: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """Return size, packed size, header position and disk. A number too large for its field is in the extra field."""
    if not extra:
        return numbers
    fields: dict[int, bytes] = {}
    at = 0
    while len(extra) - at >= 4:  # noqa: PLR2004 - less is padding of some writers
        kind, size = struct.unpack_from("<HH", extra, at)
        at += 4 + size
        if at > len(extra) or (kind in fields and kind in {_ZIP_64_EXTRA, _UNICODE_PATH_EXTRA}):
            raise UnreadableZipError(f"the extra fields of {path[:200]!r} cannot be read")
        fields[kind] = extra[at - size : at]
    if _UNICODE_PATH_EXTRA in fields and fields[_UNICODE_PATH_EXTRA][5:] != path.encode("utf-8", "surrogateescape"):
        raise UnreadableZipError(f"{path[:200]!r} has another path in its extra fields")
    large = fields.get(_ZIP_64_EXTRA, b"")
    widened: list[int] = []
    for number, mark, form in zip(numbers, (_MAX_32, _MAX_32, _MAX_32, _MAX_16), ("<Q", "<Q", "<Q", "<L"), strict=True):
        width = struct.calcsize(form)
        if number == mark and len(large) >= width:
            widened.append(struct.unpack_from(form, large)[0])
            large = large[width:]
        else:
            widened.append(number)
    size, packed_size, header_at, disk = widened
    return size, packed_size, header_at, disk
