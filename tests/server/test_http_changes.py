"""The JSON API for changes after publishing: what it changes, what it refuses, and to whom it says anything."""

import html
import re

import pytest

from support.distributions.wheels import sdist, wheel
from support.server.audit import audit_lines
from support.server.calling import call
from support.server.index_client import IndexClient
from support.server.metrics import metric
from support.server.serving import CONFIG, Server, running
from support.storage.faults import PROGRAM, Fault, environment

CONFIG_HERE = (
    CONFIG
    + """
[ram]
type = "memory"
read_secret = "ram-read"
write_secret = "ram-write"

[open]
type = "file_system"
write_secret = "open-write"
anonymous_read = true
"""
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("changes"), config=CONFIG_HERE) as server:
        yield server


@pytest.fixture(params=["demo", "ram"])
def client(request, server) -> IndexClient:
    return IndexClient.of(server, request.param)


def published(client: IndexClient, tmp_path, project: str) -> list[str]:
    """Publish a wheel and an sdist of 1.0, and a wheel of 2.0; returns the names of 1.0."""
    files = [wheel(tmp_path, project, "1.0"), sdist(tmp_path, project, "1.0"), wheel(tmp_path, project, "2.0")]
    assert {client.upload(file).status for file in files} == {200}
    return sorted(file.name for file in files[:2])


def page(client: IndexClient, project: str) -> dict[str, object]:
    reply = client.get(f"{project}/")
    assert reply.status == 200, str(reply)
    found: dict[str, object] = reply.json()
    return found


def yanked(client: IndexClient, project: str) -> dict[str, object]:
    return {name: file["yanked"] for name, file in client.files(project).items() if file["yanked"] is not False}


def test_yank_and_unyank_a_release_and_a_file(client, tmp_path):
    first, second = published(client, tmp_path, "yanks")
    reply = client.change("Yanks", "yank", version="1", reason='broken on "Windows" <3')
    assert (reply.status, reply.json()) == (200, {"project": "yanks", "files": [first, second]})
    assert reply.header("Content-Type") == "application/json"
    assert reply.header("Cache-Control") == "no-store"
    assert yanked(client, "yanks") == dict.fromkeys((first, second), 'broken on "Windows" <3')
    html_page = client.get("yanks/", Accept="text/html").body.decode()
    assert re.findall(r'data-yanked="([^"]*)"', html_page) == [html.escape('broken on "Windows" <3')] * 2
    assert client.change("yanks", "unyank", filename=first).json() == {"project": "yanks", "files": [first]}
    assert yanked(client, "yanks") == {second: 'broken on "Windows" <3'}
    assert client.change("yanks", "yank", filename=second).status == 200
    assert yanked(client, "yanks") == {second: True}
    assert client.change("yanks", "unyank", version="1.0").status == 200
    assert yanked(client, "yanks") == {}
    assert client.get(f"yanks/{first}").status == 200


def test_delete_a_file_and_a_release(client, tmp_path):
    first, second = published(client, tmp_path, "deletes")
    etag = client.get("deletes/").header("ETag")
    assert client.change("deletes", "delete", filename=first).json() == {"project": "deletes", "files": [first]}
    assert sorted(client.files("deletes")) == sorted({second, "deletes-2.0-py3-none-any.whl"})
    assert client.get("deletes/", **{"If-None-Match": etag}).status == 200
    for path in (first, f"{first}.metadata"):
        assert client.get(f"deletes/{path}").status == 404
    assert client.change("deletes", "delete", filename=first).status == 200, "repeated"
    assert client.change("deletes", "delete", version="1.0").json() == {"project": "deletes", "files": [second]}
    assert client.change("deletes", "delete", version="1.0").status == 404
    assert client.change("deletes", "delete", version="2.0").status == 200
    shown = page(client, "deletes")
    assert (shown["files"], shown["versions"]) == ([], [])
    assert "deletes" in client.projects(), "the name stays the repo's"
    again = client.upload(tmp_path / first)
    assert again.status == 409
    assert again.reason.startswith(f"File already exists: {first} was deleted, and its name stays taken")
    assert client.upload(wheel(tmp_path, "deletes", "3.0")).status == 200


