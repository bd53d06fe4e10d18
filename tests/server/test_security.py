"""Attacks on a real server by a stranger, by a client with a secret of its own and by a hostile index."""

import base64
import fcntl
import gzip
import json
import re
import tarfile
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import psutil
import pytest

from pywharf.core.archive import MAX_MEMBERS
from support.distributions.wheels import wheel
from support.server.calling import basic, call, form, raw, request_head, statuses
from support.server.serving import CONFIG, Server, running
from support.server.upstream import JSON, Answer, upstream
from support.waiting import stretched, wait_for

OPEN = """
[open]
type = "file_system"
read_secret = "open-read"
write_secret = "open-write"
anonymous_read = true
"""
URLENCODED = "application/x-www-form-urlencoded"
HELD_UP_S = 2.0
"""Seconds: far more than a busy machine needs for a trivial request, far less than these attacks once took."""


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("security"), config=CONFIG + OPEN) as server:
        yield server


@contextmanager
def others_are_served(server: Server) -> Iterator[None]:
    """Assert that no small request takes long within the context."""
    longest, stop = 0.0, threading.Event()

    def ask() -> None:
        nonlocal longest
        while not stop.is_set():
            before = time.monotonic()
            assert call(f"{server.url}/healthz", timeout_s=120).status == 200
            longest = max(longest, time.monotonic() - before)
            stop.wait(0.01)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert longest < stretched(HELD_UP_S), f"a request that does nothing took {longest:.1f} s"


# Forms: anyone may send one to /login

PUNYCODE = b"x-" + b"a" * 200_000  # each character is inserted before the others
CODECS = ["punycode", "idna", "unicode_escape", "utf-7", "utf-16", "hex", "rot99", "x" * 3000]


@pytest.mark.parametrize("codec", CODECS)
def test_a_client_chooses_no_codec(server, codec):
    """punycode once took 8 seconds for 400 kB, and four times as long for twice as much."""
    headers = {"Content-Type": f"{URLENCODED}; charset={codec}"}
    with others_are_served(server):
        reply = call(f"{server.url}/login", "POST", headers=headers, body=PUNYCODE)
    assert reply.status == 400, reply
    assert "UTF-8" in reply.json()["detail"]


@pytest.mark.parametrize("path", ["/login", "/repo/demo/simple/"])
def test_a_forms_parts_choose_no_codec(server, path):
    """The form's own charset, a part's charset and the charset of a field's name have no effect."""
    slow = PUNYCODE[:100_000].decode()
    bodies = {
        "form": form(("_charset_", "punycode"), ("pkg_repo_name", slow), ("next", slow)),
        "part": form(("pkg_repo_name", slow), ('next"\r\nContent-Type: "text/plain; charset=punycode', slow)),
        "name": form((f"pkg_repo_name\"; name*=punycode''x-%61{'a' * 7000}; x=\"", "a"), ("next", "x")),
    }
    for where, (body, content_type) in bodies.items():
        headers = {"Content-Type": content_type}
        with others_are_served(server):
            reply = call(server.url + path, "POST", auth="demo:demo-write", headers=headers, body=body)
        assert reply.status in {400, 401}, f"{where}: {reply}"
        if where == "name":
            assert "punycode" in reply.json()["detail"], reply


@pytest.mark.parametrize(
    ("path", "auth", "status"),
    [("/login", None, 400), ("/repo/demo/simple/", None, 401), ("/repo/demo/simple/", "demo:demo-write", 400)],
)
@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "identity, gzip"])
def test_a_packed_body_is_not_unpacked(server, path, auth, status, coding):
    """It is not decompressed, whether it is read or ignored: these 9 MB would become 2 GB."""
    bomb = gzip.compress(bytes(256 * 1024 * 1024), compresslevel=1) * 8
    content_type = URLENCODED if path == "/login" else "multipart/form-data; boundary=x"
    headers = {"Content-Type": content_type, "Content-Encoding": coding}
    with others_are_served(server):
        reply = call(server.url + path, "POST", auth=auth, headers=headers, body=bomb)
    assert reply.status == status, reply


