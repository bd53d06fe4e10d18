"""Tests of downloads, whole, in ranges and revalidated: of small, large (sent by the kernel) and streamed files."""

import hashlib
import http.client
import random
import zipfile

import pytest

from support.distributions.wheels import sdist, wheel
from support.server.calling import Reply, ask, basic, call, connect, form, raw, request_head
from support.server.serving import CONFIG, running

CONFIG_HERE = (
    CONFIG
    + """
[ram]
type = "memory"
read_secret = "demo-read"
write_secret = "demo-write"
"""
)
KINDS = ("small", "large", "streamed")


class Published:
    """A file published on the server, with its content."""

    def __init__(self, server, repo, path):
        self.content = path.read_bytes()
        self.size = len(self.content)
        self.etag = f'"{hashlib.sha256(self.content).hexdigest()}"'
        self.auth = f"{repo}:demo-read"
        project = path.name.split("-")[0]
        self.url = f"{server.url}/repo/{repo}/simple/{project}/{path.name}"
        body, content_type = form((":action", "file_upload"), ("content", path.name, self.content))
        headers = {"Content-Type": content_type}
        reply = call(f"{server.url}/repo/{repo}/simple/", "POST", auth=f"{repo}:demo-write", headers=headers, body=body)
        assert reply.status == 200, reply
        if path.suffix == ".whl":
            with zipfile.ZipFile(path) as archive:
                member = next(name for name in archive.namelist() if name.endswith("/METADATA"))
                self.metadata = archive.read(member)

    def get(self, headers=None, method="GET", suffix="", auth=None) -> Reply:
        return call(self.url + suffix, method, auth=auth or self.auth, headers=headers)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    noise = random.Random(1).randbytes(1_500_000)
    with running(folder, config=CONFIG_HERE) as server:
        yield {
            "small": Published(server, "demo", wheel(folder, "small")),
            "large": Published(server, "demo", wheel(folder, "large", payload=noise)),
            "streamed": Published(server, "ram", wheel(folder, "streamed", payload=noise)),
            "sdist": Published(server, "demo", sdist(folder, "source")),
        }


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_comes_as_it_is(files, kind):
    file = files[kind]
    reply = file.get()
    assert reply.status == 200
    assert reply.body == file.content
    expected = {
        "Content-Type": "application/octet-stream",
        "Content-Length": str(file.size),
        "ETag": file.etag,
        "Accept-Ranges": "bytes",
        "X-Content-Type-Options": "nosniff",
        "Content-Encoding": None,
    }
    assert {name: reply.header(name) for name in expected} == expected
    assert "private" in (reply.header("Cache-Control") or "")
    assert {"authorization", "cookie", "accept"} <= set((reply.header("Vary") or "").lower().split(", "))


# Range, first byte, last byte (negative: from the end); None: everything
RANGES = [
    ("bytes=0-0", 0, 0),
    ("bytes=0-99", 0, 99),
    ("bytes=100-", 100, -1),
    ("bytes=-100", -100, -1),
    ("bytes=0-99999999999", 0, -1),
    ("bytes=-99999999999", 0, -1),
    ("bytes= 5 - 9 ", 5, 9),
    ("BYTES=1-2", 1, 2),
    ("bytes=7-7", 7, 7),
    ("items=0-5", None, None),
    ("bytes=0-1,5-6", None, None),
]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", RANGES, ids=[case[0] for case in RANGES])
def test_a_range_of_a_file(files, kind, case, method):
    file, (header, first, last) = files[kind], case
    reply = file.get({"Range": header}, method)
    if first is None or method == "HEAD":  # ranges are defined for GET alone (RFC 9110, section 14.2)
        assert (reply.status, reply.header("Content-Range")) == (200, None), reply
        expected = file.content
    else:
        first, last = first % file.size if first < 0 else first, last % file.size if last < 0 else last
        assert (reply.status, reply.header("Content-Range")) == (206, f"bytes {first}-{last}/{file.size}"), reply
        expected = file.content[first : last + 1]
    assert reply.header("Content-Length") == str(len(expected))
    assert reply.header("ETag") == file.etag
    assert reply.body == (b"" if method == "HEAD" else expected)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "header",
    [
        "bytes=99999999-",
        "bytes=5-2",
        "bytes=-0",
        "bytes=",
        "bytes",
        "bytes=a-b",
        "bytes=-",
        "bytes=0x1-5",
        "bytes=1--2",
        "nonsense",
        "",
        "bytes=0-" + "9" * 500,
        "bytes=\u0661-\u0662",  # digits, but not valid ones in HTTP
    ],
)
def test_a_range_that_cannot_be_met_says_how_to_write_one(files, kind, header, method):
    file = files[kind]
    reply = file.get({"Range": header.encode().decode("latin-1")}, method)
    if method == "HEAD":
        assert (reply.status, reply.header("Content-Length")) == (200, str(file.size)), reply
    else:
        assert (reply.status, reply.header("Content-Range")) == (416, f"bytes */{file.size}"), reply
        detail = reply.json()["detail"]
        assert "bytes=FIRST-LAST" in detail or f"{file.size} bytes" in detail, reply
    assert file.get().body == file.content


