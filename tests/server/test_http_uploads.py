"""The legacy upload API: what is accepted, what is refused and why, and that no partial upload stays.

A second upload of the same bytes under the same name is accepted (200); different bytes are refused (409).
"""

import gzip
import hashlib
import io
import re
import socket
import subprocess
import zipfile
from pathlib import Path

import pytest

from support.distributions.wheels import metadata, sdist, wheel
from support.server.calling import FormField, Reply, basic, call, dial, form, raw, read_to_end, request_head, statuses
from support.server.serving import CONFIG, PYWHARF, Server, clean_environment, running
from support.waiting import wait_for

MAX_FILE_BYTES = 300_000
CONFIG_HERE = (
    CONFIG
    + f"""
[small]
type = "file_system"
read_secret = "small-read"
write_secret = "small-write"
max_file_bytes = {MAX_FILE_BYTES}

[ram]
type = "memory"
read_secret = "ram-read"
write_secret = "ram-write"
"""
)
REPOS = ("demo", "other", "small", "ram")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("uploads"), config=CONFIG_HERE) as server:
        yield server


def post(server: Server, *fields: FormField, path="/repo/demo/simple/", auth="demo:demo-write", headers=None) -> Reply:
    body, content_type = form(*fields)
    return call(
        server.url + path, "POST", auth=auth, headers={"Content-Type": content_type, **(headers or {})}, body=body
    )


def content(path: Path, name: str | None = None) -> FormField:
    return "content", name or path.name, path.read_bytes()


def stored(server: Server, repo="demo") -> set[str]:
    """Return the files below a repo's folder, except those that always exist."""
    folder = server.root / "cache" / repo
    paths = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    return {p for p in paths if p not in {"journal", "lock"}}


def digests(path: Path) -> dict[str, str]:
    raw_content = path.read_bytes()
    return {
        "md5_digest": hashlib.md5(raw_content, usedforsecurity=False).hexdigest(),
        "sha256_digest": hashlib.sha256(raw_content).hexdigest(),
        "blake2_256_digest": hashlib.blake2b(raw_content, digest_size=32).hexdigest(),
    }


@pytest.mark.parametrize("repo", ["demo", "other", "ram"])
@pytest.mark.parametrize("path", ["/repo/{repo}/simple/", "/repo/{repo}/simple", "/simple/", "/simple"])
@pytest.mark.parametrize("build", [wheel, sdist])
def test_an_upload_is_seen_immediately(server, tmp_path, repo, path, build):
    """The form has every field that the tools send, including some that only they define."""
    project = f"seen-{len(path)}-{build.__name__}"
    file = build(tmp_path, project)
    given = {
        ":action": "file_upload",
        "protocol_version": "1",
        "name": project.upper().replace("-", "_"),
        "version": "1.0.0",  # the same version as 1.0
        "filetype": "bdist_wheel" if build is wheel else "sdist",
        "pyversion": "py3",
        "metadata_version": "2.1",
        "summary": "",
        "attestations": "[]",
        "requires_python": ">=3.8",
        **digests(file),
    }
    classifiers = [("classifiers", "Topic :: A"), ("classifiers", "Topic :: B")]
    reply = post(
        server,
        *given.items(),
        *classifiers,
        content(file),
        path=path.format(repo=repo),
        auth=f"{repo}:{repo}-write",
    )
    assert reply.status == 200, reply
    page = call(f"{server.url}/repo/{repo}/simple/{project}/", auth=f"{repo}:{repo}-read")
    assert file.name.encode() in page.body, page
    got = call(f"{server.url}/repo/{repo}/simple/{project}/{file.name}", auth=f"{repo}:{repo}-read")
    assert got.body == file.read_bytes()


def test_the_form_may_come_after_the_file_and_digests_in_upper_case(server, tmp_path):
    file = wheel(tmp_path, "form-after")
    given = {key: value.upper() for key, value in digests(file).items()}
    reply = post(server, content(file), (":action", "file_upload"), *given.items())
    assert reply.status == 200, reply


def test_an_upload_with_the_content_alone_is_taken(server, tmp_path):
    assert post(server, content(wheel(tmp_path, "content-alone"))).status == 200


def wheel_with(folder: Path, name: str, members: dict[str, bytes]) -> Path:
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, body in members.items():
            archive.writestr(zipfile.ZipInfo(member), body)
    return path


