"""Check that whole archives are read, and that others are refused with a clear error, fast and in little memory."""

import gzip
import io
import os
import struct
import tarfile
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pywharf.core import archive, tar_reading
from pywharf.core.archive import read_metadata
from pywharf.core.errors import InvalidDistributionError
from pywharf.core.filenames import parse_upload_filename
from pywharf.core.metadata import MAX_METADATA_BYTES, parse_metadata
from support.distributions.archives import (
    FILES,
    INFO,
    METADATA,
    PKG_INFO,
    SDIST,
    WHEEL,
    WHOLE,
    ZIP_SDIST,
    Entry,
    blocks,
    header,
    record,
    recorded,
    tar_info,
    tarred,
    zip_of,
    zipped,
)
from support.distributions.wheels import sdist, wheel
from support.examples import examples


def read(folder: Path, filename: str, content: bytes) -> bytes:
    """Read the metadata through a real file, whose seek fails in its own way."""
    path = folder / "file"
    path.write_bytes(content)
    with path.open("rb") as stream:
        return read_metadata(stream, parse_upload_filename(filename))


LONG = "foo-1.0/" + "deep/" * 60 + "leaf.py"


def _zip64() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as target:
        for name, content in WHOLE:
            with target.open(name, "w", force_zip64=True) as member:
                member.write(content)
    return packed.getvalue()


def _git_archive() -> bytes:
    return tarred(PKG_INFO, pax_headers={"comment": "0123456789abcdef" * 2})


GOOD = {
    "wheel": (WHEEL, zipped(WHOLE)),
    "wheel, stored": (WHEEL, zipped(WHOLE, zipfile.ZIP_STORED)),
    "wheel, zip64": (WHEEL, _zip64()),
    "wheel, spelt otherwise": (
        "Foo_Bar-1.0.0-py3-none-any.whl",
        zipped(
            recorded(
                [(f"foo.bar-1.0.dist-info/{name}", METADATA) for name in ("METADATA", "WHEEL")],
                "foo.bar-1.0.dist-info/RECORD",
            )
        ),
    ),
    "wheel with folders": (WHEEL, zipped([("foo/", b""), (f"{INFO}/", b""), *WHOLE])),
    "sdist": (SDIST, tarred(PKG_INFO)),
    "sdist, ustar": (SDIST, tarred(PKG_INFO, tar_format=tarfile.USTAR_FORMAT)),
    "sdist, GNU, long path": (SDIST, tarred([(LONG, b""), *PKG_INFO], tar_format=tarfile.GNU_FORMAT)),
    "sdist, pax, long path": (SDIST, tarred([(LONG, b""), *PKG_INFO])),
    "sdist, path not of this alphabet": (SDIST, tarred([("foo-1.0/\u043f\u0438\u0442\u043e\u043d", b""), *PKG_INFO])),
    "sdist of git archive": (SDIST, _git_archive()),
    "sdist, ./ before each path": (SDIST, tarred([(f"./{name}", content) for name, content in PKG_INFO])),
    "sdist with links inside": (
        SDIST,
        tarred(
            PKG_INFO,
            [
                tar_info("foo-1.0/a", kind=tarfile.SYMTYPE, target="PKG-INFO"),
                tar_info("foo-1.0/src/b", kind=tarfile.SYMTYPE, target="../PKG-INFO"),
                tar_info("foo-1.0/c", kind=tarfile.LNKTYPE, target="foo-1.0/PKG-INFO"),
            ],
        ),
    ),
    "sdist with other PKG-INFO below": (SDIST, tarred([("foo-1.0/foo.egg-info/PKG-INFO", b"other"), *PKG_INFO])),
    "zip sdist": (ZIP_SDIST, zipped(PKG_INFO)),
}


@pytest.mark.parametrize(("filename", "content"), GOOD.values(), ids=GOOD)
def test_whole_archive(tmp_path, filename, content):
    assert read(tmp_path, filename, content) == METADATA


def test_archives_of_other_tests_are_whole(tmp_path):
    for path in (wheel(tmp_path, "foo"), sdist(tmp_path, "foo")):
        parsed = parse_upload_filename(path.name)
        with path.open("rb") as stream:
            assert parse_metadata(read_metadata(stream, parsed), parsed).requires_python == ">=3.8"


def _without(name: str) -> bytes:
    return zipped([member for member in WHOLE if member[0] != f"{INFO}/{name}"])