@pytest.mark.parametrize("kind", KINDS)
def test_if_range_protects_from_mixing_two_files(files, kind):
    file = files[kind]
    table = [
        (file.etag, 206),
        (f" {file.etag} ", 206),
        (f"W/{file.etag}", 200),  # RFC 9110 requires the strong comparison
        ('"another"', 200),
        ("Sat, 29 Oct 1994 19:43:31 GMT", 200),
        ("", 200),
    ]
    for condition, status in table:
        reply = file.get({"Range": "bytes=10-19", "If-Range": condition})
        assert reply.status == status, f"If-Range: {condition}: {reply.status} {reply.headers}"
        assert reply.body == (file.content[10:20] if status == 206 else file.content)
    # An unsatisfiable range of another file is no error: the whole current file is returned.
    assert file.get({"Range": "bytes=99999999-", "If-Range": '"another"'}).status == 200


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_file_is_revalidated_by_its_tag(files, kind, method):
    file = files[kind]
    for value, status in [(file.etag, 304), (f'"x", W/{file.etag}', 304), ("*", 304), ('"x"', 200)]:
        reply = file.get({"If-None-Match": value, "Range": "bytes=0-"} if status == 304 else {"If-None-Match": value})
        assert reply.status == status, f"If-None-Match: {value}: {reply.status}"
        assert reply.header("ETag") == file.etag
        if status == 304 or method == "HEAD":
            assert len(reply.body) in {0, file.size}
    assert file.get({"If-None-Match": file.etag}, method).body == b""


@pytest.mark.parametrize("kind", [*KINDS, "sdist"])
def test_head_returns_the_size_and_leaves_the_connection_in_step(files, kind):
    file = files[kind]
    connection = connect(file.url)
    try:
        head = ask(connection, file.url, "HEAD", auth=file.auth)
        assert (head.status, head.body, head.header("Content-Length")) == (200, b"", str(file.size))
        ranged = ask(connection, file.url, auth=file.auth, headers={"Range": "bytes=-3"})
        assert ranged.body == file.content[-3:]
        assert ask(connection, file.url, auth=file.auth).body == file.content
    finally:
        connection.close()


@pytest.mark.parametrize("kind", KINDS)
def test_many_ranges_put_together_are_the_file(files, kind):
    """pip's lazy wheels and download managers send such requests."""
    file = files[kind]
    connection = connect(file.url)
    step = file.size // 7 + 1
    try:
        pieces = [
            ask(connection, file.url, auth=file.auth, headers={"Range": f"bytes={at}-{at + step - 1}"}).body
            for at in range(0, file.size, step)
        ]
    finally:
        connection.close()
    assert b"".join(pieces) == file.content


def test_http_1_0_gets_the_file_and_the_end_of_the_connection(files):
    file = files["large"]
    target = "/" + file.url.split("/", 3)[3]
    authorization = f"Authorization: {basic(file.auth)}"
    received = raw(file.url, f"GET {target} HTTP/1.0\r\n{authorization}\r\n\r\n".encode())
    assert received.partition(b"\r\n\r\n")[2] == file.content


