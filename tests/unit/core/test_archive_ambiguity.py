"""Check that archives are refused if two installers could read them differently; harmless old forms are accepted."""

import base64
import gzip
import hashlib
import io
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pywharf.core import archive, member_tree
from pywharf.core.archive import Contents, read_contents
from pywharf.core.distribution import read_distribution
from pywharf.core.errors import InvalidDistributionError
from pywharf.core.filenames import parse_upload_filename
from pywharf.core.member_tree import MemberKind, MemberTree
from support.distributions.archives import (
    FILES,
    INFO,
    METADATA,
    PKG_INFO,
    SDIST,
    SETUP,
    WHEEL,
    WHOLE,
    ZIP_SDIST,
    Entry,
    blocks,
    deflate,
    descriptor,
    header,
    record,
    recorded,
    stream_of,
    tar_info,
    tarred,
    zip_of,
    zipped,
)
from support.distributions.wheels import record_hash
from support.examples import examples


def read(filename: str, content: bytes) -> Contents:
    return read_contents(io.BytesIO(content), parse_upload_filename(filename))


def whole(*others: Entry, **parts: object) -> bytes:
    """Return a wheel of these entries and the members of every wheel, all listed in RECORD."""
    given = {other.path: other for other in others}
    files = [(str(path), one.content) for path, one in given.items()]
    files += [(path, content) for path, content in FILES if path not in given]
    entries = [given.get(path, Entry(path=path, content=content)) for path, content in recorded(files)]
    return zip_of(*entries, **parts)  # type: ignore[arg-type]


ONE = b"print(1)\n"
OTHER = b"print(2)\n"
LINK = 0o120777 << 16
ZIP_64 = struct.pack("<HHQQ", 1, 16, len(ONE), len(ONE))


def unicode_path(path: str, listed: str = "a.py") -> bytes:
    data = b"\1" + struct.pack("<L", zlib.crc32(listed.encode())) + path.encode()
    return struct.pack("<HH", 0x7075, len(data)) + data


def rows(*changed: str, left_out: str = "", files: list[tuple[str, bytes]] = FILES) -> list[tuple[str, bytes]]:
    """Return a wheel's members. Rows are added to its RECORD, or those of one file are left out."""
    made = recorded(files)
    lines = [line for line in made[-1][1].decode().splitlines() if not (left_out and left_out in line)]
    return [*made[:-1], (made[-1][0], "".join(f"{line}\n" for line in (*changed, *lines)).encode())]


MORE = [*FILES, ("more.py", ONE)]
PLAIN, PADDED = record_hash(ONE), "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(ONE).digest()).decode()
STANDARD, HEX = (
    "sha256=" + base64.b64encode(hashlib.sha256(ONE).digest()).decode(),
    "sha256=" + hashlib.sha256(ONE).hexdigest(),
)


def more(row: str) -> bytes:
    return zipped(rows(*([row] if row else []), left_out="more.py", files=MORE))