def _in_folder(folder: str) -> bytes:
    return zipped([(name.replace(INFO, folder), content) for name, content in WHOLE])


def _encrypted() -> bytes:
    content = bytearray(zipped(WHOLE))
    local, central = content.index(b"PK\x03\x04"), content.index(b"PK\x01\x02")
    content[local + 6] |= 1
    content[central + 8] |= 1
    return bytes(content)


def _patched(content: bytes, signature: bytes, offset: int, packed: bytes) -> bytes:
    start = content.rindex(signature) + offset
    return content[:start] + packed + content[start + len(packed) :]


PATHS = ["../evil", "foo/../../evil", "/etc/evil", "..", "foo\\..\\evil", "C:/evil", "C:evil", "\0evil", "foo\0.py", ""]
PLAIN_PATHS = [path for path in PATHS if path and "\0" not in path]
LINKS = [
    ("foo-1.0/a", tarfile.SYMTYPE, "/etc/passwd"),
    ("foo-1.0/a", tarfile.SYMTYPE, "../../evil"),
    ("foo-1.0/a", tarfile.SYMTYPE, "x/../../../evil"),
    ("foo-1.0/a", tarfile.LNKTYPE, "../evil"),
    ("foo-1.0/a", tarfile.LNKTYPE, "/etc/passwd"),
    ("a", tarfile.SYMTYPE, ".."),
]

