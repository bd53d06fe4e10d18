"""Tests of POST /initialize/, which replaces a running server's configuration unless it comes from a file."""

import http.client
import os
import signal
import threading
from urllib.parse import urlencode

import psutil
import pytest

from support.distributions.wheels import wheel
from support.server.calling import FormField, Reply, ask, basic, call, connect, form
from support.server.serving import Server, running
from support.waiting import wait_for

SECRET = "initialize-secret"
CONFIG = """
[first]
type = "file_system"
read_secret = "first-read"
write_secret = "first-write"
"""
OTHER = CONFIG.replace("first", "second")
ADMIN = '[first]\ntype = "file_system"\nraw = "first-admin"\n'
URLENCODED = "application/x-www-form-urlencoded"


def flags(folder, *more: str) -> list[str]:
    (folder / "initialize-key").write_text(SECRET + "\n")
    return [f"--initialize_secret={folder / 'initialize-key'}", *more]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("initialize")
    with running(folder, flags(folder), config=None) as server:
        server.secrets |= {SECRET, "first-read", "first-write", "second-read", "first-admin"}
        yield server


def submit(server: Server, *fields: FormField, path="/initialize/", authorization=f"Bearer {SECRET}") -> Reply:
    body, content_type = form(*fields)
    headers = {"Content-Type": content_type}
    if authorization is not None:
        headers["Authorization"] = authorization
    return call(server.url + path, "POST", headers=headers, body=body)


def serves(server: Server, repo: str) -> bool:
    return call(f"{server.url}/repo/{repo}/simple/", auth=f"{repo}:{repo}-read").status == 200


@pytest.mark.parametrize("path", ["/initialize/", "/initialize"])
def test_it_is_off_unless_a_secret_is_set(tmp_path, path):
    with running(tmp_path, config=None) as server:
        for authorization in (None, f"Bearer {SECRET}", basic(f"x:{SECRET}")):
            reply = submit(server, ("config", CONFIG), path=path, authorization=authorization)
            assert reply.status == 404, reply
            assert "--initialize_secret" in reply.json()["detail"]
        assert not serves(server, "first")


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong-secret",
        f"Bearer {SECRET}x",
        f"Bearer {SECRET[:-1]}",
        f"Token {SECRET}",
        SECRET,
        basic("x:wrong-secret"),
        basic(SECRET),
        "Basic !!!",
        "Basic /w==",
    ],
)
def test_a_wrong_secret_changes_nothing(server, authorization):
    for path in ("/initialize", "/initialize/"):
        reply = submit(server, ("config", CONFIG.replace("first", "stranger")), path=path, authorization=authorization)
        assert reply.status == 401, reply
        assert reply.header("WWW-Authenticate")
    assert not serves(server, "stranger")


@pytest.mark.parametrize(
    ("path", "authorization"),
    [
        ("/initialize", f"Bearer {SECRET}"),
        ("/initialize/", f"bearer {SECRET}"),
        ("/initialize/", basic(f"anyone:{SECRET}")),
    ],
)
def test_a_configuration_is_served_from_the_answer_on(server, authorization, path):
    reply = submit(server, ("config", CONFIG), ("admin_secret", ADMIN), path=path, authorization=authorization)
    assert (reply.status, reply.body) == (200, b"Done\n"), reply
    assert serves(server, "first")
    # ... and another one replaces it
    assert submit(server, ("config", OTHER), path=path, authorization=authorization).status == 200
    assert serves(server, "second")
    assert not serves(server, "first")


def test_forms_and_files(server):
    """The requests are those of the original's two examples with curl."""
    body = urlencode({"config": CONFIG, "admin_secret": ADMIN}).encode()
    headers = {"Content-Type": URLENCODED, "Authorization": f"Bearer {SECRET}"}
    assert call(f"{server.url}/initialize/", "POST", headers=headers, body=body).status == 200
    assert serves(server, "first")
    files: list[FormField] = [("config", "config.toml", OTHER.encode()), ("admin_secret", "admin.toml", b"")]
    assert submit(server, *files).status == 200
    assert serves(server, "second")


