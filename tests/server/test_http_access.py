"""Tests of access entries over HTTP: who gets in, what is seen and published, and when that ends."""

import contextlib
import json
import re
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

from pywharf.core.access.tokens import digest_of, new_token
from support.distributions.wheels import wheel
from support.server.calling import Reply, basic, call, form
from support.server.serving import Server, running
from support.server.upstream import Upstream, upstream
from support.waiting import wait_for

SIMPLE_JSON = "application/vnd.pypi.simple.v1+json"
SIMPLE_HTML = "application/vnd.pypi.simple.v1+html"
READER, PUBLISHER, OURS, ENDED, UNKNOWN, BOTH = (new_token() for _ in range(6))


def entry(repo: str, name: str, token: str, permission: str = "Read", **fields: object) -> str:
    rows = {"name": name, "permission": permission, "token_digests": [digest_of(token)], **fields}
    return f"[[{repo}.access]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in rows.items())


def table(name: str, upstream_url: str = "", *entries: str, extra: str = "") -> str:
    more = f'upstream = {{ url = "{upstream_url}" }}\n' if upstream_url else ""
    head = f'[{name}]\ntype = "file_system"\nread_secret = "{name}-read"\nwrite_secret = "{name}-write"\n'
    return head + more + extra + "".join(entries) + "\n"


def config(upstream_url: str = "") -> str:
    return (
        table(
            "demo",
            upstream_url,
            entry("demo", "reader", READER),
            entry("demo", "publisher", PUBLISHER, "Publish"),
            entry("demo", "ours", OURS, "Publish", projects=["Acme_*"]),
            entry("demo", "ended", ENDED, expires="2020-01-01T00:00:00Z"),
            entry("demo", "see", BOTH, projects=["acme-tool", "other"]),
            entry("demo", "tool", BOTH, "Publish", projects=["acme-tool"]),
        )
        + table("plain")
        + table("open", "", entry("open", "ours", OURS, projects=["acme-*"]), extra="anonymous_read = true\n")
    )


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> Iterator[Upstream]:
    folder = tmp_path_factory.mktemp("index")
    with upstream() as index:
        for name in ("upstream-only", "acme-upstream"):
            index.offer(name, wheel(folder, name))
        yield index


@pytest.fixture(scope="module")
def server(tmp_path_factory, index) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("access")
    with running(folder, ["--access_log=json"], config=config(index.url)) as server:
        server.secrets |= {READER, PUBLISHER, OURS, ENDED, UNKNOWN, BOTH}
        for repo in ("demo", "open"):
            for project in ("acme-tool", "acme-lib", "other"):
                assert upload(server, folder, project, f"{repo}:{repo}-write", repo=repo).status == 200
        yield server


def upload(server: Server, folder: Path, project: str, auth: str, version: str = "1.0", repo: str = "demo") -> Reply:
    file = wheel(folder, project, version)
    body, content_type = form((":action", "file_upload"), ("name", project), ("content", file.name, file.read_bytes()))
    headers = {"Content-Type": content_type}
    return call(f"{server.url}/repo/{repo}/simple/", "POST", auth=auth, headers=headers, body=body)


def get(server: Server, path: str, token: str, *, user: str = "__token__", repo: str = "demo", **headers: str) -> Reply:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return call(f"{server.url}/repo/{repo}/{path}", auth=f"{user}:{token}", headers=sent)


def said_by(reply: Reply) -> bytes:
    """Return the body without the request's id."""
    return re.sub(rb'"request_id":"[^"]*"', b"", reply.body)


def listed(reply: Reply) -> list[str]:
    if reply.header("Content-Type") == SIMPLE_JSON:
        return [project["name"] for project in reply.json()["projects"]]
    return re.findall(r'href="([^"/]+)/"', reply.body.decode())


@pytest.mark.parametrize("user", ["__token__", "demo", "plain", "no-such-repo", "", "Ä b", "x" * 300])
def test_the_password_says_who_it_is_whatever_the_user_name(server, user):
    reply = get(server, "simple/", READER, user=user)
    assert reply.status == 200, reply
    assert get(server, "simple/", UNKNOWN, user=user).status == 401


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_bearer_token_is_taken_where_the_path_names_the_repo(server, scheme):
    headers = {"Authorization": f"{scheme} {READER}"}
    assert call(f"{server.url}/repo/demo/simple/", headers=headers).status == 200
    assert call(f"{server.url}/repo/plain/simple/", headers=headers).status == 401
    assert call(f"{server.url}/simple/", headers=headers).status == 401


