"""Tests of uploaded archives: refused if two installers may read them differently, accepted if old tools made them."""

import gzip
import io
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.distributions.archives import (
    Entry,
    blocks,
    header,
    record,
    recorded,
    stream_of,
    tar_info,
    tarred,
    zip_of,
    zipped,
)
from support.distributions.wheels import metadata, record_hash
from support.server.index_client import IndexClient
from support.server.serving import Server, running
from support.server.updating import finished, update_index

SYM, HARD, DIR = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE
LINK = 0o120777 << 16
Build = Callable[[str], bytes]


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("archives")) as server:
        yield server


def pkg_info(name: str) -> tuple[str, bytes]:
    return f"{name}-1.0/PKG-INFO", metadata(name, "1.0")


def tar(*members: tuple[str, bytes] | tarfile.TarInfo, info: bool = True, **options: object) -> Build:
    """Return a builder of an sdist. `@` in a path stands for its folder. PKG-INFO comes first if `info` is True."""

    def build(name: str) -> bytes:
        folder = f"{name}-1.0"
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w", **options) as target:  # type: ignore[call-overload]
            for given in ([pkg_info(name)] if info else []) + list(members):
                if isinstance(given, tarfile.TarInfo):
                    one, content = tarfile.TarInfo(given.name.replace("@", folder)), b""
                    one.type, one.linkname = given.type, given.linkname.replace("@", folder)
                else:
                    one, content = tarfile.TarInfo(given[0].replace("@", folder)), given[1].replace(b"@", name.encode())
                    one.size = len(content)
                target.addfile(one, io.BytesIO(content))
        return gzip.compress(packed.getvalue(), 1, mtime=0)

    return build


def link(path: str, target: str, kind: bytes = SYM) -> tarfile.TarInfo:
    return tar_info(path, kind=kind, target=target)


INFO = b"Metadata-Version: 2.1\nName: @\nVersion: 1.0\n"


def files_of(name: str, *more: tuple[str, bytes]) -> list[tuple[str, bytes]]:
    info = f"{name}-1.0.dist-info"
    return [
        (f"{name}.py", b"x"),
        (f"{info}/METADATA", metadata(name, "1.0")),
        (f"{info}/WHEEL", b"Wheel-Version: 1.0\nTag: py3-none-any\n"),
        *((path.replace("@", info), content) for path, content in more),
    ]


def record_path(name: str) -> str:
    return f"{name}-1.0.dist-info/RECORD"


