"""The file of a compiled feed: the entries' JSON, packed one by one, then the tables by which they are found.

Only the tables are mapped into memory, so that all workers of a server share them. A worker reads an entry's JSON from
the disk when a client asks for it. The order in the file: JSON, padding, tables, trailer.
"""

import hashlib
import struct
import zlib
from typing import Final

import msgspec

from pywharf.core.advisories.versions import Interval
from pywharf.core.msgspec_warmup import warmed_up

MAGIC: Final = b"pywharf advisories 2\n\0\0\0"
"""Another number is another format: such a file is not read, and the feed is compiled again."""
ALIGNMENT: Final = 64 * 1024
"""Where the tables may begin: a multiple of every page size that systems map."""
TRAILER: Final = struct.Struct("<24sQQ32s")
"""Magic, position and size of the tables, their SHA-256."""
HEADER: Final = struct.Struct("<QQQQQQ")
"""Bytes of the text about the feed, number of entries, then number and bytes of the projects with malware, and of those
with other entries. It begins the tables.

Then follow, each as a number of 8 bytes: the entries' keys; their places in the file; when they were changed. Then the
projects with malware, those with other entries, and the text. Projects begin, each as a number of 8 bytes, with their
keys; where each project begins, and the last one's end. Malware is apart because pages ask for it alone."""
SIZE_BITS: Final = 24
"""Bits of an entry's place that hold its size in the file; the others hold its position."""
KEY_BYTES: Final = 8
_DICTIONARY: Final = (
    b'"references":[{"type":"WEB","url":"https://"},{"type":"PACKAGE","url":"https://"},{"type":"ADVISORY","url":'
    b'"https://"}],"severity":[{"type":"CVSS_V3","score":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],'
    b'"database_specific":{"cwe_ids":["CWE-"],"severity":"HIGH","github_reviewed":true,"malicious-packages-origins":'
    b'[{"id":"","import_time":"2024-","modified_time":"2024-","ranges":[],"sha256":"","source":"","versions":["1.0.0",'
    b'"0.0.1"]}]},"schema_version":"1.7.0","id":"MAL-2024-","published":"2024-01-01T00:00:00Z","modified":'
    b'"2024-01-01T00:00:00Z","aliases":["CVE-2024-","GHSA-"],"summary":"Malicious code in  (PyPI)","details":"",'
    b'"affected":[{"package":{"ecosystem":"PyPI","name":"","purl":"pkg:pypi/"},"ranges":[{"type":"ECOSYSTEM","events":'
    b'[{"introduced":"0"},{"fixed":"1.'
)
"""Texts that most entries hold, so that a short entry packs well by itself."""


class Listed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One entry as it concerns one project."""

    id: str
    runs: tuple[int, ...]
    """Positions in the project's versions, ascending: the first run of versions begins at runs[0] and ends before
    runs[1], and so on."""
    intervals: tuple[Interval, ...]


class ProjectEntries(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """All entries about one project that count."""

    project: str
    versions: tuple[str, ...]
    """The keys of all versions that an entry lists, in ascending order."""
    entries: tuple[Listed, ...]


@warmed_up
class _Group(msgspec.Struct, array_like=True):
    """The projects with one key: nearly always one."""

    projects: list[ProjectEntries]


@warmed_up
class StoreMeta(msgspec.Struct, frozen=True, kw_only=True):
    """What a compiled feed says about itself, at the end of the tables."""

    source: str
    """A digest of the URL or path that the feed came from."""
    etag: str = ""
    last_modified: str = ""
    newest: float
    """Unix seconds of the newest change of any entry: the age of the feed."""
    entries: int
    malware: int
    projects: int
    skipped: int
    """Entries that could not be used."""
    skipped_malware: int = 0
    """Those among them that report malware, as far as they can be read."""
    first_skipped: str = ""
    """Why the first of these could not be used."""


def key(text: str) -> int:
    """Return the number by which a project or an identifier is found."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=KEY_BYTES).digest(), "little")


def packed_group(projects: list[ProjectEntries]) -> bytes:
    """Return the bytes of the projects with one key."""
    content = msgspec.msgpack.encode(_Group(projects))
    packed = zlib.compress(content)
    return b"z" + packed if len(packed) < len(content) else b"m" + content


def unpacked_group(content: bytes) -> list[ProjectEntries]:
    """Return the projects with one key."""
    body = zlib.decompress(content[1:]) if content[:1] == b"z" else content[1:]
    return msgspec.msgpack.decode(body, type=_Group).projects


def packed_json(content: bytes) -> bytes:
    """Return an entry's JSON, packed."""
    packer = zlib.compressobj(zdict=_DICTIONARY)
    return packer.compress(content) + packer.flush()


def unpacked_json(content: bytes, longest: int) -> bytes:
    """Return an entry's JSON. Raises ValueError if it is damaged or over `longest` bytes."""
    unpacker = zlib.decompressobj(zdict=_DICTIONARY)
    try:
        found = unpacker.decompress(content, longest)
    except zlib.error as error:
        raise ValueError("it is damaged") from error
    if not unpacker.eof:
        raise ValueError("it is damaged, or too long")
    return found