BAD = {
    "nothing": (WHEEL, b"", "not a readable zip"),
    "text": (WHEEL, b"hello", "not a readable zip"),
    "a tar called wheel": (WHEEL, tarred(PKG_INFO), "not a readable zip"),
    "wheel cut off": (WHEEL, zipped(WHOLE)[:-30], "not a readable zip"),
    "wheel without its middle": (WHEEL, zipped(WHOLE)[:40] + zipped(WHOLE)[60:], "not a readable zip"),
    "wheel of an sdist": (WHEEL, zipped(PKG_INFO), "exactly one folder foo-1.0.dist-info"),
    "no METADATA": (WHEEL, _without("METADATA"), f"'{INFO}/METADATA' is missing"),
    "no WHEEL": (WHEEL, _without("WHEEL"), f"'{INFO}/WHEEL' is missing"),
    "no RECORD": (WHEEL, _without("RECORD"), f"'{INFO}/RECORD' is missing"),
    "dist-info of another project": (WHEEL, _in_folder("bar-1.0.dist-info"), "exactly one folder"),
    "dist-info of another version": (WHEEL, _in_folder("foo-1.1.dist-info"), "exactly one folder"),
    "dist-info without a version": (WHEEL, _in_folder("foo.dist-info"), "exactly one folder"),
    "dist-info too deep": (WHEEL, _in_folder(f"lib/{INFO}"), "exactly one folder"),
    "two dist-infos": (WHEEL, zipped([*WHOLE, ("bar-2.0.dist-info/METADATA", b"")]), "exactly one folder"),
    "member twice": (WHEEL, zipped([*WHOLE, ("foo.py", b"VALUE = 2\n")]), "'foo.py' twice"),
    "METADATA twice": (WHEEL, zipped([*WHOLE, (f"{INFO}/METADATA", b"other")]), "METADATA' twice"),
    "NUL and a name twice": (WHEEL, zipped([*WHOLE, ("foo.py\0.txt", b"")]), "outside its folder"),
    "path too long": (WHEEL, zipped([*WHOLE, ("a" * 1025, b"")]), "over 1024 characters"),
    "encrypted": (WHEEL, _encrypted(), "'foo.py' encrypted"),
    "METADATA compressed by bzip2": (WHEEL, zipped(WHOLE, zipfile.ZIP_BZIP2), "by the method 12"),
    "METADATA compressed by LZMA": (WHEEL, zipped(WHOLE, zipfile.ZIP_LZMA), "by the method 14"),
    "METADATA by an unknown method": (
        WHEEL,
        _patched(zipped(WHOLE[-3:][:1] + WHOLE[-2:]), f"{INFO}/METADATA".encode(), -36, struct.pack("<H", 97)),
        "by the method 97",
    ),
    "METADATA too large": (
        WHEEL,
        zipped([(f"{INFO}/METADATA", b" " * (MAX_METADATA_BYTES + 1)), *WHOLE[2:]]),
        f"over {MAX_METADATA_BYTES} bytes",
    ),
    "METADATA with another checksum": (
        WHEEL,
        _patched(zipped(WHOLE[1:], zipfile.ZIP_STORED), b"Summary", 0, b"summary"),
        "Bad CRC-32",
    ),
    "list of members before the file": (
        WHEEL,
        _patched(zipped(WHOLE), b"PK\x05\x06", 12, struct.pack("<LL", 0x7FFFFFFF, 0x7FFFFFFF)),
        "not a readable zip",
    ),
    "member before the file": (
        WHEEL,
        _patched(zipped(WHOLE[1:2] + WHOLE[2:]), b"PK\x05\x06", 16, struct.pack("<L", 4000)),
        "not a readable zip",
    ),
    "sdist is no gzip": (SDIST, b"hello", "not a readable tar.gz"),
    "sdist is a zip": (SDIST, zipped(PKG_INFO), "not a readable tar.gz"),
    "gzip of text": (SDIST, gzip.compress(b"hello" * 1000), "not a readable tar.gz"),
    "gzip of nothing": (SDIST, gzip.compress(b""), "empty file"),
    "empty tar": (SDIST, tarred([]), "everything must lie in one folder, it has []"),
    "sdist cut off": (SDIST, tarred(PKG_INFO)[:-20], "not a readable tar.gz"),
    "tar cut off": (SDIST, gzip.compress(gzip.decompress(tarred(PKG_INFO))[:600]), "not a readable tar.gz"),
    "gzip with another checksum": (
        SDIST,
        tarred(PKG_INFO)[:-8] + b"\0\0\0\0" + tarred(PKG_INFO)[-4:],
        "CRC check failed",
    ),
    "bytes after the gzip": (SDIST, tarred(PKG_INFO) + b"more", "not a readable tar.gz"),
    "no PKG-INFO, nothing to build by": (SDIST, tarred([("foo-1.0/foo.py", b"")]), "no file 'foo-1.0/PKG-INFO'"),
    "PKG-INFO too deep": (SDIST, tarred([("foo-1.0/src/PKG-INFO", METADATA)]), "no file 'foo-1.0/PKG-INFO'"),
    "PKG-INFO is a folder": (
        SDIST,
        tarred([], [tar_info("foo-1.0/PKG-INFO", kind=tarfile.DIRTYPE)]),
        "no file 'foo-1.0/PKG-INFO'",
    ),
    "PKG-INFO is a link": (
        SDIST,
        tarred([("foo-1.0/b", METADATA)], [tar_info("foo-1.0/PKG-INFO", kind=tarfile.SYMTYPE, target="b")]),
        "no file 'foo-1.0/PKG-INFO'",
    ),
    "PKG-INFO twice": (SDIST, tarred([*PKG_INFO, ("foo-1.0/PKG-INFO", b"other")]), "PKG-INFO' twice"),
    "PKG-INFO twice, spelt otherwise": (SDIST, tarred([*PKG_INFO, ("./foo-1.0/PKG-INFO", b"")]), "PKG-INFO' twice"),
    "PKG-INFO too large": (
        SDIST,
        tarred([("foo-1.0/PKG-INFO", b" " * (MAX_METADATA_BYTES + 1))]),
        f"over {MAX_METADATA_BYTES} bytes",
    ),
    "two folders": (SDIST, tarred([*PKG_INFO, ("bar/x", b"")]), "it has ['bar', 'foo-1.0']"),
    "a device": (SDIST, tarred(PKG_INFO, [tar_info("foo-1.0/a", kind=tarfile.CHRTYPE)]), "neither a file, a folder"),
    "a pipe": (SDIST, tarred(PKG_INFO, [tar_info("foo-1.0/a", kind=tarfile.FIFOTYPE)]), "neither a file, a folder"),
    "an unknown kind": (SDIST, blocks(header(b"Z", 0)), "neither a file, a folder"),
    "zip sdist without PKG-INFO": (ZIP_SDIST, zipped([("foo-1.0/foo.py", b"")]), "no file 'foo-1.0/PKG-INFO'"),
    "zip sdist of two folders": (ZIP_SDIST, zipped([*PKG_INFO, ("bar/x", b"")]), "it has ['bar', 'foo-1.0']"),
    "empty zip": (ZIP_SDIST, zipped([]), "it has []"),
    **{f"path {p!r} in a zip": (WHEEL, zipped([*WHOLE, (p, b"")]), "outside its folder") for p in PATHS},
    **{f"path {p!r} in a tar": (SDIST, tarred([*PKG_INFO, (p, b"")]), "outside its folder") for p in PLAIN_PATHS},
    "NUL in a tar's path": (
        SDIST,
        blocks(header(b"x", 30), record("path", "foo-1.0/a\0b"), header(b"0", 0)),
        "outside its folder",
    ),
    **{
        f"link {name} to {target}": (
            SDIST,
            tarred(PKG_INFO, [tar_info(name, kind=kind, target=target)]),
            "points outside its folder",
        )
        for name, kind, target in LINKS
    },
    "sparse file, old GNU": (SDIST, blocks(header(tarfile.GNUTYPE_SPARSE, 0)), "the sparse file"),
    "sparse file, pax": (
        SDIST,
        blocks(
            header(b"x", 44),
            record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0"),
            header(b"0", 512),
            b"1\n0\n0\n",
        ),
        "the sparse file",
    ),
    "a size for all members": (SDIST, tarred(PKG_INFO, pax_headers={"size": "99"}), "describe its members"),
    "negative size": (
        SDIST,
        blocks(header(b"x", 11), record("size", "-9"), header(b"0", 0, "foo-1.0/PKG-INFO")),
        "",
    ),
}