def wheel(*more: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Build:
    """Return a builder of a wheel with more files, all in RECORD. `@` in a path stands for its dist-info folder."""
    return lambda name: zipped(recorded(files_of(name, *more), record_path(name)), method)


def entries(*more: Entry, **parts: object) -> Build:
    """Return a builder like `wheel`'s, of raw zip entries."""

    def build(name: str) -> bytes:
        plain = recorded(files_of(name, *((str(one.path), one.content) for one in more)), record_path(name))
        given = {one.path: one for one in more}
        return zip_of(*[given.get(path, Entry(path=path, content=content)) for path, content in plain], **parts)  # type: ignore[arg-type]

    return build


def with_record(make: Callable[[list[str]], list[str]]) -> Build:
    """Return a builder of a wheel whose RECORD lines are changed by `make`."""

    def build(name: str) -> bytes:
        plain = recorded(files_of(name), record_path(name))
        lines = make(plain[-1][1].decode().splitlines())
        return zipped([*plain[:-1], (record_path(name), "".join(f"{line}\n" for line in lines).encode())])

    return build


def with_metadata(more: bytes) -> Build:
    """Return a builder of a wheel with `more` appended to its METADATA."""

    def build(name: str) -> bytes:
        files = [(path, content + more * path.endswith("METADATA")) for path, content in files_of(name)]
        return zipped(recorded(files, record_path(name)))

    return build


def then(build: Build, change: Callable[[bytes], bytes]) -> Build:
    return lambda name: change(build(name))


def replaced(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    """Return a function that replaces only the first occurrence, in the member's own header or content."""
    return lambda content: content.replace(old, new, 1)


HIDDEN = zip_of(Entry(path="hidden.py", content=b"evil")).partition(b"PK\x01\x02")[0]
FLAT = tar(("PKG-INFO", INFO), ("setup.py", b""), ("core/a.c", b""), info=False)
STORED = zipfile.ZIP_STORED
# case: builder, status, text in the response
TARS: dict[str, tuple[Build, int, str]] = {
    "traversal": (tar(("@/../../x", b"")), 400, "outside its folder"),
    "absolute": (tar(("/etc/x", b"")), 400, "outside its folder"),
    "link out": (tar(link("@/a", "../../etc")), 400, "points outside"),
    "absolute link": (tar(link("@/a", "/etc/passwd")), 400, "points outside"),
    "links in a chain": (tar(link("@/d/a", ".."), link("@/d/b", "a/../.."), ("@/d/b/evil", b"x")), 400, "link"),
    "hard link out": (tar(link("@/a", "../etc/passwd", HARD)), 400, "points outside"),
    "PKG-INFO a link": (tar(link("@/PKG-INFO", "other"), ("@/other", INFO), info=False), 400, "PKG-INFO"),
    "PKG-INFO a link, setup.py": (
        tar(
            ("@/x.egg-info/PKG-INFO", INFO), link("@/PKG-INFO", "x.egg-info/PKG-INFO"), ("@/setup.py", b""), info=False
        ),
        400,
        "must be a regular file",
    ),
    "pipe": (tar(tar_info("@/f", kind=tarfile.FIFOTYPE)), 400, "neither a file"),
    "device": (tar(tar_info("@/f", kind=tarfile.CHRTYPE)), 400, "neither a file"),
    "PKG-INFO twice": (tar(("@/PKG-INFO", INFO)), 400, "twice"),
    "file twice": (tar(("@/a", b"1"), ("@/a", b"2")), 400, "twice"),
    "two folders": (tar(("uu/x", b"")), 400, "one folder"),
    "PKG-INFO twice by ./": (tar(("./@/PKG-INFO", INFO)), 400, "twice"),
    "junk after it": (then(tar(), lambda content: content + b"garbage"), 400, "bytes follow its gzip"),
    "second gzip": (lambda name: tar()(name) + tarred([("../evil", b"x")]), 400, "a second one"),
    "one tar in two gzips": (
        then(tar(), lambda c: gzip.compress(gzip.decompress(c)[:700]) + gzip.compress(gzip.decompress(c)[700:])),
        400,
        "tar.gz",
    ),
    "second tar": (
        then(tar(), lambda c: gzip.compress(gzip.decompress(c) + gzip.decompress(tarred([("../evil", b"")])))),
        400,
        "holds two archives",
    ),
    "cut off": (then(tar(), lambda content: content[:-12]), 400, "cut off"),
    "not compressed": (then(tar(), gzip.decompress), 400, "not compressed"),
    "too many members": (tar(*[(f"@/{i}", b"") for i in range(200_001)]), 400, "more than 200000 members"),
    "unpacks to too much": (lambda name: gzip.compress(bytes(300_000_000), 9), 400, "tar.gz"),
    "sparse": (lambda name: blocks(header(tarfile.GNUTYPE_SPARSE, 0, f"{name}-1.0/a")), 400, "sparse"),
    "two sizes": (
        lambda name: blocks(header(b"x", 13), record("size", "1024"), header(b"0", 0, f"{name}-1.0/a"), b"x"),
        400,
        "two sizes",
    ),
    "zeros after it": (then(tar(), lambda content: content + bytes(512)), 200, "OK"),
    "link inside": (tar(link("@/b", "PKG-INFO")), 200, "OK"),
    "hard link inside": (tar(link("@/b", "@/PKG-INFO", HARD)), 200, "OK"),
    "./ before each path": (
        tar(tar_info(".", kind=DIR), tar_info("./@", kind=DIR), ("./@/PKG-INFO", INFO), info=False),
        200,
        "OK",
    ),
    "folder of another spelling": (tar(("Top.A-1.0/PKG-INFO", INFO), info=False), 200, "OK"),
    "folder without a version": (tar(("top/PKG-INFO", INFO), info=False), 200, "OK"),
    "of git archive": (tar(format=tarfile.PAX_FORMAT, pax_headers={"comment": "0123456789abcdef"}), 200, "OK"),
    "path that is no UTF-8": (
        tar(("@/f\udcfcr", b"x"), errors="surrogateescape", format=tarfile.GNU_FORMAT),
        200,
        "OK",
    ),
    "long path": (tar(("@/" + "d/" * 150 + "f", b"x")), 200, "OK"),
    "path with a line's end": (tar(("@/a\nb\x1b[31m", b"")), 200, "OK"),
    "no PKG-INFO": (tar(("@/setup.py", b""), info=False), 200, "has no file"),
    "flat": (FLAT, 200, "has files outside a folder"),
    "neither": (tar(("@/foo.py", b""), info=False), 400, "no file"),
}
WHEELS: dict[str, tuple[Build, int, str]] = {
    "traversal": (wheel(("../x", b"")), 400, "outside its folder"),
    "backslash": (wheel(("..\\x", b"")), 400, "outside its folder"),
    "drive": (wheel(("C:x", b"")), 400, "outside its folder"),
    "METADATA twice": (wheel(("@/METADATA", b"x")), 400, "twice"),
    "file twice": (wheel(("a", b"1"), ("a", b"2")), 400, "twice"),
    "METADATA a link": (
        lambda name: zip_of(
            *[
                Entry(path=path, content=content, attributes=LINK if path.endswith("METADATA") else 0)
                for path, content in recorded(files_of(name), record_path(name))
            ]
        ),
        400,
        "holds the link",
    ),
    "link out": (entries(Entry(path="l", content=b"../../../etc/passwd", attributes=LINK)), 400, "holds the link"),
    "two dist-infos": (wheel(("zz-1.0.dist-info/METADATA", b"")), 400, "exactly one folder"),
    "traversal in .data": (wheel(("x-1.0.data/data/../../../x", b"")), 400, "outside its folder"),
    "bytes before it": (then(wheel(), lambda content: b"#!/bin/sh\n" + content), 400, "10 bytes lie before it"),
    "bytes after it": (then(wheel(), lambda content: content + b"trailing" * 10), 400, "80 bytes follow its end"),
    "line's ends after it": (then(wheel(), lambda content: content + b"\n\n"), 400, "2 bytes follow its end"),
    "two archives": (lambda name: wheel(("evil.py", b"1"))(name) + wheel()(name), 400, "holds two archives"),
    "another name before the content": (
        then(wheel(("good.py", b"1"), method=STORED), replaced(b"good.py", b"evil.py")),
        400,
        "the member itself 'evil.py'",
    ),
    "wrong CRC": (then(wheel(("a.py", b"print(1)"), method=STORED), replaced(b"print(1)", b"print(2)")), 400, "CRC-32"),
    "hidden member, first": (then(wheel(), lambda content: HIDDEN + content), 400, "lie before it"),
    "hidden member": (entries(Entry(path="a", before=HIDDEN)), 400, "belong to no member"),
    "RECORD empty": (with_record(lambda lines: []), 400, "does not list"),
    "RECORD wrong": (with_record(lambda lines: [f"{lines[0].split(',')[0]},sha256=AAAA,1"]), 400, "RECORD"),
    "RECORD lacks a file": (with_record(lambda lines: lines[1:]), 400, "does not list"),
    "RECORD lists too much": (with_record(lambda lines: ["gone.py,,", *lines]), 400, "which the wheel does not hold"),
    "RECORD with another hash": (
        with_record(lambda lines: [lines[0].replace(record_hash(b"x"), record_hash(b"y")), *lines[1:]]),
        400,
        "the hash",
    ),
    "METADATA by LZMA": (wheel(method=zipfile.ZIP_LZMA), 400, "by the method 14"),
    "METADATA of 11 MiB": (with_metadata(b"a" * 11 * 2**20), 400, "over 10485760 bytes"),
    "METADATA not UTF-8": (with_metadata(b"\xff"), 400, "is not UTF-8"),
    "another spelling": (wheel(("@/./x", b"")), 400, "another spelling"),
    "nothing": (lambda name: b"", 400, "not a readable zip"),
    "an end that lies": (
        lambda name: b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 65535, 65535, 0xFFFFFFFF, 0xFFFFFFFF, 0),
        400,
        "not a readable zip",
    ),
    "too many members": (
        lambda name: zip_of(*[Entry(path=str(number)) for number in range(200_001)]),
        400,
        "more than 200000 members",
    ),
    "paths that differ by case": (wheel(("a.py", b"1"), ("A.py", b"2")), 200, "OK"),
    "path not of this alphabet": (wheel(("\xfcn\xef/\x1b[31m.py", b"1"), ("\u65e5\u672c.txt", b"y")), 200, "OK"),
    "folders": (wheel(("a/", b"")), 200, "OK"),
    "folders in RECORD": (with_record(lambda lines: ["a/,sha256=47DEQpj8,0", *lines]), 200, "OK"),
    ".data and a signature": (
        wheel(("x-1.0.data/scripts/x", b"#!python\n"), ("@/RECORD.jws", b"{}")),
        200,
        "OK",
    ),
    "comment": (entries(comment=b"hello"), 200, "OK"),
    "sizes after the content": (
        lambda name: stream_of(recorded(files_of(name), record_path(name)), zipfile.ZIP_DEFLATED),
        200,
        "OK",
    ),
    "RECORD without hashes": (with_record(lambda lines: [f"{line.split(',')[0]},," for line in lines]), 200, "OK"),
    "RECORD with CRLF": (with_record(lambda lines: [f"{line}\r" for line in lines]), 200, "OK"),
    "entry points that lead out": (
        wheel(("@/entry_points.txt", b"[console_scripts]\n../../x = a:b\n")),
        200,
        "OK",
    ),
    "WHEEL of another tag": (wheel(("a.pyd", b"x")), 200, "OK"),
    "one member of 300 MB": (wheel(("big", bytes(300_000_000))), 200, "OK"),
}
CASES = {
    **{f"tar: {what}": ("{}-1.0.tar.gz", *case) for what, case in TARS.items()},
    **{f"wheel: {what}": ("{}-1.0-py3-none-any.whl", *case) for what, case in WHEELS.items()},
}


@pytest.mark.parametrize("case", CASES)
def test_upload(server, tmp_path, case):
    form, build, status, says = CASES[case]
    name = f"case{list(CASES).index(case)}"
    path = tmp_path / form.format(name)
    path.write_bytes(build(name))
    client = IndexClient.of(server)
    reply = client.upload(path)
    shown = reply.json()["detail"] if reply.status != 200 else reply.body.decode()
    assert (reply.status, says in shown) == (status, True), f"{case}: {reply}"
    assert client.download(name, path.name).status == (200 if status == 200 else 404)


def test_many_members_are_accepted_while_others_are_served(server, tmp_path):
    """A wheel with 20,000 members is accepted."""
    members = recorded(files_of("many", *((f"many/{number}", b"") for number in range(20_000))), record_path("many"))
    path = tmp_path / "many-1.0-py3-none-any.whl"
    path.write_bytes(zipped(members))
    assert IndexClient.of(server).upload(path).status == 200


# --- old files, uploaded and added by hand ------------------------------------------------------------------------

OLD = {
    "nltk-3.6-py3-none-any.whl": ">=3.5.*",
    "nltk-3.6.zip": ">=3.5.*",
    "uwsgi-1.4.9.tar.gz": None,
    "uWSGI-2.0.19.1.tar.gz": None,
}


def old_files(folder: Path) -> dict[str, Path]:
    """Create small versions of old files on PyPI. Returns their paths by name."""
    core_metadata = metadata("nltk", "3.6", ">=3.5.*")
    info = "nltk-3.6.dist-info"
    contents = {
        "nltk-3.6-py3-none-any.whl": zipped(
            recorded([("nltk.py", b""), (f"{info}/METADATA", core_metadata), (f"{info}/WHEEL", b"")], f"{info}/RECORD")
        ),
        "nltk-3.6.zip": zipped([("nltk-3.6/PKG-INFO", core_metadata), ("nltk-3.6/setup.py", b"")]),
        "uwsgi-1.4.9.tar.gz": tarred([("uwsgi-1.4.9/setup.py", b""), ("uwsgi-1.4.9/uwsgi.c", b"")]),
        "uWSGI-2.0.19.1.tar.gz": tarred(
            [("PKG-INFO", metadata("uWSGI", "2.0.19.1", None)), ("setup.py", b""), ("core/uwsgi.c", b"")]
        ),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in contents}


def check_shown(client: IndexClient) -> None:
    for name, requires_python in OLD.items():
        project = "nltk" if name.startswith("nltk") else "uwsgi"
        assert client.files(project)[name].get("requires-python") == requires_python, name
    html = client.get("nltk/", Accept="text/html").body.decode()
    assert html.count('data-requires-python="&gt;=3.5.*"') == 2, html


def test_old_files_are_published_as_they_are(tmp_path):
    with running(tmp_path / "server") as server:
        client = IndexClient.of(server)
        said = {name: client.upload(path) for name, path in old_files(tmp_path).items()}
        assert {reply.status for reply in said.values()} == {200}, said
        check_shown(client)
        assert said["nltk-3.6.zip"].body == b"OK\n"
        assert "no file 'uwsgi-1.4.9/PKG-INFO'" in said["uwsgi-1.4.9.tar.gz"].body.decode()
        assert "files outside a folder" in said["uWSGI-2.0.19.1.tar.gz"].body.decode()


def test_update_index_takes_old_files_and_says_what_they_lack(tmp_path):
    with running(tmp_path / "server") as server:
        storage = server.root / "cache" / "demo" / "storage"
        for name, path in old_files(tmp_path).items():
            folder = storage / ("nltk" if name.startswith("nltk") else "uwsgi")
            folder.mkdir(parents=True, exist_ok=True)
            path.rename(folder / name)
        problems = finished(update_index(server.root))
        assert '"files":4' in problems.replace(" ", ""), problems
        assert "uwsgi/uwsgi-1.4.9.tar.gz is published all the same" in problems
        assert "uwsgi/uWSGI-2.0.19.1.tar.gz is published all the same" in problems
        check_shown(IndexClient.of(server))
        assert '"problems":[]' in finished(update_index(server.root)).replace(" ", ""), "it is said once"


@pytest.mark.parametrize(("text", "status"), [(">=3." + "1." * 490 + "1", 200), (">=1" + ".1" * 4_600_000, 400)])
def test_requires_python_has_a_length(server, tmp_path, text, status):
    """Otherwise a wheel of a few KB could put megabytes into the journal, the index, memory and every page."""
    name = f"long{status}"
    info = f"{name}-1.0.dist-info"
    core_metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Python: {text}\n".encode()
    path = tmp_path / f"{name}-1.0-py3-none-any.whl"
    path.write_bytes(zipped(recorded([(f"{info}/METADATA", core_metadata), (f"{info}/WHEEL", b"")], f"{info}/RECORD")))
    assert path.stat().st_size < 100_000
    reply = IndexClient.of(server).upload(path)
    assert reply.status == status, reply
    if status == 400:
        assert "Requires-Python" in reply.json()["detail"]
        assert "at most 1000 are allowed" in reply.json()["detail"]