def dist_info(name: str, **changes: bytes | None) -> dict[str, bytes]:
    folder = f"{name}-1.0.dist-info"
    members = {"METADATA": metadata(name, "1.0"), "WHEEL": b"Wheel-Version: 1.0\n"} | changes
    files = {f"{folder}/{key}": value for key, value in members.items() if value is not None}
    return files | {f"{folder}/RECORD": "".join(f"{path},,\n" for path in files).encode()}


def described(folder: Path, name: str, core_metadata: bytes) -> Path:
    return wheel_with(folder, name, dist_info(name, METADATA=core_metadata))


def named(path: Path, name: str) -> FormField:
    """Return the file under another name, with the suffix of its own kind."""
    return content(path, name + ("-1.0-py3-none-any.whl" if path.suffix == ".whl" else "-1.0.tar.gz"))


def cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def text(path: Path) -> Path:
    path.write_text("this is no archive")
    return path


def bomb(folder: Path, name: str) -> Path:
    path = folder / f"{name}-1.0.tar.gz"
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=9) as zipped:
        for _ in range(100):
            zipped.write(bytes(1024 * 1024))
    path.write_bytes(packed.getvalue())
    return path


# The fault, the form (built from a folder and the project's name), the status, a pattern of the error message
REFUSED = [
    ("no field at all", lambda t, n: [], 400, "content"),
    ("no file", lambda t, n: [(":action", "file_upload"), ("name", n)], 400, "'content'"),
    ("file under another name", lambda t, n: [("file", "x.whl", b"x")], 400, "'content'"),
    ("content without a file name", lambda t, n: [("content", b"x")], 400, "not a file name|neither a wheel"),
    ("two files", lambda t, n: [content(wheel(t, n)), content(sdist(t, n))], 400, "two fields 'content'"),
    ("wrong sha256", lambda t, n: [("sha256_digest", "0" * 64), content(wheel(t, n))], 400, "sha256_digest"),
    ("wrong sha256 after the file", lambda t, n: [content(wheel(t, n)), ("sha256_digest", "0" * 64)], 400, "sha256_"),
    ("wrong md5", lambda t, n: [("md5_digest", "0" * 32), content(wheel(t, n))], 400, "md5_digest"),
    ("wrong blake2", lambda t, n: [("blake2_256_digest", "0" * 64), content(wheel(t, n))], 400, "blake2_256_digest"),
    ("a digest that is none", lambda t, n: [("sha256_digest", "x"), content(wheel(t, n))], 400, "sha256_digest is 'x'"),
    ("wrong name", lambda t, n: [("name", "other"), content(wheel(t, n))], 400, "name is 'other'"),
    ("wrong name after the file", lambda t, n: [content(wheel(t, n)), ("name", "other")], 400, "name is 'other'"),
    ("impossible name", lambda t, n: [("name", "-/-"), content(wheel(t, n))], 400, "name is '-/-'"),
    ("wrong version", lambda t, n: [("version", "2"), content(wheel(t, n))], 400, "version is '2'"),
    ("impossible version", lambda t, n: [("version", "one"), content(wheel(t, n))], 400, "version is 'one'"),
    ("wrong filetype", lambda t, n: [("filetype", "sdist"), content(wheel(t, n))], 400, "bdist_wheel"),
    ("filetype of old", lambda t, n: [("filetype", "bdist_egg"), content(wheel(t, n))], 400, "bdist_egg"),
    ("wrong action", lambda t, n: [(":action", "submit"), content(wheel(t, n))], 400, ":action is 'submit'"),
    ("wrong protocol", lambda t, n: [("protocol_version", "2"), content(wheel(t, n))], 400, "protocol_version is '2'"),
    ("path in the file name", lambda t, n: [named(wheel(t, n), f"../{n}")], 400, "file name"),
    ("absolute file name", lambda t, n: [named(wheel(t, n), f"/srv/{n}")], 400, "file name"),
    ("backslash in the file name", lambda t, n: [named(wheel(t, n), f"..\\\\{n}")], 400, "file name"),
    ("hidden file name", lambda t, n: [named(wheel(t, n), f".{n}")], 400, "file name|wheel"),
    (
        "control character",
        lambda t, n: [content(wheel(t, n), f"{n}-1.0-py3-none-any\x01.whl")],
        400,
        "file name|complete",
    ),
    ("file name not ASCII", lambda t, n: [named(wheel(t, n), f"{n}é")], 400, "file name"),
    ("long file name", lambda t, n: [named(wheel(t, n), f"{n * 30}")], 400, "over 240"),
    ("empty file name", lambda t, n: [content(wheel(t, n), " ")], 400, "file name|neither"),
    ("a dot as file name", lambda t, n: [content(wheel(t, n), "..")], 400, "neither a wheel"),
    ("a sidecar's name", lambda t, n: [content(wheel(t, n), f"{n}-1.0-py3-none-any.whl.meta")], 400, "neither a wheel"),
    ("another kind", lambda t, n: [content(wheel(t, n), f"{n}-1.0.tar.bz2")], 400, "neither a wheel"),
    ("an egg", lambda t, n: [content(wheel(t, n), f"{n}-1.0-py3.egg")], 400, "neither a wheel"),
    ("a wheel without tags", lambda t, n: [content(wheel(t, n), f"{n}-1.0.whl")], 400, "not a valid wheel"),
    (
        "an impossible version",
        lambda t, n: [content(wheel(t, n), f"{n}-x.y-py3-none-any.whl")],
        400,
        "not a valid wheel",
    ),
    ("an empty file", lambda t, n: [("content", f"{n}-1.0-py3-none-any.whl", b"")], 400, "not a readable zip"),
    ("no zip", lambda t, n: [content(text(wheel(t, n)))], 400, "not a readable zip"),
    ("half a zip", lambda t, n: [content(cut(wheel(t, n)))], 400, "not a readable zip"),
    ("no tar", lambda t, n: [content(text(sdist(t, n)))], 400, "not a readable tar"),
    ("half a tar", lambda t, n: [content(cut(sdist(t, n)))], 400, "not a readable tar"),
    ("a bomb", lambda t, n: [content(bomb(t, n))], 400, "unpacks to more|not a readable tar|PKG-INFO"),
    ("a wheel called sdist", lambda t, n: [content(wheel(t, n), f"{n}-1.0.tar.gz")], 400, "not a readable tar"),
    (
        "an sdist called wheel",
        lambda t, n: [content(sdist(t, n), f"{n}-1.0-py3-none-any.whl")],
        400,
        "not a readable zip",
    ),
    ("another project's wheel", lambda t, n: [named(wheel(t, "strange"), n)], 400, "dist-info"),
    ("another project's sdist", lambda t, n: [named(sdist(t, "strange"), n)], 400, "'strange'"),
    ("another version", lambda t, n: [named(wheel(t, n, "2.0"), n)], 400, "2[.]0"),
    (
        "metadata of another project",
        lambda t, n: [content(described(t, n, metadata("strange", "1.0")))],
        400,
        "'strange'",
    ),
    ("metadata of another version", lambda t, n: [content(described(t, n, metadata(n, "9")))], 400, "'?9'?"),
    (
        "metadata without a name",
        lambda t, n: [content(described(t, n, b"Version: 1.0\n\n"))],
        400,
        "names the project ''",
    ),
    ("metadata that is noise", lambda t, n: [content(described(t, n, bytes(range(256))))], 400, "metadata"),
    (
        "impossible Requires-Python",
        lambda t, n: [content(wheel(t, n, requires_python="three"))],
        400,
        "Requires-Python",
    ),
    (
        "no METADATA",
        lambda t, n: [content(wheel_with(t, n, dist_info(n, METADATA=None)))],
        400,
        "METADATA'? is missing",
    ),
    ("no dist-info", lambda t, n: [content(wheel_with(t, n, {f"{n}.py": b""}))], 400, "dist-info"),
    ("a member outside", lambda t, n: [content(wheel_with(t, n, dist_info(n) | {"../evil.py": b""}))], 400, "outside"),
    ("an absolute member", lambda t, n: [content(sdist(t, n, members={"/etc/evil": b""}))], 400, "outside"),
    ("an sdist in two folders", lambda t, n: [content(sdist(t, n, members={"other/file": b""}))], 400, "one folder"),
    (
        "a huge field",
        lambda t, n: [("description", b"x" * (17 * 1024 * 1024)), content(wheel(t, n))],
        413,
        "over 16777216",
    ),
    (
        "many huge fields",
        lambda t, n: [*[("description", b"x" * 1024 * 1024)] * 17, content(wheel(t, n))],
        413,
        "over 16777216",
    ),
    ("too many fields", lambda t, n: [*[("classifiers", "x")] * 2001, content(wheel(t, n))], 413, "more than 2000"),
]