@pytest.mark.parametrize(("filename", "content", "reason"), BAD.values(), ids=BAD)
def test_refused(tmp_path, filename, content, reason):
    with pytest.raises(InvalidDistributionError) as raised:
        parse_metadata(read(tmp_path, filename, content), parse_upload_filename(filename))
    assert reason in str(raised.value)
    assert filename in str(raised.value)
    assert str(raised.value).isprintable()


def test_names_that_are_no_text_are_shown_safely(tmp_path):
    raw = blocks(tar_info("foo-\udcff\n/x").tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape"))
    with pytest.raises(InvalidDistributionError, match="no file") as raised:
        read(tmp_path, SDIST, raw)
    assert str(raised.value).encode()
    assert str(raised.value).isprintable()


# --- bombs -----------------------------------------------------------------------------------------------------


def _many_members(count: int) -> bytes:
    """Return a zip whose list of members is far larger than their content: one local header, listed many times."""
    one = zipped([("a", b"")], zipfile.ZIP_STORED)
    start, end = one.index(b"PK\x01\x02"), one.index(b"PK\x05\x06")
    listed = one[start:end] * count
    tail = one[end : end + 12] + struct.pack("<LLH", len(listed), start, 0)
    return one[:start] + listed + tail


def _with_header(kind: bytes, payload: bytes, times: int = 1) -> bytes:
    part = header(kind, len(payload)) + payload + b"\0" * (-len(payload) % 512)
    members = (part + header(b"0", 0, f"foo-1.0/{number}") for number in range(times))
    return gzip.compress(b"".join(members) + b"\0" * 1024, 9, mtime=0)


def _deflated(*parts: tuple[bytes, int]) -> bytes:
    """Deflate parts, each that many times. Each is packed once, so this costs nothing, however much it unpacks to."""
    packed = b""
    for part, times in parts:
        packing = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        packed += (packing.compress(part) + packing.flush(zlib.Z_FULL_FLUSH)) * times
    return packed + zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS).flush()


def _gzipped(*parts: tuple[bytes, int]) -> bytes:
    """Return a gzip of such parts, without its right checksum: a bomb is refused before that is read."""
    return gzip.compress(b"", mtime=0)[:10] + _deflated(*parts) + b"\0" * 8


MIB = 1024 * 1024
FIELDS = b"".join(record(f"{i:x}", "") for i in range(700))


class Bomb(NamedTuple):
    filename: str
    make: Callable[[], bytes]
    reason: str
    peak_mib: int = 16
    """Memory that reading it may take."""
    seconds: float = 20
    limits: Mapping[str, int] = {}
    """Limits that are lower than usual, so that a smaller bomb does."""