@pytest.mark.parametrize("body", [b"a&" * 100_000, b"a=b&" * 101, b"%41" * 100_000])
def test_a_login_of_many_fields_is_refused(server, body):
    reply = call(f"{server.url}/login", "POST", headers={"Content-Type": URLENCODED}, body=body)
    assert reply.status in {400, 401, 413}, reply
    fields, content_type = form(*[(f"a{number}", "b") for number in range(101)])
    reply = call(f"{server.url}/login", "POST", headers={"Content-Type": content_type}, body=fields)
    assert reply.status == 413, reply


# Sessions

CLAIM = base64.urlsafe_b64encode(
    json.dumps({"repo": "demo", "permission": 2, "read_until": 2**40, "write_until": 2**40}).encode()
).decode()


@pytest.mark.parametrize(
    "signature", ["", "0" * 64, "\xff", "\xe9" * 64, "\xc3\xa9", '"', "%ff", "0" * 64 + "\xed\xb2\x80"]
)
def test_a_forged_cookie_of_any_bytes_is_none(server, signature):
    lines = ["Host: x", "Connection: close", f"Cookie: pywharf_session={CLAIM}.{signature}"]
    received = raw(server.url, request_head("GET", "/simple/", lines))
    assert statuses(received) == [401], received[:500]


ELSEWHERE = [
    "//evil.example/",
    "/\\evil.example",
    "\\\\evil.example",
    "http://evil.example/",
    "https:/evil.example",
    "javascript:alert(1)",
    "//[",
    "http://[",
    "/\t/evil.example",
    "/\r\nSet-Cookie: a=b",
    " //evil.example",
    "%2f%2fevil.example",
    "x/y",
]


@pytest.mark.parametrize("target", ELSEWHERE)
def test_a_login_leads_nowhere_else(server, target):
    fields = {"pkg_repo_name": "demo", "pkg_repo_secret_raw": "demo-read", "next": target}
    body = "&".join(f"{key}={quoted(value)}" for key, value in fields.items()).encode()
    reply = call(f"{server.url}/login", "POST", headers={"Content-Type": URLENCODED}, body=body)
    assert (reply.status, urljoin("/login", reply.header("Location"))) == (303, "/repo/demo/simple/"), reply
    assert str(reply.header("Set-Cookie")).startswith("pywharf_session="), reply
    page = call(f"{server.url}/login?next={quoted(target)}")
    assert page.status == 200, page
    assert b'name="next" value=""' in page.body, page.body


def quoted(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode())


@pytest.mark.parametrize(
    ("forwarded", "secure"),
    [(None, False), ("http", False), ("https", True), ("HTTPS", True), ("https, http", True), ("http, https", False)],
)
def test_the_cookie_is_for_tls_alone_where_the_browser_speaks_it(server, forwarded, secure):
    headers = {"Content-Type": URLENCODED} | ({} if forwarded is None else {"X-Forwarded-Proto": forwarded})
    body = b"pkg_repo_name=demo&pkg_repo_secret_raw=demo-read"
    cookie = call(f"{server.url}/login", "POST", headers=headers, body=body).header("Set-Cookie")
    assert cookie is not None
    assert ("Secure" in cookie.split("; ")) is secure, cookie
    assert cookie.startswith("__Host-pywharf_session=" if secure else "pywharf_session="), cookie


def test_user_names_that_look_alike_are_no_other_repo(server):
    """The Kelvin sign's lower case is a plain k, the dotted I's is two characters. No name opens another's repo."""
    for name in ("\N{KELVIN SIGN}", "DEMO\u0130", "de\u00admo", "demo\x00", "demo ", "\uff44emo"):
        reply = call(f"{server.url}/simple/", headers={"Authorization": basic(f"{name}:demo-read")})
        assert reply.status == 401, f"{name!r}: {reply}"


# Bodies of uploads

BOUNDARY = "0123456789abcdef"
MULTIPART = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
FIELD = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n'.encode()
END = f"--{BOUNDARY}--\r\n".encode()
LONG_FORMS = {
    "fields": (FIELD * 100_000 + END, 413),
    "lines before the form": (b"x\r\n" * 10_000_000 + FIELD + END, 400),
    "a line before the form": (b"x" * 30_000_000 + FIELD + END, 400),
    "a line after the form": (FIELD + END + b"x" * 30_000_000, 400),
    "what looks like the boundary": (FIELD[:-2] + f"\r\n--{BOUNDARY[:-1]}".encode() * 500_000 + b"\r\n" + END, 400),
}