def test_every_case_has_a_name_of_its_own():
    assert len({case[0] for case in REFUSED}) == len(REFUSED)


@pytest.mark.parametrize("number", range(len(REFUSED)), ids=[case[0] for case in REFUSED])
def test_what_does_not_fit_is_refused_with_the_reason_and_leaves_nothing(server, tmp_path, number):
    _, build, status, says = REFUSED[number]
    name = f"refused{number}"
    before = stored(server)
    reply = post(server, *build(tmp_path, name))
    assert reply.status == status, reply
    assert re.search(says, reply.json()["detail"]), f"{says!r} is not in the answer: {reply}"
    # twine and uv show only the reason phrase
    shown = "".join(c if c.isascii() and c.isprintable() else " " for c in reply.json()["detail"][:200])
    assert reply.reason == shown.strip()
    assert {p for p in stored(server) - before if name in p or "staging" in p or p.endswith(".tmp")} == set()
    assert call(f"{server.url}/repo/demo/simple/{name}/", auth="demo:demo-read").status == 404
    # ... and the name is still free
    assert post(server, content(wheel(tmp_path, name))).status == 200


BOUNDARY = "0123456789abcdef"
MULTIPART = f"Content-Type: multipart/form-data; boundary={BOUNDARY}"
END = f"\r\n--{BOUNDARY}--\r\n".encode()