def test_without_a_repo_in_the_path_the_user_name_is_the_repo(server):
    assert call(f"{server.url}/simple/acme-tool/", auth=f"demo:{READER}").status == 200
    assert call(f"{server.url}/simple/acme-tool/", auth=f"Demo:{READER}").status == 200
    for user in ("__token__", "plain", ""):
        assert call(f"{server.url}/simple/acme-tool/", auth=f"{user}:{READER}").status == 401


WRONG = (
    UNKNOWN,
    ENDED,
    READER[:-1],
    READER + "x",
    READER[:-8] + "AAAAAAAA",
    READER.upper(),
    "pywharf_",
    f"sha256:{READER}",
    digest_of(READER),
)


@pytest.mark.parametrize("secret", WRONG, ids=range(len(WRONG)))
@pytest.mark.parametrize("user", ["demo", "__token__"])
def test_each_refusal_is_the_same_whatever_the_reason_and_the_repo(server, secret, user):
    path = "simple/acme-tool/"
    if user == "demo":
        replies = [get(server, path, secret, user=repo, repo=repo) for repo in ("demo", "plain", "no-such-repo")]
    else:
        replies = [
            get(server, path, secret, user=user, repo=repo) for repo in ("demo", "plain", "no-such-repo", "a%20b")
        ]
    said = {(reply.status, said_by(reply), reply.header("WWW-Authenticate"), reply.header("Vary")) for reply in replies}
    assert len(said) == 1, said
    (reply,) = said
    assert reply[0] == 401
    assert b"The repo's name or the secret is wrong." in reply[1]


def test_an_identity_that_no_entry_of_the_repo_names_is_no_client_of_it(server):
    replies = [get(server, "simple/", READER, repo=repo) for repo in ("plain", "no-such-repo")]
    assert {reply.status for reply in replies} == {401}
    assert len({said_by(reply) for reply in replies}) == 1


def test_the_repo_s_own_secrets_work_as_before(server):
    assert get(server, "simple/", "demo-read", user="demo").status == 200
    assert get(server, "simple/", "demo-read", user="__token__").status == 401
    assert get(server, "simple/", "demo-read", user="plain").status == 401
    assert call(f"{server.url}/repo/demo/simple/", headers={"Authorization": "Bearer demo-read"}).status == 401


PAGES = [
    ("simple/acme-tool/", 200),
    ("simple/acme-lib/", 200),
    ("simple/Acme.Tool/", 301),
    ("simple/other/", 404),
    ("simple/nowhere/", 404),
    ("simple/upstream-only/", 404),
    ("simple/acme-upstream/", 200),
    ("simple/acme-tool/acme_tool-1.0-py3-none-any.whl", 200),
    ("simple/acme-tool/acme_tool-1.0-py3-none-any.whl.metadata", 200),
    ("simple/other/other-1.0-py3-none-any.whl", 404),
    ("simple/other/other-1.0-py3-none-any.whl.metadata", 404),
    ("simple/acme-tool/other-1.0-py3-none-any.whl", 404),
    ("simple/acme-tool/../other/other-1.0-py3-none-any.whl", 404),
    ("simple/acme-tool/%2e%2e/other/other-1.0-py3-none-any.whl", 404),
]


@pytest.mark.parametrize(("path", "status"), PAGES)
@pytest.mark.parametrize("accept", [SIMPLE_JSON, SIMPLE_HTML])
def test_projects_bound_what_is_seen(server, index, path, status, accept):
    reply = get(server, path, OURS, Accept=accept)
    assert reply.status == status, reply
    if status == 404 and path.startswith(("simple/other/", "simple/upstream-only/")):
        name = path.split("/")[1]
        missing = get(server, path.replace(name, "nowhere"), OURS, Accept=accept)
        assert said_by(reply).replace(name.encode(), b"nowhere") == said_by(missing)
        assert {name for name, _ in reply.headers.items()} == {name for name, _ in missing.headers.items()}
    assert not index.asked("nowhere")
    assert not index.asked("upstream-only"), "a hidden name was looked up"


@pytest.mark.parametrize("accept", [SIMPLE_JSON, SIMPLE_HTML])
def test_the_root_lists_what_is_seen(server, accept):
    everything = get(server, "simple/", READER, Accept=accept)
    ours, both = get(server, "simple/", OURS, Accept=accept), get(server, "simple/", BOTH, Accept=accept)
    assert set(listed(everything)) >= {"acme-lib", "acme-tool", "other"}
    assert [name for name in listed(ours) if not name.startswith("acme-new")] == ["acme-lib", "acme-tool"]
    assert listed(both) == ["acme-tool", "other"]
    assert len({reply.header("ETag") for reply in (everything, ours, both)}) == 3
    for reply in (everything, ours, both):
        assert reply.header("Cache-Control") == "private, max-age=0, must-revalidate"
        assert reply.header("Vary") == "Accept, Accept-Encoding, Authorization, Cookie"
    again = get(server, "simple/", OURS, Accept=accept, If_None_Match=str(ours.header("ETag")))
    assert again.status == 304
    other = get(server, "simple/", OURS, Accept=accept, If_None_Match=str(everything.header("ETag")))
    assert other.status == 200