def test_a_client_that_leaves_in_the_middle_disturbs_nobody(files):
    file = files["large"]
    for _ in range(10):
        connection = connect(file.url)
        connection.request("GET", "/" + file.url.split("/", 3)[3], headers={"Authorization": basic(file.auth)})
        connection.getresponse().read(10)
        connection.close()
    assert file.get().body == file.content


@pytest.mark.parametrize("kind", KINDS)
def test_core_metadata_of_a_wheel(files, kind):
    file = files[kind]
    reply = file.get(suffix=".metadata")
    assert (reply.status, reply.body) == (200, file.metadata), reply
    digest = hashlib.sha256(file.metadata).hexdigest()
    assert reply.header("ETag") == f'"{digest}"'
    assert reply.header("X-Content-Type-Options") == "nosniff"
    assert "private" in (reply.header("Cache-Control") or "")
    assert file.get({"If-None-Match": f'"{digest}"'}, suffix=".metadata").status == 304
    head = file.get(method="HEAD", suffix=".metadata")
    assert (head.status, head.body, head.header("Content-Length")) == (200, b"", str(len(file.metadata)))
    page = call(file.url.rpartition("/")[0] + "/", auth=file.auth)
    assert f'data-core-metadata="sha256={digest}"'.encode() in page.body, page


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [
        ("sdist", ".metadata"),
        ("small", ".metadata.metadata"),
        ("small", ".meta"),
        ("small", ".asc"),
        ("small", "x"),
        ("small", "/"),
        ("small", "/.."),
        ("small", "%00"),
        ("streamed", ".meta"),
    ],
)
def test_what_is_no_file_is_not_found(files, kind, suffix):
    """This includes the storage's sidecars, which nobody may download."""
    reply = files[kind].get(suffix=suffix)
    assert reply.status == 404, reply
    assert reply.header("Content-Type") == "application/problem+json"
    assert reply.json()["detail"]


@pytest.mark.parametrize(
    "path",
    [
        "/simple/small/..%2f..%2fjournal",
        "/simple/small/..%2fsmall%2fsmall-1.0-py3-none-any.whl",
        "/simple/small/%2e%2e",
        "/simple/small/.status.toml",
        "/simple/small/..%5c..%5cjournal",
        "/simple/small/%2fetc%2fpasswd",
        "/simple/..%2f..%2fstaging/x",
        "/simple/../../config.toml",
        "/repo/demo/simple/../../../config.toml",
        "/repo/..%2f..%2f/simple/small/small-1.0-py3-none-any.whl",
    ],
)
def test_no_path_leads_out_of_the_projects_folder(files, path):
    reply = call("/".join(files["small"].url.split("/")[:3]) + path, auth="demo:demo-read")
    assert reply.status in {400, 401, 404}, reply
    assert b"demo-read" not in reply.body
    assert b"root:" not in reply.body


def test_a_project_of_one_repo_is_not_in_another(files):
    file = files["small"]
    other = call(file.url.replace("/repo/demo/", "/repo/other/"), auth="other:other-read")
    assert other.status == 404, other
    streamed = call(file.url.replace("/repo/demo/", "/repo/ram/"), auth="ram:demo-read")
    assert streamed.status == 404, streamed


def test_a_file_that_vanished_from_the_storage_is_said_to_be_gone(files, tmp_path):
    with running(tmp_path) as server:
        file = Published(server, "demo", wheel(tmp_path, "gone"))
        stored = server.root / "cache" / "demo" / "storage" / "gone" / "gone-1.0-py3-none-any.whl"
        stored.write_bytes(file.content[:-1])
        reply = file.get()
        assert reply.status == 503, reply
        assert "update_index" in reply.json()["detail"]
        stored.unlink()
        reply = file.get()
        assert reply.status == 404, reply
        assert "no longer" in reply.json()["detail"]


def test_a_slow_reader_holds_nobody_up(files):
    """While ten clients read nothing, another one is served."""
    file = files["large"]
    idle: list[http.client.HTTPConnection] = []
    try:
        for _ in range(10):
            connection = connect(file.url)
            idle.append(connection)
            connection.connect()
            connection.sock.sendall(
                request_head("GET", "/" + file.url.split("/", 3)[3], ["Host: x", f"Authorization: {basic(file.auth)}"])
            )
        assert file.get().body == file.content
    finally:
        for connection in idle:
            connection.close()