def link(path: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    return tar_info(path, kind=kind, target=target)


ACCEPTED = {
    "zip with a comment": (WHEEL, whole(comment=b"made by hand")),
    "comment of a member": (WHEEL, whole(Entry(path="a.py", content=ONE, listed={"comment": b"x"}))),
    "folders": (WHEEL, whole(Entry(path="a/"), Entry(path="a/b.py", content=ONE))),
    "folder, deflated": (WHEEL, whole(Entry(path="a/", deflated=True))),
    "cases that differ": (WHEEL, whole(Entry(path="a.py", content=ONE), Entry(path="A.py", content=OTHER))),
    "path not of this alphabet": (WHEEL, whole(Entry(path="\u043f/\x1b.py", content=ONE))),
    "path neither UTF-8 nor said to be": (
        WHEEL,
        zip_of(
            *[Entry(path=path, content=content) for path, content in FILES],
            Entry(path=b"\xfcber.py", content=ONE, local={"flags": 0}, listed={"flags": 0}),
            Entry(path=f"{INFO}/RECORD", content=recorded(FILES)[-1][1] + b"\xfcber.py,,\n"),
        ),
    ),
    "sizes after the content, deflated": (WHEEL, stream_of(WHOLE, zipfile.ZIP_DEFLATED)),
    "sizes after the content, stored": (WHEEL, stream_of(WHOLE, zipfile.ZIP_STORED)),
    "a mark in stored content that is none": (
        WHEEL,
        stream_of(recorded([*FILES, ("a", b"PK\x07\x08" * 900 + ONE)]), zipfile.ZIP_STORED),
    ),
    "sizes after the content, no signature": (
        WHEEL,
        whole(Entry(path="a.py", content=ONE, flags=8, descriptor=descriptor(ONE, signature=False))),
    ),
    "sizes after the content, of 64 bits": (
        WHEEL,
        whole(Entry(path="a.py", content=ONE, flags=8, descriptor=descriptor(ONE, wide=True))),
    ),
    "extra field of 64 bits": (
        WHEEL,
        whole(Entry(path="a.py", content=ONE, local={"extra": ZIP_64, "size": 0xFFFFFFFF, "packed_size": 0xFFFFFFFF})),
    ),
    "the same path in an extra field": (
        WHEEL,
        whole(Entry(path="a.py", content=ONE, listed={"extra": unicode_path("a.py")})),
    ),
    "listed in another order": (
        WHEEL,
        zip_of(*[Entry(path=path, content=content) for path, content in reversed(WHOLE)]),
    ),
    "RECORD with CRLF": (WHEEL, zipped([*FILES, (WHOLE[-1][0], WHOLE[-1][1].replace(b"\n", b"\r\n"))])),
    "RECORD with backslashes": (
        WHEEL,
        zipped(rows(f"a\\b.py,{PLAIN},9", left_out="a/b.py", files=[*FILES, ("a/b.py", ONE)])),
    ),
    "RECORD without hashes": (WHEEL, more("more.py,,")),
    "RECORD with the path alone": (WHEEL, more("more.py")),
    "RECORD with padding": (WHEEL, more(f"more.py,{PADDED},9")),
    "RECORD with base64's other alphabet": (WHEEL, more(f"more.py,{STANDARD},9")),
    "RECORD with hex": (WHEEL, more(f"more.py,{HEX},9")),
    "RECORD with SHA-512": (
        WHEEL,
        more(f"more.py,sha512={base64.urlsafe_b64encode(hashlib.sha512(ONE).digest()).decode().rstrip('=')},9"),
    ),
    "RECORD with a hash that nobody knows": (WHEEL, more("more.py,crc99=abc,9")),
    "RECORD with ./": (WHEEL, more(f"./more.py,{PLAIN},9")),
    "RECORD with /": (WHEEL, more(f"/more.py,{PLAIN},9")),
    "RECORD with a row twice": (WHEEL, zipped(rows(f"foo.py,{record_hash(FILES[0][1])},10"))),
    "RECORD with folders": (WHEEL, zipped(rows("foo/,,"))),
    "RECORD with empty lines": (WHEEL, zipped(rows("", ""))),
    "RECORD with its own hash": (WHEEL, zipped(rows(f"{INFO}/RECORD,sha256=abc,1", left_out=f"{INFO}/RECORD"))),
    "RECORD without itself": (WHEEL, zipped(rows(left_out=f"{INFO}/RECORD"))),
    "signatures of RECORD": (WHEEL, zipped([*WHOLE, (f"{INFO}/RECORD.jws", b"{}"), (f"{INFO}/RECORD.p7s", b"x")])),
    "signature in RECORD": (WHEEL, zipped(recorded([*FILES, (f"{INFO}/RECORD.jws", b"{}")]))),
    "zip sdist, link inside": (
        ZIP_SDIST,
        zip_of(
            Entry(path="foo-1.0/PKG-INFO", content=METADATA),
            Entry(path="foo-1.0/a/b", content=b"../PKG-INFO", attributes=LINK),
        ),
    ),
    "zeros after the gzip": (SDIST, tarred(PKG_INFO) + b"\0" * 512),
    "tar without blocks at its end": (SDIST, gzip.compress(gzip.decompress(tarred(PKG_INFO))[:1024])),
    "folder twice": (
        SDIST,
        tarred(PKG_INFO, [tar_info("foo-1.0/a", kind=tarfile.DIRTYPE), tar_info("foo-1.0/a/", kind=tarfile.DIRTYPE)]),
    ),
    "the folder . first": (SDIST, tarred([("./foo-1.0/PKG-INFO", METADATA)], [tar_info(".", kind=tarfile.DIRTYPE)])),
    "folder of another name": (SDIST, tarred([("Foo/PKG-INFO", METADATA)])),
    "path that is no text": (
        SDIST,
        tarred([*PKG_INFO, ("foo-1.0/f\udcfcr", b"")], tar_format=tarfile.GNU_FORMAT, errors="surrogateescape"),
    ),
    "path with a line's end": (SDIST, tarred([*PKG_INFO, ("foo-1.0/a\nb\x1b[31m", b"")])),
    "links in a circle": (SDIST, tarred(PKG_INFO, [link("foo-1.0/a", "b"), link("foo-1.0/b", "a")])),
    "link to nothing": (SDIST, tarred(PKG_INFO, [link("foo-1.0/a", "nothing")])),
    "link through another": (
        SDIST,
        tarred(PKG_INFO, [link("foo-1.0/d/a", ".."), link("foo-1.0/d/b", "a/PKG-INFO")]),
    ),
    "hard link to a hard link": (
        SDIST,
        tarred(
            PKG_INFO,
            [link("foo-1.0/a", "foo-1.0/PKG-INFO", tarfile.LNKTYPE), link("foo-1.0/b", "./foo-1.0/a", tarfile.LNKTYPE)],
        ),
    ),
    "blank line before PKG-INFO's fields": (SDIST, tarred([("foo-1.0/PKG-INFO", b"\n" + METADATA)])),
}


@pytest.mark.parametrize(("filename", "content"), ACCEPTED.values(), ids=ACCEPTED)
def test_accepted(filename, content):
    parsed = parse_upload_filename(filename)
    distribution = read_distribution(io.BytesIO(content), parsed)
    assert distribution.raw_metadata.strip() == METADATA.strip()
    assert distribution.notes == ()


TWICE = zipped(WHOLE)
WITH_EVIL = zipped(recorded([*FILES, ("evil.py", b"1")]))
HIDDEN = zip_of(Entry(path="hidden.py", content=ONE))
HIDDEN = HIDDEN[: HIDDEN.index(b"PK\x01\x02")]
FAKE_END = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0, 0, 0, 0, 0)