def test_projects_bound_what_is_published(server, tmp_path):
    assert upload(server, tmp_path, "acme-new", f"__token__:{OURS}").status == 200
    assert upload(server, tmp_path, "Acme.New2", f"demo:{OURS}").status == 200
    reply = upload(server, tmp_path, "new", f"__token__:{OURS}")
    assert (reply.status, reply.json()["detail"]) == (
        403, "The access entry 'ours' does not allow publishing to the project 'new'."
    )  # fmt: skip
    reply = upload(server, tmp_path, "new", f"__token__:{READER}")
    assert (reply.status, reply.json()["detail"]) == (403, "The access entry 'reader' allows reading only.")
    reply = upload(server, tmp_path, "other", f"__token__:{BOTH}", "2.0")
    assert (reply.status, reply.json()["detail"]) == (
        403, "The access entries 'see,tool' do not allow publishing to the project 'other'."
    )  # fmt: skip
    assert upload(server, tmp_path, "acme-tool", f"__token__:{BOTH}", "2.0").status == 200
    assert upload(server, tmp_path, "new", f"__token__:{UNKNOWN}").status == 401
    assert get(server, "simple/new/", READER).status == 404


def test_the_project_is_checked_before_the_file_is_sent(server):
    """The server answers although most of the body never comes."""
    body, content_type = form(("name", "new"), ("content", "new-1.0-py3-none-any.whl", b"x" * 100_000))
    with sending(server, f"__token__:{OURS}", content_type, len(body) + 10_000_000) as connection:
        connection.sendall(body[:2000])
        answer = connection.makefile("rb").readline()
    assert answer.startswith(b"HTTP/1.1 403 The access entry 'ours' does not allow"), answer


@contextlib.contextmanager
def sending(server: Server, auth: str, content_type: str, length: int) -> Iterator[socket.socket]:
    """Begin an upload whose body of that length the test sends itself."""
    head = (
        "POST /repo/demo/simple/ HTTP/1.1\r\nHost: here\r\nConnection: close\r\n"
        f"Authorization: {basic(auth)}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
    )
    address = urlsplit(server.url)
    with socket.create_connection((str(address.hostname), address.port), 30) as connection:
        connection.sendall(head.encode())
        yield connection


@pytest.mark.parametrize("action", ["yank", "unyank", "delete", "status"])
def test_projects_bound_what_is_changed(server, action):
    bodies = {"yank": {"versions": ["9"]}, "unyank": {"versions": ["9"]}, "delete": {"versions": ["9"]}}
    body = json.dumps(bodies.get(action, {"status": "active"})).encode()

    def change(project: str, token: str) -> Reply:
        headers = {"Content-Type": "application/json"}
        path = f"{server.url}/repo/demo/-/projects/{project}/{action}"
        return call(path, "POST", auth=f"__token__:{token}", headers=headers, body=body)

    assert change("other", OURS).status == 403
    assert "'ours'" in change("Other", OURS).json()["detail"]
    assert change("nowhere", OURS).status == 403
    assert change("other", BOTH).status == 403
    assert change("acme-tool", READER).status == 403
    assert change("acme-tool", UNKNOWN).status == 401
    assert change("acme-lib", OURS).status in {200, 400, 404}


def test_an_open_repo_shows_everything_to_identities_too(server):
    assert get(server, "simple/other/", OURS, repo="open").status == 200
    assert listed(get(server, "simple/", OURS, repo="open", Accept=SIMPLE_JSON)) == ["acme-lib", "acme-tool", "other"]
    assert get(server, "simple/other/", UNKNOWN, repo="open").status == 200
    assert get(server, "simple/other/", READER[:-1] + "-", repo="open").status == 401


def test_the_path_of_a_repo_without_entries_knows_no_token(server):
    assert get(server, "simple/", READER, repo="plain", user="plain").status == 401


def sign_in(server: Server, token: str, repo: str = "demo") -> Reply:
    body = urlencode({"pkg_repo_name": repo, "pkg_repo_secret_raw": token}).encode()
    return call(f"{server.url}/login", "POST", headers={"Content-Type": "application/x-www-form-urlencoded"}, body=body)