@pytest.mark.parametrize("what", LONG_FORMS)
def test_a_form_with_too_much_of_something_holds_nobody_up(server, what):
    body, status = LONG_FORMS[what]
    with others_are_served(server):
        reply = call(f"{server.url}/repo/demo/simple/", "POST", auth="demo:demo-write", headers=MULTIPART, body=body)
    assert reply.status == status, reply


INNER = request_head("GET", "/metrics", ["Host: x", "X-Inner: yes"])
CHUNKED = b"%x\r\n" % len(INNER) + INNER + b"\r\n0\r\n\r\n"
# Method, headers, the body with a request in it, the statuses of the responses
SMUGGLED = [
    ("POST", [f"Content-Length: {len(INNER)}"], INNER, [401, 200]),
    ("POST", ["Transfer-Encoding: chunked"], CHUNKED, [401, 200]),
    ("GET", [f"Content-Length: {len(INNER)}"], INNER, [401, 200]),
    ("PUT", [f"Content-Length: {len(INNER)}"], INNER, [405, 200]),
    ("POST", ["Transfer-Encoding: chunked", f"Content-Length: {len(INNER)}"], CHUNKED, [400]),
    ("POST", ["Content-Length: 0", f"Content-Length: {len(INNER)}"], INNER, [400]),
    ("POST", ["Transfer-Encoding: xchunked", f"Content-Length: {len(INNER)}"], INNER, [400]),
    ("POST", ["Transfer-Encoding : chunked", f"Content-Length: {len(INNER)}"], INNER, [400]),
    ("POST", ["Content-Length: +5"], INNER, [400]),
    ("POST", ["Content-Length: 5\x0b"], INNER, [400]),
]


@pytest.mark.parametrize("number", range(len(SMUGGLED)))
def test_the_body_of_a_refused_request_is_not_the_next_request(server, number):
    """The next response on the connection answers the next request, or there is none."""
    method, headers, body, expected = SMUGGLED[number]
    last = request_head("GET", "/healthz", ["Host: x", "Connection: close"])
    received = raw(server.url, request_head(method, "/repo/demo/simple/", ["Host: x", *headers]) + body + last)
    assert statuses(received) == expected, received[:2000]
    assert b"pywharf_http_requests" not in received