def broken_end(**fields: int) -> bytes:
    return whole(end=fields)


REFUSED = {
    # a member's local header and its entry in the list
    "another path before the content": (
        WHEEL,
        whole(Entry(path="good.py", content=ONE, local={"path": b"evil.py"})),
        "names 'good.py', the member itself 'evil.py'",
    ),
    "another size before the content": (WHEEL, whole(Entry(path="a.py", content=ONE, local={"size": 3})), "the size 9"),
    "another packed size before it": (
        WHEEL,
        whole(Entry(path="a.py", content=ONE, local={"packed_size": 3})),
        "the packed size 9, the member itself 3",
    ),
    "no size before it, none after it": (
        WHEEL,
        whole(Entry(path="a.py", content=ONE, local={"size": 0, "packed_size": 0})),
        "the packed size 9, the member itself 0",
    ),
    "another CRC-32 before it": (WHEEL, whole(Entry(path="a.py", content=ONE, local={"crc": 1})), "the CRC-32"),
    "another method before it": (WHEEL, whole(Entry(path="a.py", content=ONE, local={"method": 8})), "the method 0"),
    "sizes after it, the list does not say so": (
        WHEEL,
        whole(Entry(path="a.py", content=ONE, local={"flags": 8}, descriptor=descriptor(ONE))),
        "the flags 0",
    ),
    "encrypted, the list does not say so": (WHEEL, whole(Entry(path="a.py", content=ONE, local={"flags": 1})), "flags"),
    "encrypted": (WHEEL, whole(Entry(path="a.py", content=ONE, flags=1)), "'a.py' encrypted"),
    "features of zip that nobody has": (WHEEL, whole(Entry(path="a.py", flags=0x40)), "features"),
    "a version of zip that nobody has": (WHEEL, whole(Entry(path="a.py", listed={"version": 64})), "features"),
    "UTF-8 or not": (
        WHEEL,
        whole(Entry(path="\xe9.py", content=ONE, local={"flags": 0})),
        "the flags",
    ),
    "said to be UTF-8": (
        WHEEL,
        zip_of(*[Entry(path=path, content=content) for path, content in WHOLE], Entry(path=b"\xff.py")),
        "is said to be UTF-8 and is not",
    ),
    "another path in an extra field": (
        WHEEL,
        whole(Entry(path="a.py", content=ONE, listed={"extra": unicode_path("b.py")})),
        "another path in its extra fields",
    ),
    "another path in an extra field before it": (
        WHEEL,
        whole(Entry(path="a.py", content=ONE, local={"extra": unicode_path("b.py")})),
        "another path in its extra fields",
    ),
    "an extra field twice": (
        WHEEL,
        whole(Entry(path="a.py", content=ONE, listed={"extra": ZIP_64 * 2})),
        "extra fields of 'a.py' cannot be read",
    ),
    "an extra field that is cut off": (
        WHEEL,
        whole(Entry(path="a.py", content=ONE, listed={"extra": b"\1\0\xff\xff"})),
        "extra fields of 'a.py' cannot be read",
    ),
    "other sizes after it": (
        WHEEL,
        whole(Entry(path="a.py", content=ONE, flags=8, descriptor=descriptor(OTHER))),
        "does not give the sizes",
    ),
    "none after it": (WHEEL, whole(Entry(path="a.py", content=ONE, flags=8)), "does not give the sizes"),
    "a mark in content of no said size": (
        WHEEL,
        whole(
            Entry(
                path="a.py",
                content=ONE + descriptor(ONE) + OTHER,
                flags=8,
                local={"size": 0, "packed_size": 0, "crc": 0},
                descriptor=descriptor(ONE + descriptor(ONE) + OTHER),
            )
        ),
        "does not say before 'a.py' where that ends",
    ),
    "marks without end in content of no said size": (
        WHEEL,
        stream_of(recorded([*FILES, ("a", b"PK\x07\x08" * 2_000)]), zipfile.ZIP_STORED),
        "does not say before 'a' where that ends",
    ),
    # content that the list does not cover
    "bytes before it": (WHEEL, b"#!/bin/sh\n" + TWICE, "10 bytes lie before it"),
    "bytes before it that the list knows of": (WHEEL, whole(Entry(path="0", before=b"12345")), "begins with 5 bytes"),
    "bytes after it": (WHEEL, TWICE + b"trailing", "8 bytes follow its end"),
    "line's end after it": (WHEEL, TWICE + b"\n\n", "2 bytes follow its end"),
    "two archives": (WHEEL, WITH_EVIL + TWICE, "or it holds two archives"),
    "two archives, the list fits the first": (WHEEL, TWICE + FAKE_END, "not a readable zip"),
    "a second end in the comment": (WHEEL, whole(comment=b"x" + FAKE_END), "or it holds two archives"),
    "a second end and more in the comment": (WHEEL, whole(comment=FAKE_END + b"y"), "1 bytes follow its end"),
    "a header in the comment": (WHEEL, whole(comment=b"PK\x03\x04"), "its comment may be taken"),
    "a member that is not listed, first": (WHEEL, whole(Entry(path="0", before=HIDDEN)), "begins with"),
    "a member that is not listed": (WHEEL, whole(Entry(path="0"), Entry(path="1", before=HIDDEN)), "belong to no"),
    "a member that is not listed, last": (WHEEL, whole(before_list=HIDDEN), "belong to no member"),
    "zeros between members": (WHEEL, whole(Entry(path="0"), Entry(path="1", before=b"\0" * 9)), "9 bytes from byte"),
    "bytes after the list": (WHEEL, whole(after_list=b"12345"), "5 bytes lie before it or before its end"),
    "two members of the same bytes": (
        WHEEL,
        whole(Entry(path="0", content=ONE), Entry(path="1", content=ONE, listed={"offset": 0})),
        "not a readable zip",
    ),
    "the list says fewer": (WHEEL, broken_end(count=3, total=3), "4 entries, its end says 3"),
    "the list says more": (WHEEL, broken_end(count=5, total=5), "4 entries, its end says 5"),
    "part of several": (WHEEL, broken_end(disk=1), "one part of several"),
    "a second end for large zips": (
        WHEEL,
        whole(after_list=struct.pack("<4sQ2H2L4Q4sLQL", b"PK\x06\x06", 44, 45, 45, *[0] * 6, b"PK\x06\x07", 0, 0, 1)),
        "not a readable zip",
    ),
    # contents
    "wrong CRC-32 of any member": (
        WHEEL,
        whole(Entry(path="a.py", content=ONE, packed=OTHER)),
        "Bad CRC-32 of 'a.py'",
    ),
    "wrong CRC-32 in a zip sdist": (
        ZIP_SDIST,
        zip_of(Entry(path="foo-1.0/PKG-INFO", content=METADATA), Entry(path="foo-1.0/a", content=ONE, packed=OTHER)),
        "Bad CRC-32 of 'foo-1.0/a'",
    ),
    "bytes after the deflated content": (
        WHEEL,
        whole(Entry(path="a.py", content=ONE, deflated=True, packed=deflate(ONE) + b"more")),
        "bytes lie after the content of 'a.py'",
    ),
    "deflated content cut off": (
        WHEEL,
        whole(Entry(path="a.py", content=ONE * 100, deflated=True, packed=deflate(ONE * 100)[:-1])),
        "is cut off",
    ),
    "more content than is said": (
        WHEEL,
        whole(Entry(path="a.py", content=ONE, deflated=True, packed=deflate(ONE * 1000))),
        "has more than 9 bytes",
    ),
    "a folder with content": (WHEEL, whole(Entry(path="a/", content=ONE)), "the folder 'a/' with 9 bytes"),
    "unpacks to too much": (
        WHEEL,
        whole(Entry(path="big", deflated=True, local={"size": 700_000_000}, listed={"size": 700_000_000})),
        "unpacks to more than",
    ),
    # paths
    "a path in two spellings": (WHEEL, whole(Entry(path="a/./b.py", content=ONE)), "another spelling of 'a/b.py'"),
    "a file and a folder": (
        WHEEL,
        zip_of(*[Entry(path=path, content=content) for path, content in [*WHOLE, ("a", ONE), ("a/b", ONE)]]),
        "below 'a', which is a file",
    ),
    "a folder and a file": (
        WHEEL,
        zip_of(*[Entry(path=path, content=content) for path, content in [*WHOLE, ("a/b", ONE), ("a", ONE)]]),
        "'a' as a folder and as a file",
    ),
    "METADATA is a link": (WHEEL, whole(Entry(path=f"{INFO}/METADATA", content=METADATA, attributes=LINK)), "the link"),
    "a link in a wheel": (WHEEL, whole(Entry(path="a", content=b"foo.py", attributes=LINK)), "holds the link 'a'"),
    "a device in a wheel": (WHEEL, whole(Entry(path="a", attributes=0o020666 << 16)), "neither a file, a folder"),
    "a link out of a zip sdist": (
        ZIP_SDIST,
        zip_of(
            Entry(path="foo-1.0/PKG-INFO", content=METADATA),
            Entry(path="foo-1.0/a", content=b"../../evil", attributes=LINK),
        ),
        "points outside its folder",
    ),
    # METADATA and RECORD
    "METADATA is not UTF-8": (
        WHEEL,
        zipped(recorded([*FILES[:1], (f"{INFO}/METADATA", METADATA + b"Author: \xff\n"), *FILES[2:]])),
        "not UTF-8",
    ),
    "RECORD is empty": (WHEEL, zipped([*FILES, (f"{INFO}/RECORD", b"")]), "does not list 'foo.py'"),
    "RECORD lists itself alone": (
        WHEEL,
        zipped([*FILES, (f"{INFO}/RECORD", f"{INFO}/RECORD,,\n".encode())]),
        "does not list 'foo.py'",
    ),
    "RECORD lacks a file": (WHEEL, more(""), "does not list 'more.py'"),
    "RECORD lists too much": (WHEEL, zipped(rows("gone.py,,")), "lists 'gone.py', which the wheel does not hold"),
    "RECORD has another hash": (WHEEL, more(f"more.py,{record_hash(OTHER)},9"), "'more.py' the hash"),
    "RECORD has a short hash": (WHEEL, more("more.py,sha256=AAAA,9"), "'more.py' the hash 'sha256=AAAA'"),
    "RECORD has another size": (WHEEL, more(f"more.py,{PLAIN},8"), "'more.py' '8' bytes; it has 9"),
    "RECORD has a size that is none": (WHEEL, more(f"more.py,{PLAIN},{'9' * 5000}"), "bytes; it has 9"),
    "RECORD has two hashes": (
        WHEEL,
        zipped(rows(f"foo.py,{record_hash(OTHER)},9")),
        "lists 'foo.py' twice",
    ),
    "RECORD cannot be read": (WHEEL, more(f'"{"x" * 200_000}"'), "is not a readable list"),
    # tars
    "a file twice": (SDIST, tarred([*PKG_INFO, ("foo-1.0/a", b"1"), ("foo-1.0/a", b"2")]), "'foo-1.0/a' twice"),
    "a file twice, spelt otherwise": (
        SDIST,
        tarred([*PKG_INFO, ("foo-1.0/a", b"1"), ("foo-1.0//./a", b"2")]),
        "'foo-1.0/a' twice",
    ),
    "a link in place of a folder": (
        SDIST,
        tarred([*PKG_INFO, ("foo-1.0/d/x", b"")], [link("foo-1.0/d", "e")]),
        "as a folder and as a link",
    ),
    "a file through a link": (
        SDIST,
        tarred([*PKG_INFO], [link("foo-1.0/d", "e"), tar_info("foo-1.0/d/x")]),
        "below 'foo-1.0/d', which is a link",
    ),
    "a chain of links": (
        SDIST,
        tarred(PKG_INFO, [link("foo-1.0/d/a", ".."), link("foo-1.0/d/b", "a/../..")]),
        "'foo-1.0/d/b', which points outside",
    ),
    "a chain of links, the last first": (
        SDIST,
        tarred(PKG_INFO, [link("foo-1.0/d/b", "a/../.."), link("foo-1.0/d/a", "..")]),
        "'foo-1.0/d/b', which points outside",
    ),
    "a link out and in again": (SDIST, tarred(PKG_INFO, [link("foo-1.0/a", "../foo-1.0/PKG-INFO")]), "points outside"),
    "a link to nowhere": (SDIST, tarred(PKG_INFO, [link("foo-1.0/a", "")]), "points outside"),
    "a hard link through a link": (
        SDIST,
        tarred(PKG_INFO, [link("foo-1.0/d", "."), link("foo-1.0/a", "foo-1.0/d/PKG-INFO", tarfile.LNKTYPE)]),
        "points outside its folder or to",
    ),
    "a hard link to a later file": (
        SDIST,
        tarred([], [link("foo-1.0/a", "foo-1.0/b", tarfile.LNKTYPE), tar_info("foo-1.0/b")]),
        "no file before it",
    ),
    "a link with content": (SDIST, blocks(header(b"2", 512, "foo-1.0/a"), ONE), "with 512 bytes of content"),
    "a second gzip": (SDIST, tarred(PKG_INFO) + tarred([("../evil", b"x")]), "holds a second one"),
    "a tar in two gzips": (
        SDIST,
        gzip.compress(gzip.decompress(tarred(PKG_INFO))[:700]) + gzip.compress(gzip.decompress(tarred(PKG_INFO))[700:]),
        "holds a second one",
    ),
    "junk after the gzip": (SDIST, tarred(PKG_INFO) + b"junk", "bytes follow its gzip"),
    "junk after zeros after the gzip": (SDIST, tarred(PKG_INFO) + b"\0" * 100_000 + b"junk", "bytes follow its gzip"),
    "a second tar": (
        SDIST,
        gzip.compress(gzip.decompress(tarred(PKG_INFO)) + gzip.decompress(tarred([("../evil", b"")]))),
        "bytes follow the end of its tar",
    ),
    "a member after a broken header": (
        SDIST,
        gzip.compress(gzip.decompress(tarred(PKG_INFO))[:1024] + b"x" * 512 + header(b"0", 0) + b"\0" * 1024),
        "bytes follow the end of its tar",
    ),
    "two sizes": (
        SDIST,
        blocks(header(b"x", 13), record("size", "1024"), header(b"0", 0, "foo-1.0/a"), ONE, header(b"0", 0)),
        "two sizes, 0 and 1024",
    ),
    "two names": (
        SDIST,
        blocks(
            header(b"x", 18),
            record("path", "foo-1.0/a"),
            header(b"L", 10),
            b"foo-1.0/b\0",
            header(b"0", 0, "foo-1.0/c"),
        ),
        "is described twice",
    ),
    "two long names": (
        SDIST,
        blocks(header(b"L", 10), b"foo-1.0/a\0", header(b"L", 10), b"foo-1.0/b\0", header(b"0", 0, "foo-1.0/c")),
        "is described twice",
    ),
    "a path for every member": (SDIST, tarred(PKG_INFO, pax_headers={"path": "foo-1.0/PKG-INFO"}), "describe its"),
    "not compressed": (SDIST, gzip.decompress(tarred(PKG_INFO)), "a tar that is not compressed; compress it by gzip"),
    "by bzip2": (SDIST, b"BZh91AY" + b"x" * 600, "compressed by bzip2; compress it by gzip"),
    "by xz": (SDIST, b"\xfd7zXZ\0" + b"x" * 600, "compressed by xz; compress it by gzip"),
    "cut off": (SDIST, tarred(PKG_INFO)[:-12], "it is cut off"),
    "a zip, too": (SDIST, gzip.compress(gzip.decompress(tarred(PKG_INFO))) + FAKE_END, "is a zip, too"),
    "PKG-INFO is a link": (
        SDIST,
        tarred([SETUP, ("foo-1.0/other", METADATA)], [link("foo-1.0/PKG-INFO", "other")]),
        "'foo-1.0/PKG-INFO' must be a regular file",
    ),
}