def part(*headers: str, body: bytes = b"x") -> bytes:
    """Return a form of one part with these headers."""
    return "\r\n".join([f"--{BOUNDARY}", *headers, "", ""]).encode("latin-1") + body + END


FILE = 'Content-Disposition: form-data; name="content"; filename="raw-1.0-py3-none-any.whl"'
ELSEWHERE = "Content-Disposition: form-data; name=\"content\"; filename*=utf-8''%2e%2e%2fevil.whl"
INNER = b"--inner\r\n\r\nx\r\n--inner--"
# The fault, the headers besides Host, Authorization and Content-Length, the body
NO_FORMS = [
    ("no Content-Type", [], b"x"),
    ("another Content-Type", ["Content-Type: application/json"], b"{}"),
    ("urlencoded", ["Content-Type: application/x-www-form-urlencoded"], b"a=b"),
    ("no boundary", ["Content-Type: multipart/form-data"], b"x"),
    ("empty boundary", ['Content-Type: multipart/form-data; boundary=""'], b"x"),
    ("long boundary", [f"Content-Type: multipart/form-data; boundary={'x' * 200}"], b"x"),
    ("multipart/mixed", [f"Content-Type: multipart/mixed; boundary={BOUNDARY}"], b"x"),
    ("Content-Type of noise", ["Content-Type: ;;;=\x80"], b"x"),
    ("empty body", [MULTIPART], b""),
    ("no part", [MULTIPART], f"--{BOUNDARY}--\r\n".encode()),
    ("another boundary", [MULTIPART], b"--other\r\n\r\nx\r\n--other--\r\n"),
    ("the end missing", [MULTIPART], part(FILE).removesuffix(END)),
    ("headers without an end", [MULTIPART], part(FILE).partition(b"\r\n\r\n")[0]),
    ("a header without a colon", [MULTIPART], part("nonsense")),
    ("no disposition", [MULTIPART], part("X: y")),
    ("no name", [MULTIPART], part("Content-Disposition: form-data")),
    ("a broken disposition", [MULTIPART], part('Content-Disposition: form-data; name="content')),
    ("a path in a coded file name", [MULTIPART], part(ELSEWHERE)),
    ("base64 for an encoding", [MULTIPART], part(FILE, "Content-Transfer-Encoding: base64", body=b"eA==")),
    ("a part packed with gzip", [MULTIPART], part(FILE, "Content-Encoding: gzip", body=gzip.compress(b"x"))),
    ("a part within a part", [MULTIPART], part("Content-Type: multipart/mixed; boundary=inner", body=INNER)),
    ("a part's header too long", [MULTIPART], part(f"X: {'y' * 20_000}")),
    ("too many headers of a part", [MULTIPART], part(*["X: y"] * 5000)),
    ("noise", [MULTIPART], bytes(range(256)) * 200),
    ("gzip that is none", [MULTIPART, "Content-Encoding: gzip"], b"this is not gzip"),
    ("an unknown Content-Encoding", [MULTIPART, "Content-Encoding: rot13"], b"x"),
]