def slow_sdist() -> bytes:
    """Return a small sdist with very many members, which takes seconds to read."""
    text = b"Metadata-Version: 2.1\nName: slow\nVersion: 1.0\n"
    record = tarfile.TarInfo("slow-1.0/PKG-INFO")
    record.size = len(text)
    members = [record.tobuf(tarfile.USTAR_FORMAT) + text.ljust(512, b"\0")]
    members += [tarfile.TarInfo(f"slow-1.0/{n:06}").tobuf(tarfile.USTAR_FORMAT) for n in range(MAX_MEMBERS // 20)]
    return gzip.compress(b"".join(members) + bytes(1024), compresslevel=1, mtime=0)


def connections_of(server: Server) -> int:
    """Return how many clients are connected to the server."""
    found = psutil.Process(server.process.pid).net_connections("tcp")
    return sum(one.status == psutil.CONN_ESTABLISHED for one in found)


@pytest.mark.timeout(300)
def test_many_concurrent_slow_archives_delay_nobody(tmp_path):
    """There are as many as the server has threads. Another repo's pages, downloads and uploads go on meanwhile."""
    body, content_type = form(("content", "slow-1.0.tar.gz", slow_sdist()))
    other = wheel(tmp_path, "other")
    other_body, other_type = form(("content", other.name, other.read_bytes()))
    found: list[int] = []

    def attack(server: Server) -> None:
        headers = {"Content-Type": content_type}
        reply = call(server.repo(), "POST", auth="demo:demo-write", headers=headers, body=body, timeout_s=280)
        found.append(reply.status)

    with running(tmp_path) as server, ThreadPoolExecutor(32) as attackers:
        begun = [attackers.submit(attack, server) for _ in range(32)]
        staging = server.root / "cache/demo/staging"
        # One is read, the others have arrived and wait for it.
        wait_for(lambda: list(staging.iterdir()) and connections_of(server) > 20, "the attack to begin")
        headers = {"Content-Type": other_type}
        published = call(server.repo("other"), "POST", auth="other:other-write", headers=headers, body=other_body)
        assert published.status == 200, published
        file = call(f"{server.repo('other')}other/{other.name}", auth="other:other-read")
        page = call(f"{server.repo('other')}other/", auth="other:other-read")
        waiting = sum(not attack.done() for attack in begun)
        assert (file.status, page.status, file.body) == (200, 200, other.read_bytes())
        assert waiting > 16, "it took until most of the slow archives had been read"
    assert found == [200] * 32, "the same bytes again are a success"


# The extra index

PROBE_PAGE = Answer(b'{"meta": {"api-version": "1.0"}, "name": "x", "files": []}')


@pytest.mark.parametrize(
    "target",
    [
        "http://localhost:{port}/simple/inner/",
        "http://localhost.:{port}/simple/inner/",
        "http://127.0.0.2:{port}/simple/inner/",
        "http://127.0.0.1:{port}/simple/inner/",
        "http://0.0.0.0:{port}/simple/inner/",
        "http://[::ffff:127.0.0.1]:{port}/simple/inner/",
        "http://2130706433:{port}/simple/inner/",
        "http://127.1:{port}/simple/inner/",
        "http://user:secret@127.0.0.1:{port}/simple/inner/",
    ],
)
def test_an_index_redirects_nobody_into_this_machine(tmp_path, target):
    with upstream() as index, upstream() as inner, running(tmp_path, [f"--extra_index_url={index.url}"]) as server:
        port = urlsplit(inner.url).port
        inner.answers["inner"] = PROBE_PAGE
        index.answers["outer"] = Answer(status=302, headers={"Location": target.format(port=port)})
        reply = call(f"{server.repo()}outer/", auth="demo:demo-read")
        assert reply.status == 502, reply
        assert index.asked("outer") == 1
        assert inner.requests == []


def test_no_credentials_of_the_environment_reach_the_index(tmp_path):
    """Those of a .netrc are for other programs and are not sent. The environment's proxy is used."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password netrc-secret\n")
    with upstream() as proxy:
        proxy.answers["behind"] = PROBE_PAGE
        env = {"NETRC": str(netrc), "HTTP_PROXY": proxy.url.removesuffix("/simple/"), "NO_PROXY": "", "no_proxy": ""}
        flags = ["--extra_index_url=http://index.invalid/simple/"]
        with running(tmp_path, flags, env=env) as server:
            server.secrets.add("netrc-secret")
            reply = call(f"{server.repo()}behind/", auth="demo:demo-read")
        assert reply.status == 200, reply
        (asked,) = proxy.requests
        assert not {name.lower() for name in asked.headers} & {"authorization", "proxy-authorization", "cookie"}


def test_long_texts_of_a_hostile_index_hold_nobody_up(tmp_path):
    """A file name of 500,000 dashes was once searched for a version in full, again for each dash."""
    names = ["x-1.0.tar.gz", "x-" + "1" * 5000 + ".tar.gz", "x" + "-" * 1_000_000 + ".tar.gz", "a-" * 500_000 + ".whl"]
    files = [{"filename": name, "url": f"https://files.example/{name}", "hashes": {}, "size": 1} for name in names]
    yanked = {"filename": "x-2.0.tar.gz", "url": "https://files.example/x-2.0.tar.gz", "yanked": "why " * 1_000_000}
    files.append({**files[0], **yanked})
    with upstream() as index, running(tmp_path, [f"--extra_index_url={index.url}"]) as server:
        index.answers["x"] = Answer(json.dumps({"meta": {"api-version": "1.0"}, "name": "x", "files": files}).encode())
        with others_are_served(server):
            reply = call(f"{server.repo()}x/", auth="demo:demo-read", headers={"Accept": JSON})
        assert [file["filename"] for file in reply.json()["files"]] == ["x-1.0.tar.gz"]


def test_many_concurrent_large_pages_take_little_memory(tmp_path):
    """32 pages of 32 MB are requested concurrently. They wait for each other."""
    page = PROBE_PAGE.body.rstrip(b"}") + b', "more": "' + b"x" * (32 * 1024 * 1024) + b'"}'
    with upstream() as index, running(tmp_path, [f"--extra_index_url={index.url}"]) as server:
        before = memory_kb(server)
        names = [f"large-{number}" for number in range(32)]
        index.answers.update(dict.fromkeys(names, Answer(page)))
        with ThreadPoolExecutor(32) as clients, others_are_served(server):
            asked = [clients.submit(call, f"{server.repo()}{name}/", auth="demo:demo-read") for name in names]
            found = {one.result().status for one in asked}
        assert found <= {200, 504}
        # On a machine that is busy with other things none may have come in time; alone each does.
        assert 200 in found or call(f"{server.repo()}{names[0]}/", auth="demo:demo-read").status == 200
        grown = memory_kb(server) - before
        assert grown < 300 * 1024, f"grew by {grown // 1024} MiB"


def memory_kb(server: Server) -> int:
    """Return the peak resident memory of the process, in KiB."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


# Pages

EVIL = "\"><script>alert(1)</script><img src=x onerror='alert(1)'>"


def test_no_page_runs_what_an_index_or_the_storage_says(tmp_path):
    """Names, digests and reasons come from a hostile extra index, or from an index file that somebody else wrote."""
    file = {"filename": f"x-1.0{EVIL}.tar.gz", "sha256": "0" * 64, "size": 1, "yanked": EVIL, "requires_python": EVIL}
    project = {"files": [file | {"upload_time": EVIL}], "status": EVIL, "status_reason": EVIL}
    foreign = {
        "meta": {"api-version": "1.4"},
        "name": "theirs",
        "project-status": {"status": "deprecated", "reason": EVIL},
        "files": [
            {
                "filename": f"theirs-1.0{EVIL.replace('/', '')}.tar.gz",
                "url": f"https://files.example/{EVIL}",
                "hashes": {"sha256": EVIL},
                "requires-python": EVIL,
                "core-metadata": {"sha256": EVIL},
                "yanked": EVIL,
            },
            {"filename": "theirs-2.0.tar.gz", "url": "javascript:alert(1)", "hashes": {}},
        ],
    }
    write_index(tmp_path, {"x": project, EVIL: project})
    with upstream() as other, running(tmp_path, [f"--extra_index_url={other.url}"]) as server:
        other.answers["theirs"] = Answer(json.dumps(foreign).encode())
        for path in ("", "x/", "theirs/"):
            for accept in ("text/html", "application/vnd.pypi.simple.v1+html"):
                page = call(server.repo("other") + path, auth="other:other-read", headers={"Accept": accept})
                assert page.status == 200, page
                assert b"alert" in page.body, page
                assert not re.search(rb"<script|<img|javascript:", page.body), page.body
                policy = page.header("Content-Security-Policy") or ""
                assert policy.startswith("default-src 'none'"), page
                assert page.header("X-Content-Type-Options") == "nosniff", page
            as_json = call(server.repo("other") + path, auth="other:other-read", headers={"Accept": JSON})
            assert (as_json.status, as_json.header("Content-Type")) == (200, JSON), as_json
        for path in (f"x/{quoted(str(file['filename']))}", f"{quoted(EVIL)}/", f"x/{quoted(EVIL)}"):
            reply = call(server.repo("other") + path, auth="other:other-read", headers={"Accept": "text/html"})
            assert reply.status in {400, 404, 503}, reply
            assert not re.search(rb"<script|<img", reply.body), reply.body


def write_index(folder: Path, projects: Mapping[str, object]) -> None:
    """Write an index to the storage of `other`, for a server that is then started in `folder`."""
    storage = folder / "root/cache/other/storage"
    storage.mkdir(parents=True)
    (storage / "index.json").write_text(json.dumps({"format": 1, "mtime": 1, "projects": projects}))


OUTSIDE = [
    "../../../demo/storage/y/y-1.0.tar.gz",
    "../../../../../outside-1.0.tar.gz",
    "../y/y-1.0.tar.gz",
    "../index.json",
    "/etc/passwd",
    "..",
    ".hidden-1.0.tar.gz",
    "nul-1.0.tar.gz\0.whl",
    "line-1.0\r\nX-Evil: 1.whl",
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_an_index_names_no_file_elsewhere(tmp_path, name):
    """A name that somebody wrote into an index is served from the project's own folder, or not at all."""
    file = {"filename": name, "sha256": "0" * 64, "size": 7, "metadata_sha256": "0" * 64}
    write_index(tmp_path, {"x": {"files": [file]}, "../../demo/storage/y": {"files": [file]}, "..": {"files": [file]}})
    for folder in ("root/cache/demo/storage/y", "root/cache/other/storage/y", "root/cache/other/storage/x"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "y-1.0.tar.gz").write_bytes(b"private")
        (tmp_path / folder / ".hidden-1.0.tar.gz").write_bytes(b"private")
    (tmp_path / "outside-1.0.tar.gz").write_bytes(b"private")
    login = f"Authorization: {basic('other:other-read')}"
    with running(tmp_path) as server:
        for project in ("x", "..", "%2e%2e", "..%2f..%2fdemo%2fstorage%2fy", "y%2f..%2fx", "%2f", "x%00"):
            for path in (quoted(name), name.replace("\0", "%00").replace("\r\n", "%0d%0a").replace(" ", "%20")):
                for suffix in ("", ".metadata"):
                    target = f"/repo/other/simple/{project}/{path}{suffix}"
                    received = raw(server.url, request_head("GET", target, ["Host: x", "Connection: close", login]))
                    assert statuses(received)[0] in {400, 404}, received[:500]
                    assert b"private" not in received
                    assert b"\r\nX-Evil" not in received


@pytest.mark.parametrize("digest", ["", "0", "0" * 63 + "\n", "a\r\nX-Evil: 1", "g" * 64])
@pytest.mark.parametrize("field", ["sha256", "metadata_sha256"])
def test_a_digest_that_is_none_becomes_no_header(tmp_path, field, digest):
    file = {"filename": "x-1.0.tar.gz", "sha256": "0" * 64, "metadata_sha256": "0" * 64, "size": 1, field: digest}
    write_index(tmp_path, {"x": {"files": [file]}})
    with running(tmp_path) as server:
        for path in ("", "x-1.0.tar.gz", "x-1.0.tar.gz.metadata"):
            reply = call(f"{server.repo('other')}x/{path}", auth="other:other-read")
            assert (reply.status, reply.header("X-Evil")) == (503, None), reply
            assert "update_index" in reply.json()["detail"], reply
        assert call(server.repo("other"), auth="other:other-read").status == 200


# A storage that does not respond


def test_a_repo_whose_storage_is_locked_leaves_the_others_alone(tmp_path):
    """Another server was suspended while it wrote, and holds the lock. More uploads wait than there are threads."""
    with running(tmp_path) as server, ThreadPoolExecutor(40) as clients:
        first = wheel(tmp_path, "first")
        body, content_type = form(("content", first.name, first.read_bytes()))
        headers = {"Content-Type": content_type}
        for repo in ("demo", "other"):
            reply = call(server.repo(repo), "POST", auth=f"{repo}:{repo}-write", headers=headers, body=body)
            assert reply.status == 200, reply

        def upload(number: int) -> int:
            file = wheel(tmp_path, f"waits-{number}")
            body, content_type = form(("content", file.name, file.read_bytes()))
            headers = {"Content-Type": content_type}
            return call(server.repo(), "POST", auth="demo:demo-write", headers=headers, body=body).status

        with (server.root / "cache/demo/journal").open("rb") as journal:
            fcntl.flock(journal, fcntl.LOCK_EX)
            waiting = [clients.submit(upload, number) for number in range(40)]
            staging = server.root / "cache/demo/staging"
            wait_for(lambda: len(list(staging.iterdir())) == 40, "all uploads to wait")
            with others_are_served(server):
                for _ in range(10):
                    page = call(f"{server.repo('other')}first/", auth="other:other-read", timeout_s=5)
                    file = call(f"{server.repo('other')}first/{first.name}", auth="other:other-read", timeout_s=5)
                    assert (page.status, file.status) == (200, 200)
                again = call(f"{server.repo()}first/{first.name}", auth="demo:demo-read", timeout_s=5)
                assert again.body == first.read_bytes()
            assert not any(upload.done() for upload in waiting)
        assert {upload.result() for upload in waiting} == {200}