@pytest.mark.parametrize(("filename", "content", "reason"), REFUSED.values(), ids=REFUSED)
def test_refused(filename, content, reason):
    with pytest.raises(InvalidDistributionError) as raised:
        read_distribution(io.BytesIO(content), parse_upload_filename(filename))
    assert reason in str(raised.value)
    assert filename in str(raised.value)
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 1000


# --- old sdists ------------------------------------------------------------------------------------------------

OUTSIDE, NO_PKG_INFO = "has files outside a folder", "has no file"
OLD = {
    "no PKG-INFO": (SDIST, tarred([SETUP]), (NO_PKG_INFO,)),
    "no PKG-INFO, pyproject.toml": (SDIST, tarred([("foo-1.0/pyproject.toml", b"")]), (NO_PKG_INFO,)),
    "flat": (SDIST, tarred([("PKG-INFO", METADATA), ("setup.py", b""), ("a/b", b"")]), (OUTSIDE,)),
    "flat, one file": (SDIST, tarred([("PKG-INFO", METADATA)]), (OUTSIDE,)),
    "flat, no PKG-INFO": (SDIST, tarred([("setup.py", b""), ("foo.py", b"")]), (OUTSIDE, NO_PKG_INFO)),
    "zip, no PKG-INFO": (ZIP_SDIST, zipped([SETUP]), (NO_PKG_INFO,)),
    "zip, flat": (ZIP_SDIST, zipped([("PKG-INFO", METADATA), ("setup.py", b"")]), (OUTSIDE,)),
}


