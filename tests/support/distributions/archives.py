"""Wheels and sdists of any form, built in memory byte by byte."""

import gzip
import io
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Iterable

import msgspec

from support.distributions.wheels import metadata, record_hash

WHEEL = "foo-1.0-py3-none-any.whl"
SDIST = "foo-1.0.tar.gz"
ZIP_SDIST = "foo-1.0.zip"
METADATA = metadata("foo", "1.0")
INFO = "foo-1.0.dist-info"
FILES = [("foo.py", b"VALUE = 1\n"), (f"{INFO}/METADATA", METADATA), (f"{INFO}/WHEEL", b"w")]

Members = Iterable[tuple[str, bytes]]


def recorded(members: Members, record: str = f"{INFO}/RECORD") -> list[tuple[str, bytes]]:
    """Return the files and a RECORD that lists them."""
    files = list(members)
    rows = [f'"{path}",{record_hash(content)},{len(content)}\n' for path, content in files if path[-1:] != "/"]
    return [*files, (record, "".join([*rows, f"{record},,\n"]).encode())]


WHOLE = recorded(FILES)


def zipped(members: Members, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as target, warnings.catch_warnings(action="ignore"):
        for name, content in members:
            target.writestr(_zip_info(name, method), content)
    return packed.getvalue()


def _zip_info(name: str, method: int = zipfile.ZIP_STORED) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("x")
    info.filename = info.orig_filename = name  # ZipInfo itself would cut at NUL
    info.compress_type = method
    return info


def tar_info(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, target
    return info


def tarred(
    members: Members, links: Iterable[tarfile.TarInfo] = (), tar_format: int = tarfile.PAX_FORMAT, **options: object
) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tar_format, **options) as target:  # type: ignore[call-overload]
        for name, content in members:
            target.addfile(tar_info(name, len(content)), io.BytesIO(content))
        for link in links:
            target.addfile(link)
    return gzip.compress(packed.getvalue(), 9, mtime=0)


def blocks(*parts: bytes) -> bytes:
    """Return a gzipped tar of raw parts, each padded to whole blocks."""
    padded = b"".join(part + b"\0" * (-len(part) % 512) for part in parts)
    return gzip.compress(padded + b"\0" * 1024, 9, mtime=0)


def header(kind: bytes, size: int, name: str = "foo-1.0/x") -> bytes:
    return tar_info(name, size, kind).tobuf(tarfile.USTAR_FORMAT)


def record(key: str, value: str) -> bytes:
    """Return one field of a pax header, prefixed with its length."""
    text = f" {key}={value}\n".encode()
    length = len(text) + len(str(len(text)))
    return f"{length + (len(str(length)) - len(str(len(text))))}".encode() + text


PKG_INFO = [("foo-1.0/PKG-INFO", METADATA)]
SETUP = ("foo-1.0/setup.py", b"")


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A member of a zip: its content, its local header, its entry in the central directory and its data descriptor."""

    path: str | bytes
    content: bytes = b""
    deflated: bool = False
    packed: bytes | None = None
    """Packed bytes stored instead of the packed content."""
    flags: int = 0
    attributes: int = 0
    local: dict[str, int | bytes] = {}
    """Fields of the local header that differ: path, flags, method, crc, packed_size, size, extra."""
    listed: dict[str, int | bytes] = {}
    """Fields of the central directory entry that differ: the same, and version, offset and comment."""
    descriptor: bytes | None = None
    """The data descriptor, which follows the content."""
    before: bytes = b""
    """Stray bytes before the local header, which belong to no member."""


def descriptor(content: bytes, packed_size: int | None = None, *, signature: bool = True, wide: bool = False) -> bytes:
    size = len(content) if packed_size is None else packed_size
    form = "<LQQ" if wide else "<LLL"
    return (b"PK\x07\x08" if signature else b"") + struct.pack(form, zlib.crc32(content), size, len(content))


def deflate(content: bytes) -> bytes:
    packing = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packing.compress(content) + packing.flush()


def zip_of(
    *entries: Entry,
    before_list: bytes = b"",
    after_list: bytes = b"",
    comment: bytes = b"",
    end: dict[str, int] | None = None,
) -> bytes:
    """Build a zip of these entries, including their deliberate errors."""
    body, listing = bytearray(), bytearray()
    for entry in entries:
        body += entry.before
        path = entry.path.encode() if isinstance(entry.path, str) else entry.path
        packed = entry.packed
        if packed is None:
            packed = deflate(entry.content) if entry.deflated else entry.content
        true = {
            "path": path,
            "flags": entry.flags | (0 if path.isascii() else 0x800),
            "method": 8 if entry.deflated else 0,
            "crc": zlib.crc32(entry.content),
            "packed_size": len(packed),
            "size": len(entry.content),
            "extra": b"",
            "comment": b"",
            "offset": len(body),
            "version": 20,
        }
        one = true | entry.local
        assert isinstance(one["path"], bytes)
        assert isinstance(one["extra"], bytes)
        body += struct.pack(
            "<4s5H3L2H",
            *(b"PK\x03\x04", 20, one["flags"], one["method"], 0, 33, one["crc"], one["packed_size"], one["size"]),
            *(len(one["path"]), len(one["extra"])),
        )
        body += one["path"] + one["extra"] + packed + (entry.descriptor or b"")
        one = true | entry.listed
        assert isinstance(one["path"], bytes)
        assert isinstance(one["extra"], bytes)
        assert isinstance(one["comment"], bytes)
        listing += struct.pack(
            "<4s6H3L5H2L",
            *(b"PK\x01\x02", 3 << 8 | 20, one["version"], one["flags"], one["method"], 0, 33),
            *(one["crc"], one["packed_size"], one["size"]),
            *(len(one["path"]), len(one["extra"]), len(one["comment"]), 0, 0, entry.attributes, one["offset"]),
        )
        listing += one["path"] + one["extra"] + one["comment"]
    body += before_list
    count = min(len(entries), 0xFFFF)
    said = {"disk": 0, "count": count, "total": count, "size": len(listing), "offset": len(body)}
    said |= end or {}
    finish = struct.pack(
        "<4s4H2LH",
        b"PK\x05\x06",
        said["disk"],
        0,
        *(said[key] for key in ("count", "total", "size", "offset")),
        len(comment),
    )
    return bytes(body + listing) + after_list + finish + comment


def stream_of(members: list[tuple[str, bytes]], method: int) -> bytes:
    """Build a zip as when written to a pipe: the sizes follow the content."""

    class Pipe(io.RawIOBase):
        written = b""

        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            self.written += bytes(data)  # type: ignore[call-overload]
            return len(data)  # type: ignore[arg-type]

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", method) as target:
        for path, content in members:
            target.writestr(path, content)
    return pipe.written
