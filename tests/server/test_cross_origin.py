"""Tests of what pages of other origins, and package managers in them, may read and may not."""

from collections.abc import Iterator
from urllib.parse import urlencode

import pytest

from support.distributions.wheels import wheel
from support.server.calling import call, form
from support.server.serving import CONFIG, Server, running

ORIGIN = {"Origin": "https://notebook.example"}
OPEN = """
[open]
type = "file_system"
read_secret = "open-read"
write_secret = "open-write"
anonymous_read = true
"""
FILE = "pkg/pkg-1.0-py3-none-any.whl"


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("origins")
    with running(folder, config=CONFIG + OPEN) as server:
        file = wheel(folder, "pkg")
        body, content_type = form(("content", file.name, file.read_bytes()))
        for repo in ("open", "demo"):
            headers = {"Content-Type": content_type}
            auth = f"{repo}:{repo}-write"
            assert call(server.repo(repo), "POST", auth=auth, headers=headers, body=body).status == 200
        yield server


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("", 200),
        ("pkg/", 200),
        ("Pkg/", 301),
        (FILE, 200),
        (f"{FILE}.metadata", 200),
        ("none/", 404),
        ("pkg/x.whl", 404),
    ],
)
def test_an_open_repo_is_read_from_anywhere(server, method, path, status):
    reply = call(server.repo("open") + path, method, headers=ORIGIN)
    assert (reply.status, reply.header("Access-Control-Allow-Origin")) == (status, "*"), reply
    assert "ETag" in str(reply.header("Access-Control-Expose-Headers"))
    assert reply.header("Access-Control-Allow-Credentials") is None


def test_parts_and_revalidation_too(server):
    for headers, status in [
        ({"Range": "bytes=0-1"}, 206),
        ({"Range": "bytes=9-1"}, 416),
        ({"If-None-Match": "*"}, 304),
    ]:
        reply = call(server.repo("open") + FILE, headers=ORIGIN | headers)
        assert (reply.status, reply.header("Access-Control-Allow-Origin")) == (status, "*"), reply


@pytest.mark.parametrize(
    ("path", "auth"),
    [
        ("/repo/demo/simple/", "demo:demo-read"),
        (f"/repo/demo/simple/{FILE}", "demo:demo-read"),
        ("/repo/demo/simple/", None),
        ("/repo/nobody/simple/", None),
        ("/repo/open/simple/", "open:wrong"),
        ("/simple/", "demo:demo-read"),
        ("/", None),
        ("/login", None),
        ("/healthz", None),
        ("/nowhere", None),
    ],
)
def test_nothing_else_is(server, path, auth):
    reply = call(server.url + path, auth=auth, headers=ORIGIN)
    assert not [name for name in reply.headers if name.lower().startswith("access-control")], reply
    asked = ORIGIN | {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "if-none-match"}
    if "open" not in path:
        reply = call(server.url + path, "OPTIONS", headers=asked)
        assert reply.status in {401, 404, 405}, reply
        assert not [name for name in reply.headers if name.lower().startswith("access-control")], reply


def test_uploads_and_sessions_are_not_for_other_origins(server):
    body = urlencode({"pkg_repo_name": "demo", "pkg_repo_secret_raw": "demo-read"}).encode()
    sent = {"Content-Type": "application/x-www-form-urlencoded"}
    cookie = str(call(f"{server.url}/login", "POST", headers=sent, body=body).header("Set-Cookie")).partition(";")[0]
    reply = call(server.repo(), headers=ORIGIN | {"Cookie": cookie})
    assert (reply.status, reply.header("Access-Control-Allow-Origin")) == (200, None), reply
    reply = call(server.repo("open"), "POST", auth="open:open-write", headers=ORIGIN)
    assert (reply.status, reply.header("Access-Control-Allow-Origin")) == (400, None), reply


@pytest.mark.parametrize("path", ["", "pkg/", FILE])
def test_a_browser_that_asks_first_may_read(server, path):
    asked = ORIGIN | {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "if-none-match"}
    reply = call(server.repo("open") + path, "OPTIONS", headers=asked)
    assert (reply.status, reply.header("Access-Control-Allow-Origin")) == (204, "*"), reply
    assert "GET" in str(reply.header("Access-Control-Allow-Methods"))
    assert "If-None-Match" in str(reply.header("Access-Control-Allow-Headers"))
    assert "Authorization" not in str(reply.header("Access-Control-Allow-Headers"))


@pytest.mark.parametrize("asked", ["POST", "DELETE", None])
def test_a_browser_may_only_read(server, asked):
    headers = ORIGIN | ({} if asked is None else {"Access-Control-Request-Method": asked})
    reply = call(server.repo("open"), "OPTIONS", headers=headers)
    assert (reply.status, reply.header("Access-Control-Allow-Origin")) == (405, None), reply
    assert reply.header("Allow") == "GET, HEAD, POST"