BAD = [
    ("no config", [("admin_secret", ADMIN)], "config"),
    ("empty config", [("config", "")], "config"),
    ("no TOML", [("config", "[first\n")], "TOML"),
    ("admin secrets that are no TOML", [("config", CONFIG), ("admin_secret", "=")], "admin_secret"),
    ("an unknown backend", [("config", '[a]\ntype = "tape"\n')], "'tape'"),
    ("an unknown field", [("config", CONFIG + "colour = 1\n")], "colour"),
    ("not UTF-8", [("config", "config.toml", b"\xff\xfe")], "UTF-8"),
    ("another type in the admin secrets", [("config", CONFIG), ("admin_secret", ADMIN.replace("file_", "x_"))], "type"),
    ("a secret of the wrong type", [("config", '[a]\ntype = "file_system"\nread_secret = 12345678\n')], "read_secret"),
    ("a secret in a file", [("config", '[a]\ntype = "file_system"\nread_secret = {file = "/etc/passwd"}\n')], "file"),
    ("a secret in a variable", [("config", '[a]\ntype = "file_system"\nread_secret = {env = "HOME"}\n')], "variable"),
    ("a write secret in a file", [("config", '[a]\ntype = "file_system"\nwrite_secret = {file = "/x"}\n')], "file"),
    ("an admin secret in a file", [("config", CONFIG), ("admin_secret", ADMIN.replace("raw", "file"))], "file"),
    ("an admin secret in a variable", [("config", CONFIG), ("admin_secret", ADMIN.replace("raw", "env"))], "variable"),
    ("a revision", [("config", 'credentials_revision = "1"\ncredentials_revision_file = "/etc/passwd"\n')], "revision"),
    ("policies", [("config", 'policies_file = "/etc/passwd"\n')], "policies_file is not taken"),
]


@pytest.mark.parametrize("number", range(len(BAD)), ids=[case[0] for case in BAD])
def test_a_bad_configuration_is_refused_and_the_last_one_stays(server, number):
    _, fields, says = BAD[number]
    if not serves(server, "first"):
        assert submit(server, ("config", CONFIG)).status == 200
    reply = submit(server, *fields)
    assert reply.status == 400, reply
    assert says in reply.json()["detail"], reply
    for secret in ("first-read", "first-admin", "12345678", "root:"):
        assert secret not in reply.body.decode(), reply
    assert serves(server, "first")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b"{}"),
        ("application/toml", CONFIG.encode()),
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=x", b"x"),
        (URLENCODED + "; charset=rot99", b"config=x"),
    ],
)
def test_what_is_no_form_is_refused(server, content_type, body):
    headers = {"Content-Type": content_type, "Authorization": f"Bearer {SECRET}"}
    reply = call(f"{server.url}/initialize/", "POST", headers=headers, body=body)
    assert reply.status == 400, reply
    assert "form" in reply.json()["detail"]


def test_it_is_refused_where_the_configuration_comes_from_a_file(tmp_path):
    with running(tmp_path, flags(tmp_path), config=CONFIG) as server:
        reply = submit(server, ("config", OTHER))
        assert reply.status == 403, reply
        assert "file" in reply.reason
        assert submit(server, ("config", OTHER), authorization="Bearer wrong-secret").status == 401
        assert serves(server, "first")
        assert not serves(server, "second")


def test_it_is_refused_where_only_the_admin_secrets_come_from_a_file(tmp_path):
    admin = tmp_path / "admin.toml"
    admin.write_text(ADMIN)
    with running(tmp_path, flags(tmp_path, f"--admin_secret={admin}"), config=None) as server:
        assert submit(server, ("config", CONFIG)).status == 403