BOMBS = {
    "a million members of a zip": Bomb(WHEEL, lambda: _many_members(1_000_000), "more than 200000 members", 80),
    "a list of members of 70 MB": Bomb(
        WHEEL,
        lambda: b"\0" * 70 * MIB + b"PK\x05\x06" + struct.pack("<HHHHLLH", 0, 0, 1, 1, 70 * MIB, 0, 0),
        "list of members takes",
    ),
    "METADATA of 64 MB, deflated": Bomb(
        WHEEL,
        lambda: zip_of(
            Entry(
                path=f"{INFO}/METADATA",
                deflated=True,
                packed=_deflated((bytes(MIB), 64)),
                local={"size": 64 * MIB},
                listed={"size": 64 * MIB},
            ),
            Entry(path=f"{INFO}/WHEEL"),
            Entry(path=f"{INFO}/RECORD"),
        ),
        f"over {MAX_METADATA_BYTES} bytes",
    ),
    "a tar that unpacks to far more": Bomb(
        SDIST,
        lambda: _gzipped((header(b"0", 400 * MIB), 1), (bytes(MIB), 400)),
        "unpacks to more than",
        limits={"archive.EXPANSION_ALLOWANCE": 16 * MIB, "archive.MAX_EXPANSION": 20},
    ),
    "gzip that unpacks to far more after the tar": Bomb(
        SDIST, lambda: tarred(PKG_INFO) + _gzipped((bytes(MIB), 100)), "holds a second one"
    ),
    "long name of 100 MB": Bomb(
        SDIST, lambda: _gzipped((header(b"L", 100 * MIB), 1), (b"a" * MIB, 100)), "over 8192 bytes to describe"
    ),
    "long link of 100 MB": Bomb(
        SDIST, lambda: _gzipped((header(b"K", 100 * MIB), 1), (b"a" * MIB, 100)), "over 8192 bytes to describe"
    ),
    "pax header of 100 MB": Bomb(
        SDIST,
        lambda: _gzipped((header(b"x", 100 * MIB) + b"104857600 comment=", 1), (b"a" * MIB, 100)),
        "over 8192 bytes to describe",
    ),
    "pax headers in a chain": Bomb(
        SDIST,
        lambda: blocks(*[header(b"x", 20) + record("comment", "a").ljust(512, b"\0")] * 2000, header(b"0", 0)),
        "",
    ),
    "fields for every member": Bomb(
        SDIST,
        lambda: blocks(header(b"g", len(FIELDS)), FIELDS, *[header(b"x", 9), b"9 a=bcd\n\n", header(b"0", 0)] * 5000),
        "describe its members",
    ),
    "large headers of many members": Bomb(
        SDIST,
        lambda: _with_header(b"x", record("comment", "a" * 6000), 800),
        "describe its members",
        peak_mib=4,
        seconds=2,
        limits={"tar_reading.MAX_HEADERS": 3 * MIB},
    ),
    "sparse map of 50 MB": Bomb(
        SDIST,
        lambda: _gzipped(
            (
                b"".join(
                    part.ljust(-(-len(part) // 512) * 512, b"\0")
                    for part in (
                        header(b"x", 44),
                        record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0"),
                        header(b"0", 50 * MIB),
                    )
                )
                + b"90000000\n",
                1,
            ),
            (b"0\n" * (MIB // 2), 50),
        ),
        "over 8192 bytes to describe",
    ),
    "digits that a pattern could stumble over": Bomb(SDIST, lambda: _with_header(b"x", b"1" * 6000, 4), "", seconds=2),
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_bomb(tmp_path, monkeypatch, bomb: Bomb):
    for name, limit in bomb.limits.items():
        monkeypatch.setattr(f"pywharf.core.{name}", limit)
    path = tmp_path / "bomb"
    path.write_bytes(bomb.make())
    parsed = parse_upload_filename(bomb.filename)
    tracemalloc.start()
    started = time.process_time()
    try:
        with path.open("rb") as stream, pytest.raises(InvalidDistributionError) as raised:
            parse_metadata(read_metadata(stream, parsed), parsed)
        seconds, peak = time.process_time() - started, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert bomb.reason in str(raised.value)
    assert len(str(raised.value)) < 1000
    assert peak < bomb.peak_mib * MIB, f"{peak / MIB:.0f} MiB for {path.stat().st_size / MIB:.2f} MiB"
    assert seconds < bomb.seconds, f"{seconds:.1f} s for {path.stat().st_size / MIB:.2f} MiB"


def test_limits_that_bombs_lower_are_low():
    of_a_bomb = archive.max_unpacked_bytes(io.BytesIO(bytes(400_000)), archive.EXPANSION_ALLOWANCE)
    assert of_a_bomb < 160 * MIB
    assert tar_reading.MAX_HEADERS <= 32 * MIB


def test_limit_of_members_is_what_it_says(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_MEMBERS", len(WHOLE))
    assert read(tmp_path, WHEEL, zipped(WHOLE)) == METADATA
    with pytest.raises(InvalidDistributionError, match="more than 4 members"):
        read(tmp_path, WHEEL, zipped(recorded([*FILES, ("bar.py", b"")])))
    many = [(f"foo-1.0/{i}", b"") for i in range(3)]
    assert read(tmp_path, SDIST, tarred([*many, *PKG_INFO])) == METADATA
    with pytest.raises(InvalidDistributionError, match="more than 4 members"):
        read(tmp_path, SDIST, tarred([*many, *PKG_INFO, ("foo-1.0/x", b"")]))


def test_members_of_a_tar_are_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_METADATA_BYTES", MIB)  # the bytes that are reserved to read PKG-INFO
    members = [header(b"0", 0, f"foo-1.0/{number}") for number in range(3_000)]
    content = blocks(*members, header(b"0", len(METADATA), "foo-1.0/PKG-INFO"), METADATA)
    tracemalloc.start()
    try:
        assert read(tmp_path, SDIST, content) == METADATA
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * MIB, f"{peak / MIB:.1f} MiB"


@pytest.mark.parametrize(
    ("filename", "content", "after"),
    [(WHEEL, zipped(WHOLE), 2), (SDIST, tarred([("foo-1.0/a", os.urandom(100_000))]), 1)],
    ids=["wheel", "sdist"],
)
def test_trouble_of_the_disk_is_not_the_archive_s(filename, content, after):
    class Failing(io.BytesIO):
        reads = 0

        def read(self, size: int | None = -1) -> bytes:
            self.reads += 1
            if self.reads > after:
                raise OSError(5, "Input/output error")
            return super().read(size)

    with pytest.raises(OSError, match="Input/output error"):
        read_metadata(Failing(content), parse_upload_filename(filename))


# --- any bytes -------------------------------------------------------------------------------------------------

FUZZED = {name: GOOD[name] for name in ("wheel, stored", "wheel, zip64", "sdist", "sdist, GNU, long path", "zip sdist")}
UNPACKED_TARS = [gzip.decompress(content) for filename, content in GOOD.values() if filename == SDIST]


@st.composite
def mutated(draw: st.DrawFn, seed: bytes) -> bytes:
    """Draw a copy of `seed` with bytes changed, cut out, doubled or inserted."""
    content = bytearray(seed)
    for _ in range(draw(st.integers(1, 6))):
        position = draw(st.integers(0, len(content)))
        match draw(st.sampled_from(["change", "fill", "cut", "double", "put in", "number"])):
            case "change":
                content[position : position + 1] = draw(st.binary(min_size=1, max_size=1))
            case "fill":
                content[position : position + 4] = draw(st.sampled_from([b"\0" * 4, b"\xff" * 4]))
            case "cut":
                del content[position : position + draw(st.integers(1, 600))]
            case "double":
                content[position:position] = content[position : position + draw(st.integers(1, 600))]
            case "put in":
                content[position:position] = draw(st.binary(min_size=1, max_size=20))
            case "number":
                content[position : position + 8] = struct.pack("<q", draw(st.integers(-(2**63), 2**63 - 1)))
    return bytes(content)


def _ends_well(folder: Path, filename: str, content: bytes) -> None:
    parsed = parse_upload_filename(filename)
    refusal = "-"
    try:
        parse_metadata(read(folder, filename, content), parsed)
    except InvalidDistributionError as error:
        refusal = str(error)
    assert refusal.isprintable(), repr(refusal)
    assert refusal.encode()


SHARED_FOLDER = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@pytest.mark.parametrize(("filename", "seed"), FUZZED.values(), ids=FUZZED)
@settings(max_examples=examples(500), suppress_health_check=SHARED_FOLDER)
@given(data=st.data())
def test_mutated_archive(tmp_path, filename, seed, data):
    _ends_well(tmp_path, filename, data.draw(mutated(seed)))


@settings(max_examples=examples(1000), suppress_health_check=SHARED_FOLDER)
@given(content=st.sampled_from(UNPACKED_TARS).flatmap(mutated))
def test_mutated_tar(tmp_path, content):
    """The damaged tar is in an intact gzip, so the checksum does not catch it."""
    _ends_well(tmp_path, SDIST, gzip.compress(content, 1, mtime=0))


@settings(max_examples=examples(200), suppress_health_check=SHARED_FOLDER)
@given(content=st.binary(max_size=2000), filename=st.sampled_from([WHEEL, SDIST, ZIP_SDIST]))
def test_any_bytes(tmp_path, content, filename):
    _ends_well(tmp_path, filename, content)