@pytest.mark.parametrize(("filename", "content", "says"), OLD.values(), ids=OLD)
def test_old_sdists_are_accepted_with_a_note(filename, content, says):
    distribution = read_distribution(io.BytesIO(content), parse_upload_filename(filename))
    assert (distribution.metadata.name, distribution.metadata.version) == ("foo", "1.0")
    assert [said in note for said, note in zip(says, distribution.notes, strict=True)] == [True] * len(says)
    assert all(filename in note for note in distribution.notes)


def test_pkg_info_of_another_project_is_refused_in_a_flat_sdist_too():
    content = tarred([("PKG-INFO", METADATA.replace(b"foo", b"bar")), ("setup.py", b"")])
    with pytest.raises(InvalidDistributionError, match="names the project 'bar'"):
        read_distribution(io.BytesIO(content), parse_upload_filename(SDIST))


# --- limits ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("filename", [WHEEL, ZIP_SDIST])
def test_a_zip_may_unpack_to_its_allowance_and_a_multiple_of_its_size(monkeypatch, filename):
    most = archive.max_unpacked_bytes(io.BytesIO(bytes(300_000)), archive.ZIP_ALLOWANCE)
    assert 500_000_000 < most < 700_000_000
    monkeypatch.setattr(archive, "ZIP_ALLOWANCE", 3_000_000)

    def unpacking_to(size: int) -> bytes:
        wheel = [*FILES, ("big", bytes(size))]
        return zipped(recorded(wheel) if filename == WHEEL else [*PKG_INFO, ("foo-1.0/big", bytes(size))])

    content = unpacking_to(3_000_000)
    assert len(content) < 10_000
    assert read(filename, content).metadata == METADATA
    with pytest.raises(InvalidDistributionError, match="unpacks to more than"):
        read(filename, unpacking_to(10_000_000))