def test_a_status(client, tmp_path):
    names = published(client, tmp_path, "statuses")
    reply = client.change("statuses", "status", status="archived", reason="use bar")
    assert (reply.status, reply.json()) == (200, {"project": "statuses", "status": "archived"})
    assert page(client, "statuses")["project-status"] == {"status": "archived", "reason": "use bar"}
    assert client.upload(wheel(tmp_path, "statuses", "9.0")).status == 403
    assert client.change("statuses", "status", status="quarantined").status == 200
    assert client.files("statuses") == {}
    assert client.get(f"statuses/{names[0]}").status == 404
    assert client.change("statuses", "status", status="active").status == 200
    assert len(client.files("statuses")) == 3
    assert page(client, "statuses")["project-status"] == {"status": "active"}


# --- what is refused -------------------------------------------------------------------------------------------------

YANK = "/repo/demo/-/projects/refused/yank"
JSON = {"Content-Type": "application/json"}


def post(server: Server, path: str = YANK, body: bytes = b'{"version":"1.0"}', auth="demo:demo-write", headers=JSON):
    return call(server.url + path, "POST", auth=auth, headers=headers, body=body)


@pytest.fixture(scope="module")
def refused(server, tmp_path_factory) -> list[str]:
    return published(IndexClient.of(server), tmp_path_factory.mktemp("refused"), "refused")


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("yank", b"", 400, "The body is no JSON"),
        ("yank", b"[1]", 400, "The body: expected `object`"),
        ("yank", b"\xff{}", 400, "The body is no JSON"),
        ("yank", b"[" * 60_000, 400, "The body is no JSON"),
        ("yank", b'{"version":1}', 400, "version is 1: expected `str | null`"),
        ("yank", b'{"files":"1"}', 400, "the field 'files' is unknown"),
        ("delete", b'{"version":"1.0","free_name":true}', 400, "the field 'free_name' is unknown"),
        ("unyank", b'{"version":"1.0","reason":"x"}', 400, "the field 'reason' is unknown"),
        ("yank", b"{}", 400, "Give either the filename"),
        ("yank", b'{"version":"x y"}', 400, "must be a version"),
        ("yank", b'{"version":"1.0","reason":"a\\u001b[2Jb"}', 400, "printable text on one line"),
        ("yank", b'{"version":"1.0","reason":"' + b"x" * 4097 + b'"}', 400, "at most 4096"),
        ("yank", b'{"reason":"' + b"x" * 70_000 + b'"}', 413, "over 65536 bytes"),
        ("yank", b'{"version":"9.0"}', 404, "no file of version '9.0'"),
        ("yank", b'{"filename":"refused-9.tar.gz"}', 404, "no recorded file"),
        ("yank", b'{"filename":"../../lock"}', 404, "no file"),
        ("status", b'{"status":"gone"}', 400, "must be one of active"),
        ("status", b"{}", 400, "missing required field `status`"),
    ],
)
def test_a_bad_body(server, refused, path, body, status, said):
    reply = post(server, f"/repo/demo/-/projects/refused/{path}", body)
    assert reply.status == status, str(reply)
    assert reply.header("Content-Type") == "application/problem+json"
    assert said in reply.json()["detail"]
    assert yanked(IndexClient.of(server), "refused") == {}


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None]
)
def test_a_form_of_another_site_cannot_send_it(server, refused, content_type):
    headers = {"Content-Type": content_type} if content_type else {}
    reply = post(server, headers=headers)
    assert reply.status == 400
    assert "send application/json" in reply.json()["detail"]
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    preflight = call(server.url + YANK.replace("demo", "open"), "OPTIONS", headers=asked)
    assert preflight.header("Access-Control-Allow-Origin") is None
    assert preflight.header("Access-Control-Allow-Methods") is None


