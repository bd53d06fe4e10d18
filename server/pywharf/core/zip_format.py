"""The parts of the zip format that this project reads: records, signatures, flags and extra fields. Pure.

Source: APPNOTE.TXT, the specification of the zip format.
"""

import struct

LOCAL = struct.Struct("<4s5H3L2H")
CENTRAL = struct.Struct("<4s6H3L5H2L")
END = struct.Struct("<4s4H2LH")
END_64 = struct.Struct("<4sQ2H2L4Q")
LOCATOR = struct.Struct("<4sLQL")
LOCAL_SIGNATURE, CENTRAL_SIGNATURE, END_SIGNATURE = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
END_64_SIGNATURE, LOCATOR_SIGNATURE, DESCRIPTOR_SIGNATURE = b"PK\x06\x06", b"PK\x06\x07", b"PK\x07\x08"
SIGNATURES = (LOCAL_SIGNATURE, CENTRAL_SIGNATURE, END_SIGNATURE, END_64_SIGNATURE, LOCATOR_SIGNATURE)
MAX_16, MAX_32 = 0xFFFF, 0xFFFFFFFF
ENCRYPTED = 0x1
WITH_DESCRIPTOR = 0x8
UNUSUAL = 0x20 | 0x40 | 0x2000
"""Flags of patched data, strong encryption and hidden headers, which no installer supports."""
UTF_8 = 0x800
STORED, DEFLATED = 0, 8
_ZIP_64_EXTRA, _UNICODE_PATH_EXTRA = 0x0001, 0x7075


class UnreadableZipError(Exception):
    """A damaged zip, or a file that is not a zip. The text says where."""


def widened(extra: bytes, path: str, numbers: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
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
    whole: list[int] = []
    for number, mark, form in zip(numbers, (MAX_32, MAX_32, MAX_32, MAX_16), ("<Q", "<Q", "<Q", "<L"), strict=True):
        width = struct.calcsize(form)
        if number == mark and len(large) >= width:
            whole.append(struct.unpack_from(form, large)[0])
            large = large[width:]
        else:
            whole.append(number)
    size, packed_size, header_at, disk = whole
    return size, packed_size, header_at, disk