def test_links_are_counted(monkeypatch):
    tree = MemberTree("x", 200_000)
    for number in range(10_000):
        tree.add(f"top/{number}", MemberKind.LINK, "x")
    with pytest.raises(InvalidDistributionError, match="more than 10000 links"):
        tree.add("top/more", MemberKind.LINK, "x")
    monkeypatch.setattr(member_tree, "_MAX_LINKS", 10)
    links = [link(f"foo-1.0/{number}", "x") for number in range(11)]
    with pytest.raises(InvalidDistributionError, match="more than 10 links"):
        read(SDIST, tarred(PKG_INFO, links))


def test_work_of_links_is_bounded():
    """Each link leads through other links by a long path."""
    tree = MemberTree("x", 200_000)
    tree.add("top/0", MemberKind.FOLDER)
    for number in range(1, 9_000):
        tree.add(f"top/{number}", MemberKind.LINK, f"{number - 1}/" + "./" * 500 + "a")
    with pytest.raises(InvalidDistributionError, match="more than 1000000 steps"):
        tree.check_links()


def test_folders_that_paths_imply_are_counted(monkeypatch):
    monkeypatch.setattr(archive, "MAX_MEMBERS", 100)
    members = [(f"foo-1.0/{number}/" + "a/" * 200 + "b", b"") for number in range(5)]
    for filename, content in ((SDIST, tarred([*PKG_INFO, *members])), (ZIP_SDIST, zipped([*PKG_INFO, *members]))):
        with pytest.raises(InvalidDistributionError, match="more than 200 files and folders"):
            read(filename, content)


