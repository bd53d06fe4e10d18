"""HTTP itself: formats of errors, methods, malformed and oversized requests, the access log."""

import contextlib
import html
import json
import re
import socket
import threading
from pathlib import Path

import pytest

from support.distributions.wheels import wheel
from support.server.calling import ask, basic, call, connect, dial, form, raw, read_to_end, request_head, statuses
from support.server.serving import Server, running
from support.waiting import wait_for

AUTH = "demo:demo-read"
LOGIN = f"Authorization: {basic(AUTH)}"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("protocol"), ["--debug"]) as server:
        yield server


BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"
PIP = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01"
# Path, method, credentials, status, the problem's code
PROBLEMS = [
    ("/nowhere", "GET", None, 404, "not-found"),
    ("/login/more", "GET", None, 404, "not-found"),
    ("/simple/", "GET", None, 401, "unauthenticated"),
    ("/simple/missing/", "GET", AUTH, 404, "not-found"),
    ("/simple/-bad-/", "GET", AUTH, 400, "invalid-name"),
    ("/simple/", "POST", AUTH, 403, "forbidden"),
    ("/simple/", "POST", "demo:demo-write", 400, "invalid-upload"),
    ("/simple/", "DELETE", AUTH, 405, "method-not-allowed"),
    ("/repo/demo/simple/pkg/", "PUT", AUTH, 405, "method-not-allowed"),
    ("/repo/demo/simple/pkg/file.whl", "DELETE", AUTH, 405, "method-not-allowed"),
    ("/login", "PATCH", None, 405, "method-not-allowed"),
    ("/healthz", "POST", None, 405, "method-not-allowed"),
    ("/initialize/", "GET", None, 405, "method-not-allowed"),
    ("/simple/", "OPTIONS", None, 405, "method-not-allowed"),
    ("/simple/", "PROPFIND", None, 405, "method-not-allowed"),
    ("/initialize/", "POST", None, 404, "not-found"),
]


@pytest.mark.parametrize("case", PROBLEMS, ids=[f"{c[1]} {c[0]} {c[3]}" for c in PROBLEMS])
@pytest.mark.parametrize(
    ("accept", "is_html"),
    [(None, False), ("*/*", False), (PIP, False), ("application/problem+json, */*;q=0.1", False), (BROWSER, True)],
)
def test_an_error_is_json_for_programs_and_a_page_for_people(server, case, accept, is_html):
    """Programs get problem details (RFC 9457)."""
    path, method, auth, status, code = case
    reply = call(server.url + path, method, auth=auth, headers={} if accept is None else {"Accept": accept})
    assert reply.status == status, reply
    assert "no-store" in (reply.header("Cache-Control") or ""), reply
    assert "Accept" in (reply.header("Vary") or ""), reply
    assert (reply.header("WWW-Authenticate") is not None) is (status == 401)
    if is_html:
        assert reply.header("Content-Type") == "text/html; charset=utf-8"
        assert "default-src 'none'" in (reply.header("Content-Security-Policy") or "")
        text = html.unescape(reply.body.decode())
        assert "<h1>" in text
        assert text.count('name="pkg_repo_secret_raw"') == (status == 401)
    else:
        assert reply.header("Content-Type") == "application/problem+json"
        problem = reply.json()
        assert problem["type"] == f"urn:pywharf:problem:{code}", reply
        assert problem["status"] == status
        assert problem["title"]
        assert len(problem["detail"]) > 15
    if status == 405:
        assert reply.header("Allow"), reply


def test_an_errors_page_holds_nothing_of_the_request_unescaped(server):
    path = "/%3Cscript%3Ealert(1)%3C/script%3E"
    for target in (path, "/simple" + path, f"/repo{path}/simple/", "/login?next=%22%3E%3Cscript%3E"):
        for auth in (None, AUTH):
            reply = call(server.url + target, auth=auth, headers={"Accept": BROWSER})
            assert b"<script" not in reply.body, reply
    # unescaped in the request, as browsers never send it
    headers = [f"Accept: {BROWSER}", "Host: x", LOGIN, "Connection: close"]
    received = raw(server.url, request_head("GET", '/simple/"><script>/x/y', headers))
    assert b"<script" not in received.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("method", ["BREW", "get", "G\x00T", "GET\t", "X" * 100, ""])
def test_an_unknown_method_is_refused(server, method):
    received = raw(server.url, request_head(method, "/simple/", ["Host: x", LOGIN, "Connection: close"]))
    assert statuses(received) in ([400], [405], [501]), received


CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
# If two servers in a row read one of these differently, it is a way around the checks of the first.
MALFORMED = [
    ("not HTTP at all", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50)),
    ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ("noise", bytes(range(1, 256)) * 4 + b"\r\n\r\n"),
    ("no version", b"GET /simple/\r\n\r\n"),
    ("version 3", b"GET / HTTP/3.0\r\nHost: x\r\n\r\n"),
    ("version of noise", b"GET / HTTP/1.x\r\nHost: x\r\n\r\n"),
    ("two versions", b"GET / HTTP/1.1 HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("a header without a colon", b"GET / HTTP/1.1\r\nHost: x\r\nnonsense\r\n\r\n"),
    ("a header without a name", b"GET / HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n"),
    ("a blank before the colon", b"GET / HTTP/1.1\r\nHost: x\r\nX-Y : z\r\n\r\n"),
    ("a blank before the length's colon", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length : 5\r\n\r\nabcde"),
    ("a folded header", b"GET / HTTP/1.1\r\nHost: x\r\nX: y\r\n z\r\n\r\n"),
    ("a blank before the first header", b"GET / HTTP/1.1\r\n Host: x\r\n\r\n"),
    ("NUL in a header", b"GET / HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n"),
    ("a carriage return in a header", b"GET / HTTP/1.1\r\nHost: x\r\nX: a\rb\r\n\r\n"),
    ("a control character in the target", b"GET /a\x01b HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("two lengths", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef"),
    ("two lengths in one", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 6\r\n\r\nabcdef"),
    ("a negative length", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n"),
    ("a length with a sign", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\nabcde"),
    ("a hexadecimal length", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x5\r\n\r\nabcde"),
    ("a length that is no number", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: five\r\n\r\nabcde"),
    ("a length beyond all", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 40 + b"\r\n\r\n"),
    ("length and chunks", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n" + CHUNKED),
    (
        "chunks and length",
        b"POST / HTTP/1.1\r\nHost: x\r\n" + CHUNKED.replace(b"\r\n", b"\r\nContent-Length: 5\r\n", 1),
    ),
    ("an unknown coding", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: rot13\r\n\r\nabc"),
    ("chunked not last", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
    ("chunked twice", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    ("a coding in quotes", b'POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n'),
    ("chunks of HTTP/1.0", b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("two hosts", b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n"),
    ("no host", b"GET / HTTP/1.1\r\n\r\n"),
    ("a long target", b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("a long header", b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 70_000 + b"\r\n\r\n"),
    ("a long header name", b"GET / HTTP/1.1\r\nHost: x\r\n" + b"y" * 70_000 + b": x\r\n\r\n"),
    ("many headers", b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 40_000 + b"\r\n"),
]


@pytest.mark.parametrize("number", range(len(MALFORMED)), ids=[case[0] for case in MALFORMED])
def test_a_malformed_request_is_refused_and_ends_the_connection(server, number):
    """The bytes that follow on the connection are not read as another request."""
    smuggled = request_head("GET", "/metrics", ["Host: x", "Connection: close"])
    received = raw_while_refused(server, MALFORMED[number][1] + smuggled)
    assert statuses(received) in ([400], [413], [414], [431], [501], [505]), received[:2000]
    assert b"pywharf_http_requests" not in received
    assert call(f"{server.url}/healthz").status == 200


def raw_while_refused(server: Server, sent: bytes) -> bytes:
    """Send the bytes and return the response. The server may respond and close before it has received them all."""
    with dial(server.url, timeout_s=15) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(sent)
        return read_to_end(connection)


@pytest.mark.parametrize(
    "body",
    [
        b"5\r\nabcde\r\nx\r\n",
        b"-1\r\n",
        b"5 \r\nabcde\r\n0\r\n\r\n",
        b"0x5\r\nabcde\r\n0\r\n\r\n",
        b"3\r\nabcde\r\n0\r\n\r\n",
        b"F" * 40 + b"\r\n",
        b"5;" + b"x" * 70_000 + b"\r\nabcde\r\n",
    ],
)
def test_malformed_chunks_are_refused(server, body):
    smuggled = request_head("GET", "/metrics", ["Host: x", "Connection: close"])
    head = request_head(
        "POST",
        "/login",
        ["Host: x", "Content-Type: application/x-www-form-urlencoded", "Transfer-Encoding: chunked"],
    )
    received = raw_while_refused(server, head + body + smuggled)
    assert statuses(received)[:1] in ([400], []), received[:2000]
    assert b"pywharf_http_requests" not in received


def test_what_follows_a_request_is_the_next_one(server):
    """Pipelined requests are answered once each, in order."""
    pieces = [
        request_head("GET", "/healthz", ["Host: x"]),
        request_head("GET", "/nowhere", ["Host: x"]),
        request_head("HEAD", "/healthz", ["Host: x"]),
        request_head("POST", "/login", ["Host: x", "Content-Length: 3"]) + b"a=b",
        request_head("GET", "/simple/", ["Host: x", LOGIN, "Connection: close"]),
    ]
    assert statuses(raw(server.url, *pieces)) == [200, 404, 200, 401, 200]
    assert statuses(raw(server.url, b"".join(pieces))) == [200, 404, 200, 401, 200]


def test_a_request_in_single_bytes_is_a_request(server):
    head = request_head("GET", "/simple/", ["Host: x", LOGIN, "Connection: close"])
    with dial(server.url) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in head:
            connection.sendall(bytes([byte]))
        assert statuses(read_to_end(connection)) == [200]


@pytest.mark.parametrize(
    "target",
    [
        "//evil.example/simple/",
        "http://evil.example/simple/",
        "/./simple/",
        "/x/../simple/",
        "/%2e/simple/",
        "*",
        "/simple/#x",
        "/simple/?%zz=%",
    ],
)
def test_an_odd_target_is_read_as_one_thing(server, target):
    received = raw(server.url, request_head("GET", target, ["Host: x", LOGIN, "Connection: close"]))
    assert statuses(received) in ([200], [400], [401], [404]), received
    assert b"\r\nLocation:" not in received


_body, _type = form(("pkg_repo_name", "demo.txt", b"demo"))
FILE_FORM = (_type, _body)
FORMS = [
    ("multipart that is none", "multipart/form-data; boundary=x", b"nonsense"),
    (
        "multipart cut off",
        "multipart/form-data; boundary=x",
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n',
    ),
    ("no boundary", "multipart/form-data", b"x"),
    ("a part without a name", "multipart/form-data; boundary=x", b"--x\r\n\r\na\r\n--x--\r\n"),
    ("bytes that are no text", "application/x-www-form-urlencoded", b"pkg_repo_name=\xff\xfe"),
    ("coded bytes that are no text", "application/x-www-form-urlencoded", b"pkg_repo_name=%ff%fe"),
    ("an unknown charset", "application/x-www-form-urlencoded; charset=rot99", b"a=b"),
    ("JSON", "application/json", b'{"pkg_repo_name": "demo"}'),
    ("a file for a name", *FILE_FORM),
    ("a surrogate", "application/x-www-form-urlencoded", b"pkg_repo_name=%ed%a0%80&pkg_repo_secret_raw=x"),
    ("a long name", "application/x-www-form-urlencoded", b"pkg_repo_name=" + b"x" * 100_000),
    ("nothing", "application/x-www-form-urlencoded", b""),
]


@pytest.mark.parametrize("number", range(len(FORMS)), ids=[case[0] for case in FORMS])
def test_a_broken_form_is_the_clients_mistake(server, number):
    _, content_type, body = FORMS[number]
    reply = call(f"{server.url}/login", "POST", headers={"Content-Type": str(content_type)}, body=body)
    assert reply.status in {400, 401}, reply
    assert not reply.header("Set-Cookie")


def test_a_body_too_large_for_its_form_is_refused(server):
    body = b"pkg_repo_name=" + b"x" * (17 * 1024 * 1024)
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    connection = connect(server.url)
    try:
        reply = ask(connection, f"{server.url}/login", "POST", headers=headers, body=body)
    finally:
        connection.close()
    assert reply.status == 413, reply
    assert "262144" in reply.json()["detail"]


def test_many_connections_that_say_nothing_hold_nobody_up(server):
    idle = [dial(server.url) for _ in range(200)]
    try:
        for number, connection in enumerate(idle):
            if number % 2:
                connection.sendall(b"GET /simple/ HTTP/1.1\r\nHost:")
        assert call(f"{server.url}/simple/", auth=AUTH).status == 200
    finally:
        for connection in idle:
            connection.close()


# The access log. Method, path and User-Agent, as bytes that a client may send.
STRANGE = [
    ("GET", "/simple/?token=hidden-in-query&x=%0a", "pip/24"),
    ("GET", "/simple/%0d%0aFAKE%20LINE/", "agent"),
    ("GET", "/simple/%1b%5b31m/", "\x1b[31mred"),
    ("GET", "/\u00e9\u00ff/x", "caf\u00e9 \u00ff\u00fe"),
    ("GET", "/" + "x" * 5000, "y" * 5000),
    ("GET", '/"quoted"\\', '"quoted" \\ {"a": 1}'),
    ("GET", "/%ed%a0%80/%ff", "\u00ed\u00a0\u0080"),
    ("GET", "/simple/pkg/#fragment", ""),
    ("PROPFIND", "/simple/%22%7d", "tab\there"),
]


@pytest.fixture(params=["json", "text"])
def logged(request, tmp_path):
    """Return what a server logged for the STRANGE requests and a few of each other kind."""
    flags = [f"--access_log={request.param}"]
    with running(tmp_path, flags) as server:
        server.secrets |= {"hidden-in-query", "hidden-in-cookie", "hidden-in-basic", "hidden-in-bearer"}
        understood = 0
        for method, target, agent in STRANGE:
            head = request_head(method, target, ["Host: x", LOGIN, f"User-Agent: {agent}", "Connection: close"])
            received = raw(server.url, head)
            assert statuses(received), (method, target)
            understood += b"Server: pywharf" in received  # the others were refused as invalid HTTP
        assert understood >= 6
        file = wheel(tmp_path, "logged")
        body, content_type = form((":action", "file_upload"), ("content", file.name, file.read_bytes()))
        uploading = {"Content-Type": content_type, "User-Agent": "twine/6"}
        url = f"{server.url}/repo/demo/simple/"
        assert call(url, "POST", auth="demo:demo-write", headers=uploading, body=body).status == 200
        assert call(f"{url}logged/{file.name}", auth=AUTH).status == 200
        assert call(f"{url}?password=hidden-in-query", auth="demo:hidden-in-basic").status == 401
        assert call(url, headers={"Cookie": "pywharf_session=hidden-in-cookie"}).status == 401
        assert call(url, headers={"Authorization": "Bearer hidden-in-bearer"}).status == 401
        broken = b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer hidden-in-bearer\x00\r\n\r\n"
        assert statuses(raw(server.url, broken)) == [400]
        wait_for(lambda: "hidden" in server.text() or server.text().count("401") >= 3, "the last lines")
        assert server.stop() == 0
        yield request.param, server.text(), understood + 5, file.stat().st_size


def test_the_access_log(logged, source):
    kind, text, count, size = logged
    lines = text.split("\n")
    if kind == "json":
        entries = [json.loads(line) for line in lines if line.startswith('{"time"')]
        assert len(entries) == count, text
        for entry in entries:
            assert set(entry) == {
                "time", "remote", "method", "path", "status", "bytes", "seconds", "repo", "subject", "entry",
                "request_id", "agent",
            }  # fmt: skip
            assert "?" not in entry["path"]
            assert len(entry["path"]) <= 300
            assert len(entry["agent"]) <= 300
            assert entry["remote"] == source
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", entry["time"])
        assert {e["status"] for e in entries} >= {200, 401, 404, 405}
        uploads = [e for e in entries if e["agent"] == "twine/6"]
        told = [(e["method"], e["path"], e["status"], e["repo"]) for e in uploads]
        assert told == [("POST", "/repo/demo/simple/", 200, "demo")]
        downloads = [e for e in entries if e["path"].endswith(".whl")]
        assert [(e["status"], e["bytes"]) for e in downloads] == [(200, size)]
        assert [e["repo"] for e in entries if e["status"] == 401] == [None] * 3
        # An answer that is a problem has an id, by which its line is found.
        assert all((e["request_id"] is None) == (e["status"] < 400) for e in entries if e["agent"] != "twine/6")
    else:
        requests = [line for line in lines if " repo=" in line]
        assert len(requests) == count, text
    # One line per request: nothing that a client sends starts a new line or controls a terminal.
    assert all(ord(c) >= 32 for c in text.replace("\n", "")), repr(text)
    assert not any(line.startswith("FAKE") for line in lines)


def test_the_access_log_can_be_off(tmp_path):
    with running(tmp_path, ["--access_log=off"]) as server:
        assert call(f"{server.url}/simple/", auth=AUTH).status == 200
        assert server.stop() == 0
        assert "/simple/" not in server.text()


def test_concurrent_requests_leave_whole_lines(tmp_path):
    """This also holds for several processes."""
    with running(tmp_path, ["--access_log=json", "--workers=2"]) as server:

        def many() -> None:
            for _ in range(50):
                call(f"{server.url}/simple/", auth=AUTH, headers={"User-Agent": "z" * 250})

        threads = [threading.Thread(target=many) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert server.stop() == 0
        lines = [line for line in Path(server.log).read_text().splitlines() if "zzz" in line]
        assert len(lines) == 200
        assert {json.loads(line)["status"] for line in lines} == {200}