def test_a_session_changes_from_this_server_s_pages_alone(server, refused):
    login = call(
        server.url + "/login",
        "POST",
        headers={"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"},
        body=b"pkg_repo_name=demo&pkg_repo_secret_raw=demo-write",
    )
    cookie = {"Cookie": (login.header("Set-Cookie") or "").partition(";")[0]}
    assert cookie["Cookie"], str(login)
    for site in ({}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
        assert post(server, auth=None, headers={**JSON, **cookie, **site}).status == 403
    plain = {**cookie, "Content-Type": "text/plain", "Sec-Fetch-Site": "same-origin"}
    assert post(server, auth=None, headers=plain).status == 400
    assert yanked(IndexClient.of(server), "refused") == {}


@pytest.mark.parametrize("repo", ["demo", "open", "nobody"])
@pytest.mark.parametrize("auth", [None, "{repo}:wrong", "other:other-write"])
def test_strangers_learn_nothing(server, refused, repo, auth):
    given = auth.format(repo=repo) if auth else None
    for project in ("refused", "nothing", "%20"):
        for action, status in (("yank", 401), ("status", 401), ("nonsense", 405)):
            path = f"/repo/{repo}/-/projects/{project}/{action}"
            reply = post(server, path, auth=given)
            assert reply.status == status, str(reply)
            assert "refused" not in reply.json()["detail"]
            if repo != "open" or auth is not None:
                assert call(server.url + path, auth=given).status == 401


def test_methods_and_addresses(server, refused):
    assert post(server, auth="demo:demo-read").status == 403
    for method in ("GET", "HEAD"):
        reply = call(server.url + YANK, method, auth="demo:demo-read")
        assert (reply.status, reply.header("Allow")) == (405, "POST")
    for method in ("PUT", "DELETE", "PATCH"):
        assert call(server.url + YANK, method, auth="demo:demo-write").status == 405
    for path in ("/repo/demo/-/", "/repo/demo/-/projects/refused", "/repo/demo/-/projects/refused/burn"):
        assert call(server.url + path, auth="demo:demo-read").status == 404
    assert post(server, "/repo/demo/-/projects/nothing/yank").status == 404
    assert post(server, "/repo/demo/-/projects/nothing/status", b'{"status":"archived"}').status == 404
    assert post(server, "/repo/demo/-/projects/%20/yank").status == 400
    assert yanked(IndexClient.of(server), "refused") == {}


def test_the_log_says_who_changed_what(tmp_path, source):
    with running(tmp_path) as server:
        client = IndexClient.of(server)
        first, second = published(client, tmp_path, "logged")
        client.change("logged", "yank", version="1.0", reason="größer")
        client.change("logged", "status", status="archived")
        client.change("logged", "delete", version="9.0")
        changes = [line for line in audit_lines(server) if line["event"] == "change"]
        told = [{key: line[key] for key in line if key not in {"time", "request_id", "schema"}} for line in changes]
        shared = {"event": "change", "result": "done", "repo": "demo", "project": "logged", "address": source}
        assert told == [
            shared | {"action": "yank", "files": [first, second], "reason": "größer"},
            shared | {"action": "status", "status": "archived"},
        ]
        assert metric(server, "pywharf_changes_total", "yank", "demo", "changed") == 1
        assert metric(server, "pywharf_changes_total", "delete", "demo", "not-found") == 1


def test_a_release_of_which_one_file_fails(tmp_path):
    """The disk is full at the second file: the answer names the first, and the same call completes the rest."""
    full = Fault("os.replace", r"\.tar\.gz\.meta$", do="ENOSPC", nth=2)  # the first one is that of its upload
    with running(tmp_path, program=PROGRAM, env=environment(full)) as server:
        client = IndexClient.of(server)
        first, second = published(client, tmp_path, "halves")
        reply = client.change("halves", "yank", version="1.0", reason="x")
        assert reply.status == 503, str(reply)
        said = reply.json()
        assert (said["type"], said["changed"]) == ("urn:pywharf:problem:change-incomplete", [first])
        assert "1 files are changed, then this failed: The storage is full" in said["detail"]
        assert reply.header("Retry-After")
        assert yanked(client, "halves") == {first: "x"}
        assert client.change("halves", "yank", version="1.0", reason="x").json()["files"] == [first, second]
        assert yanked(client, "halves") == {first: "x", second: "x"}