def cookie_of(reply: Reply) -> str:
    cookie = reply.header("Set-Cookie")
    assert cookie is not None, reply
    return cookie.partition(";")[0]


def test_a_browser_signs_in_with_a_token(server):
    reply = sign_in(server, OURS)
    assert reply.status == 303
    cookie = cookie_of(reply)
    assert len(cookie) < 1024
    assert OURS not in cookie

    def status(path: str) -> int:
        return call(f"{server.url}/{path}", headers={"Cookie": cookie}).status

    assert [status(f"repo/demo/simple/{name}/") for name in ("acme-tool", "other")] == [200, 404]
    assert [status(f"simple/{name}/") for name in ("acme-tool", "other")] == [200, 404]
    assert status("repo/plain/simple/") == 401
    assert status("repo/open/simple/other/") == 200
    assert b"You are signed in" in call(f"{server.url}/", headers={"Cookie": cookie}).body
    assert call(f"{server.url}/logout", headers={"Cookie": cookie}).status == 303
    assert status("repo/demo/simple/acme-tool/") == 401


def test_a_wrong_token_signs_nobody_in(server):
    pages = [sign_in(server, token, repo) for repo in ("demo", "no-such") for token in (UNKNOWN, ENDED, READER[:-1])]
    assert {reply.status for reply in pages} == {401}
    assert not any(reply.header("Set-Cookie") for reply in pages)


@pytest.mark.parametrize("change", ["removed", "changed", "expired"])
def test_what_an_entry_grants_ends_with_it(tmp_path, change):
    """Requests and sessions alike, within two seconds of the configuration."""
    ends = datetime.now(UTC) + timedelta(hours=1)
    texts = {
        "before": table("demo", "", entry("demo", "ci", OURS, expires=ends.isoformat())),
        "removed": table("demo"),
        "changed": table("demo", "", entry("demo", "ci", READER, expires=ends.isoformat())),
        "expired": table("demo", "", entry("demo", "ci", OURS, expires=(ends - timedelta(hours=2)).isoformat())),
    }
    with running(tmp_path, config=texts["before"]) as server:
        cookie = cookie_of(sign_in(server, OURS))
        other = cookie_of(sign_in(server, "demo-read"))

        def statuses() -> tuple[int, int]:
            return get(server, "simple/", OURS).status, call(server.repo(), headers={"Cookie": cookie}).status

        assert statuses() == (200, 200)
        (tmp_path / "config.toml").write_text(texts[change])
        wait_for(lambda: statuses() == (401, 401), "the end of what the entry granted")
        assert call(server.repo(), headers={"Cookie": other}).status == 200
        (tmp_path / "config.toml").write_text(texts["before"])
        wait_for(lambda: statuses() == (200, 200), "the entry as it was")


def test_an_entry_that_changes_otherwise_ends_only_its_sessions(tmp_path):
    before = entry("demo", "ci", OURS, projects=["acme-*"])
    with running(tmp_path, config=table("demo", "", before)) as server:
        cookie = cookie_of(sign_in(server, OURS))

        def statuses() -> tuple[int, int]:
            return get(server, "simple/", OURS).status, call(server.repo(), headers={"Cookie": cookie}).status

        assert statuses() == (200, 200)
        (tmp_path / "config.toml").write_text(table("demo", "", before, entry("demo", "more", OURS)))
        wait_for(lambda: get(server, "index_mtime/", OURS).status, "an answer")
        wait_for(lambda: get(server, "simple/x/", OURS).status == 404, "the new entry")
        assert statuses() == (200, 200)
        (tmp_path / "config.toml").write_text(table("demo", "", entry("demo", "ci", OURS)))
        wait_for(lambda: statuses() == (200, 401), "the end of the session")


def test_an_entry_removed_while_a_file_arrives_publishes_nothing(tmp_path):
    with running(tmp_path, config=table("demo", "", entry("demo", "ci", OURS, "Publish"))) as server:
        file = wheel(tmp_path, "acme")
        body, content_type = form((":action", "file_upload"), ("content", file.name, file.read_bytes()))
        with sending(server, f"x:{OURS}", content_type, len(body)) as connection:
            connection.sendall(body[:-10])
            (tmp_path / "config.toml").write_text(table("demo"))
            wait_for(lambda: get(server, "simple/", OURS).status == 401, "the new configuration")
            connection.sendall(body[-10:])
            answer = connection.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 403 "), answer
        assert get(server, "simple/acme/", "demo-read", user="demo").status == 404