def test_it_replaces_a_configuration_given_as_text(tmp_path):
    more = ["--config_or_admin_secret_can_be_text", f"--config={CONFIG}", f"--initialize_secret={SECRET}"]
    with running(tmp_path, more, config=None) as server:
        assert serves(server, "first")
        reply = submit(server, ("config", OTHER))
        assert reply.status == 200, reply
        assert serves(server, "second")
        assert not serves(server, "first")


def _ports(worker: psutil.Process) -> set[int]:
    """Return the ports of the clients that are connected to the worker."""
    return {getattr(c.raddr, "port", 0) for c in worker.net_connections("tcp")}


def connections_to_each_worker(server: Server, count: int) -> dict[int, http.client.HTTPConnection]:
    """Return a connection to each worker by its pid, which is looked up by the connection's port."""
    found: dict[int, http.client.HTTPConnection] = {}
    for _ in range(500):
        connection = connect(server.url)
        assert ask(connection, f"{server.url}/healthz").status == 200
        port = connection.sock.getsockname()[1]
        workers = psutil.Process(server.process.pid).children()
        owner = next(w.pid for w in workers if port in _ports(w))
        if owner in found:
            connection.close()
        else:
            found[owner] = connection
        if len(found) == count:
            return found
    msg = f"only the workers {sorted(found)} took connections"
    raise AssertionError(msg)


def test_every_worker_serves_it_from_the_answer_on(tmp_path):
    with running(tmp_path, flags(tmp_path, "--workers=3"), config=None) as server:
        server.secrets |= {SECRET, "first-read", "first-write", "second-read"}
        connections = connections_to_each_worker(server, 3)
        try:
            for text, repo, gone in (
                (CONFIG, "first", "second"),
                (OTHER, "second", "first"),
                (CONFIG, "first", "second"),
            ):
                assert submit(server, ("config", text)).status == 200
                for pid, connection in connections.items():
                    reply = ask(connection, f"{server.url}/repo/{repo}/simple/", auth=f"{repo}:{repo}-read")
                    assert reply.status == 200, f"worker {pid} does not serve {repo}: {reply}"
                    reply = ask(connection, f"{server.url}/repo/{gone}/simple/", auth=f"{gone}:{gone}-read")
                    assert reply.status == 401, f"worker {pid} still serves {gone}: {reply}"
        finally:
            for connection in connections.values():
                connection.close()
        # A dead worker is replaced by one with the submitted configuration, and nothing waits for the dead one.
        victim = next(iter(connections))
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: len(psutil.Process(server.process.pid).children()) == 3, "the worker to be replaced")
        assert submit(server, ("config", OTHER)).status == 200
        for _ in range(20):
            assert serves(server, "second")


def test_an_upload_of_one_worker_is_served_by_the_others(tmp_path):
    with running(tmp_path, flags(tmp_path, "--workers=3"), config=None) as server:
        assert submit(server, ("config", CONFIG)).status == 200
        file = wheel(tmp_path, "shared")
        body, content_type = form(("content", file.name, file.read_bytes()))
        url = f"{server.url}/repo/first/simple/"
        headers = {"Content-Type": content_type}
        assert call(url, "POST", auth="first:first-write", headers=headers, body=body).status == 200
        connections = connections_to_each_worker(server, 3)
        try:
            for connection in connections.values():
                reply = ask(connection, f"{url}shared/{file.name}", auth="first:first-read")
                assert reply.body == file.read_bytes(), reply
        finally:
            for connection in connections.values():
                connection.close()


def test_submissions_at_the_same_time_are_taken_one_after_the_other(tmp_path):
    with running(tmp_path, flags(tmp_path, "--workers=2"), config=None) as server:
        replies: list[Reply] = []
        threads = [
            threading.Thread(target=lambda t=text: replies.append(submit(server, ("config", t))))
            for text in (CONFIG, OTHER) * 2
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [reply.status for reply in replies] == [200] * 4, [str(r) for r in replies]
        assert serves(server, "first") != serves(server, "second")