def send(server: Server, headers, body, *, length=None, leave=False) -> bytes:
    given = [
        "Host: x",
        f"Authorization: {basic('demo:demo-write')}",
        "Connection: close",
        f"Content-Length: {len(body) if length is None else length}",
        *headers,
    ]
    return raw(server.url, request_head("POST", "/repo/demo/simple/", given), body, leave=leave)


@pytest.mark.parametrize("number", range(len(NO_FORMS)), ids=[case[0] for case in NO_FORMS])
def test_a_body_that_is_no_form_is_refused_with_the_reason(server, number):
    _, headers, body = NO_FORMS[number]
    before = stored(server)
    received = send(server, headers, body)
    assert statuses(received) == [400], received[:1000]
    assert b'"detail":"' in received, received[:1000]
    assert {p for p in stored(server) - before if "staging" in p or "raw" in p} == set()


@pytest.mark.parametrize("how", ["leaves", "leaves in the form", "says that it ends", "resets"])
def test_a_client_that_leaves_in_the_middle_leaves_nothing(server, tmp_path, how):
    file = wheel(tmp_path, "left", payload=b"x" * 4_000_000)
    body, content_type = form((":action", "file_upload"), content(file))
    half = body[: 40 if how == "leaves in the form" else len(body) // 2]
    head = request_head(
        "POST",
        "/repo/demo/simple/",
        [
            "Host: x",
            f"Authorization: {basic('demo:demo-write')}",
            f"Content-Type: {content_type}",
            f"Content-Length: {len(body)}",
        ],
    )
    with dial(server.url) as connection:
        connection.sendall(head + half)
        if how != "leaves in the form":
            wait_for(lambda: any("staging" in p for p in stored(server)), "the upload to begin")
        if how == "says that it ends":
            connection.shutdown(socket.SHUT_WR)
            assert 200 not in statuses(read_to_end(connection))
        if how == "resets":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    wait_for(lambda: not any("staging" in p or "left" in p for p in stored(server)), "the rest to go")
    assert call(f"{server.url}/repo/demo/simple/left/", auth="demo:demo-read").status == 404


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


def test_a_chunked_upload(server, tmp_path):
    """A client that does not know the length sends chunks."""
    file = wheel(tmp_path, "chunked")
    body, content_type = form((":action", "file_upload"), content(file))
    pieces = [body[at : at + 37] for at in range(0, len(body), 37)]
    head = request_head(
        "POST",
        "/repo/demo/simple/",
        [
            "Host: x",
            f"Authorization: {basic('demo:demo-write')}",
            f"Content-Type: {content_type}",
            "Transfer-Encoding: chunked",
            "Connection: close",
        ],
    )
    received = raw(server.url, head, chunked(*pieces))
    assert statuses(received) == [200], received
    # Sent in one piece: the framework reports no fault in a later chunk, so the limit on pauses would end the upload.
    broken = raw(server.url, head + chunked(*pieces[:3]).removesuffix(b"0\r\n\r\n") + b"zz\r\n")
    assert statuses(broken) == [400], broken


def test_expect_100_continue(server, tmp_path):
    """curl sends this header for a large body."""
    file = wheel(tmp_path, "expecting")
    body, content_type = form((":action", "file_upload"), content(file))
    head = [
        "Host: x",
        f"Authorization: {basic('demo:demo-write')}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        "Expect: 100-continue",
        "Connection: close",
    ]
    with dial(server.url) as connection:
        connection.sendall(request_head("POST", "/repo/demo/simple/", head))
        assert statuses(connection.recv(100)) == [100]
        connection.sendall(body)
        assert statuses(read_to_end(connection)) == [200]


@pytest.mark.parametrize("over", [False, True])
def test_a_file_over_the_limit(server, tmp_path, over):
    """The limit is exact to the byte. Nothing of a refused file is kept."""
    name = f"limit-{over}".lower()
    size = wheel(tmp_path, name, payload=b"").stat().st_size
    file = wheel(tmp_path, name, payload=b"x" * (MAX_FILE_BYTES - size + over))
    size += file.stat().st_size - size
    # RECORD and the sizes in the archive grow with the payload
    while file.stat().st_size != MAX_FILE_BYTES + over:
        missing = MAX_FILE_BYTES + over - file.stat().st_size
        with zipfile.ZipFile(file) as archive:
            payload = archive.read(f"{name.replace('-', '_')}.py")
        file = wheel(tmp_path, name, payload=payload + b"x" * missing if missing > 0 else payload[:missing])
    reply = post(server, content(file), path="/repo/small/simple/", auth="small:small-write")
    assert reply.status == (413 if over else 200), reply
    if over:
        assert f"{MAX_FILE_BYTES} bytes (max_file_bytes)" in reply.reason
        assert not any(name in p or "staging" in p for p in stored(server, "small"))


def test_a_file_far_over_the_limit_is_refused_before_it_is_all_sent(server):
    """The response arrives while the client is still sending. twine shows as much of it as it reads."""
    head = request_head(
        "POST",
        "/repo/small/simple/",
        [
            "Host: x",
            f"Authorization: {basic('small:small-write')}",
            MULTIPART,
            "Content-Length: 1000000000000",
        ],
    )
    with dial(server.url) as connection:
        connection.sendall(head + part(FILE, body=bytes(MAX_FILE_BYTES + 1_000_000)))
        assert statuses(connection.recv(65536)) == [413]
    wait_for(lambda: not any("staging" in p for p in stored(server, "small")), "the staged file to go")


@pytest.mark.parametrize("repo", ["demo", "ram"])
@pytest.mark.parametrize("same", [True, False])
def test_a_second_upload_of_a_name(server, tmp_path, repo, same):
    """The same bytes are a success, as in the retry of an upload whose response was lost. The stored file stays."""
    project = f"twice-{same}".lower()
    first = wheel(tmp_path, project)
    assert post(server, content(first), path=f"/repo/{repo}/simple/", auth=f"{repo}:{repo}-write").status == 200
    original = first.read_bytes()
    before = stored(server) if repo == "demo" else set()
    again = first if same else wheel(tmp_path, project, payload=b"OTHER = 2\n")
    for _ in range(2):
        reply = post(server, content(again), path=f"/repo/{repo}/simple/", auth=f"{repo}:{repo}-write")
        assert reply.status == (200 if same else 409), reply
        if not same:
            assert reply.reason.startswith("File already exists"), reply
            assert reply.json()["detail"].startswith("File already exists"), reply
    if repo == "demo":
        assert {p for p in stored(server) - before if project in p or "staging" in p} == set()
    got = call(f"{server.url}/repo/{repo}/simple/{project}/{first.name}", auth=f"{repo}:{repo}-read")
    assert got.body == original


def test_other_spellings_of_a_published_file_are_files_of_the_same_project(server, tmp_path):
    assert post(server, content(wheel(tmp_path, "Spelled.Name"))).status == 200
    assert post(server, content(sdist(tmp_path, "spelled_name"))).status == 200
    page = call(f"{server.url}/repo/demo/simple/spelled-name/", auth="demo:demo-read")
    assert page.body.count(b"<a ") == 2, page


@pytest.mark.parametrize(
    ("status", "refused"), [("archived", True), ("quarantined", True), ("deprecated", False), ("active", False)]
)
def test_a_projects_status_decides_on_uploads(tmp_path, status, refused):
    """A closed project reports its status (PEP 792) and accepts no uploads."""
    config = CONFIG
    folder = tmp_path / "root" / "cache" / "demo" / "storage" / "closed"
    with running(tmp_path, config=config) as server:
        assert post(server, content(wheel(tmp_path, "closed"))).status == 200
        (folder / ".status.toml").write_text(f'status = "{status}"\nreason = "we moved on"\n')
        update_index(server)
        wait_for(lambda: status.encode() in page_json(server, "closed") or status == "active", "the new status")
        second = wheel(tmp_path, "closed", "2.0")
        reply = post(server, content(second))
        assert reply.status == (403 if refused else 200), reply
        if refused:
            assert status in reply.reason, reply
        assert any(Path(p).name == second.name for p in stored(server)) is not refused
        downloads = call(f"{server.url}/repo/demo/simple/closed/closed-1.0-py3-none-any.whl", auth="demo:demo-read")
        assert downloads.status == (404 if status == "quarantined" else 200), downloads


def page_json(server: Server, project: str) -> bytes:
    accept = {"Accept": "application/vnd.pypi.simple.v1+json"}
    return call(f"{server.url}/repo/demo/simple/{project}/", auth="demo:demo-read", headers=accept).body


def update_index(server: Server) -> None:
    subprocess.run(
        [PYWHARF, "update_index", "file_system", "demo", f"--root={server.root}"],
        check=True,
        capture_output=True,
        env=clean_environment(),
        timeout=60,
    )
