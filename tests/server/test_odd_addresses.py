"""Addresses and methods that lead nowhere: the response is a clear error, whatever they contain."""

from collections.abc import Iterator

import pytest

from support.distributions.wheels import wheel
from support.server.calling import basic, call, form, raw, request_head, statuses
from support.server.serving import CONFIG, Server, running

MORE = """
[ram]
type = "memory"
read_secret = "ram-read"
write_secret = "ram-write"
"""
AUTHS = {"demo": "demo:demo-read", "ram": "ram:ram-read"}


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("odd")
    with running(folder, config=CONFIG + MORE) as server:
        file = wheel(folder, "pkg")
        body, content_type = form(("content", file.name, file.read_bytes()))
        for repo in AUTHS:
            headers = {"Content-Type": content_type}
            assert (
                call(server.repo(repo), "POST", auth=f"{repo}:{repo}-write", headers=headers, body=body).status == 200
            )
        yield server


LENGTHS = [200, 239, 240, 241, 245, 246, 250, 251, 252, 255, 256, 300, 1000, 4000, 7000]


@pytest.mark.parametrize("repo", AUTHS)
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("ending", [".whl", ".tar.gz", ".zip", ".whl.metadata", ".meta", ".txt", ""])
def test_a_name_of_any_length_is_not_there(server, repo, length, ending):
    """At 251 characters, the name of the file's record was once too long for the disk, and the server returned 503."""
    stem = "pkg-1.0-py3-none-"
    name = stem + "a" * (length - len(stem) - len(ending)) + ending
    assert len(name) == length
    reply = call(f"{server.repo(repo)}pkg/{name}", auth=AUTHS[repo])
    assert reply.status == 404, reply
    reply = call(f"{server.repo(repo)}{name}/", auth=AUTHS[repo])
    assert reply.status in {301, 400, 404}, reply  # at 200 characters it is still a valid project name


ODD = [
    "%00.whl",
    "a%00b.whl",
    "a%0ab.whl",
    "%ff%fe.whl",
    "%ed%a0%80.whl",
    "%f0%9f%98%80.whl",
    "%c3%a9.whl",
    "%2e%2e%2f%2e%2e%2fconfig.toml",
    "..%2f..%2fconfig.toml.whl",
    "..%5cx.whl",
    "%2fetc%2fpasswd.whl",
    ".whl",
    "..whl",
    ".status.toml",
    "-.whl",
    "con.whl",
    "a{b}.whl",
    "{project}",
    "a%7bb%7d.whl",
    "a;b.whl",
    "a%3fb.whl",
    "a%23b.whl",
    "%",
    "%zz.whl",
    "a+b.whl",
    "a b.whl".replace(" ", "%20"),
    "~root.whl",
    "pkg-1.0-py3-none-any.whl%00",
    "pkg-1.0-py3-none-any.whl%0a",
    "pkg-1.0-py3-none-any.whl.meta",
]


@pytest.mark.parametrize("repo", AUTHS)
@pytest.mark.parametrize("part", ODD)
def test_a_part_of_any_bytes_is_not_there(server, repo, part):
    """The part is used as a file, a project, a repo and below one. Strangers get 401, as anywhere in a repo."""
    for path in (
        f"/repo/{repo}/simple/pkg/{part}",
        f"/repo/{repo}/simple/{part}/",
        f"/repo/{repo}/simple/{part}",
        f"/repo/{repo}/simple/{part}/{part}",
        f"/repo/{repo}/{part}",
        f"/repo/{repo}/simple/pkg/{part}.metadata",
        f"/repo/{part}/simple/",
        f"/simple/{part}/",
        f"/simple/pkg/{part}",
    ):
        known = ["Host: x", "Connection: close", f"Authorization: {basic(AUTHS[repo])}"]
        received = raw(server.url, request_head("GET", path, known))
        assert statuses(received)[0] in {301, 400, 401, 404}, f"{path}: {received[:300]!r}"
        if f"/repo/{repo}/" in path:
            assert statuses(received)[0] != 401, f"{path}: {received[:300]!r}"
        stranger = statuses(raw(server.url, request_head("GET", path, ["Host: x", "Connection: close"])))
        assert stranger == [401], f"{path}: {stranger}"


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize(
    ("path", "status", "named"),
    [
        ("/repo/demo/", 405, "/repo/demo/simple/"),
        ("/repo/demo", 405, "/repo/demo/simple/"),
        ("/repo/demo/simple/pkg/", 405, "/repo/demo/simple/"),
        ("/repo/demo/legacy/", 405, "/repo/demo/simple/"),
        ("/repo/nobody/", 405, "/repo/nobody/simple/"),
        ("/simple/pkg/", 405, "/repo/NAME/simple/"),
        ("/", 405, "/repo/NAME/simple/"),
    ],
)
def test_a_file_sent_elsewhere_gets_the_right_address(server, method, path, status, named):
    body, content_type = form(("content", "a-1.0.tar.gz", b"x"))
    reply = call(server.url + path, method, auth="demo:demo-write", headers={"Content-Type": content_type}, body=body)
    assert reply.status == status, reply
    assert f"POST to {named}." in reply.json()["detail"]
    assert named in reply.reason  # twine shows the reason phrase
    assert set(str(reply.header("Allow")).split(", ")) >= {"GET", "HEAD"}


@pytest.mark.parametrize("path", ["/legacy/", "/upload", "/pypi/"])
def test_an_upload_to_no_address_gets_the_right_one(server, path):
    reply = call(server.url + path, "POST", body=b"x")
    assert (reply.status, "POST to /repo/NAME/simple/." in reply.reason) == (404, True), reply