def test_rows_of_record_are_counted(monkeypatch):
    monkeypatch.setattr(archive, "MAX_MEMBERS", 10)
    with pytest.raises(InvalidDistributionError, match="lists more than 10 files"):
        read(WHEEL, zipped(rows(*(f"{number}.py,," for number in range(20)))))


# --- any zip ---------------------------------------------------------------------------------------------------


def forward(content: bytes) -> dict[str, bytes]:
    """Read a zip from local header to local header, without the list of members. Returns the contents by path."""
    found = {}
    at = 0
    while content.startswith(b"PK\x03\x04", at):
        _, _, flags, method, _, _, _, packed, _, name, extra = struct.unpack_from("<4s5H3L2H", content, at)
        start = at + 30 + name + extra
        path = content[at + 30 : at + 30 + name].decode("utf-8", "surrogateescape")
        if method == 8:
            inflating = zlib.decompressobj(-15)
            data = inflating.decompress(content[start:])
            end = len(content) - len(inflating.unused_data)
        else:
            end = start + packed
            if flags & 8 and not packed:
                end = content.index(b"PK\x07\x08", start)
            data = content[start:end]
        if flags & 8:
            end += 16
        found[path] = data
        at = end
    return found


SEEDS = [
    zipped(WHOLE),
    zipped(WHOLE, zipfile.ZIP_STORED),
    stream_of(WHOLE, zipfile.ZIP_DEFLATED),
    whole(Entry(path="a/"), Entry(path="a/b.py", content=ONE)),
]


@settings(max_examples=examples(1500), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.sampled_from(SEEDS), data=st.data())
def test_what_is_accepted_reads_the_same_from_both_ends(seed, data):
    content = bytearray(seed)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content)))
        match data.draw(st.sampled_from(["change", "cut", "put in", "copy"])):
            case "change":
                content[at : at + 1] = data.draw(st.binary(min_size=1, max_size=2))
            case "cut":
                del content[at : at + data.draw(st.integers(1, 40))]
            case "put in":
                content[at:at] = data.draw(st.binary(min_size=1, max_size=30))
            case "copy":
                start = data.draw(st.integers(0, len(content)))
                content[at:at] = content[start : start + data.draw(st.integers(1, 120))]
    try:
        read(WHEEL, bytes(content))
    except InvalidDistributionError:
        return
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        backward = {path: opened.read(path) for path in opened.namelist()}
    assert forward(bytes(content)) == backward


def test_real_stream_from_disk(tmp_path: Path):
    path = tmp_path / WHEEL
    path.write_bytes(zipped(WHOLE))
    with path.open("rb") as stream:
        assert read_contents(stream, parse_upload_filename(WHEEL)).metadata == METADATA
