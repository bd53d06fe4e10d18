"""Browser sessions: how they end, and where they are valid."""

import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from support.server.calling import Reply, call
from support.server.serving import Server, running
from support.waiting import stretched, wait_for

KEY = "a-key-that-replicas-share"
TLS = {"X-Forwarded-Proto": "https"}
SEEN_S = 2.0
"""Seconds within which all servers that share the records know that a session has ended."""


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("sessions")) as server:
        yield server


def sign_in(server: Server, repo: str = "demo", headers: dict[str, str] | None = None) -> str:
    """Sign in and return the cookie as a browser sends it back."""
    body = urlencode({"pkg_repo_name": repo, "pkg_repo_secret_raw": f"{repo}-read"}).encode()
    sent = {"Content-Type": "application/x-www-form-urlencoded"} | (headers or {})
    cookie = call(f"{server.url}/login", "POST", headers=sent, body=body).header("Set-Cookie")
    assert cookie is not None
    return cookie.partition(";")[0]


def sign_out(server: Server, cookie: str) -> Reply:
    return call(f"{server.url}/logout", headers={"Cookie": cookie})


def reads(server: Server, cookie: str, repo: str = "demo") -> int:
    return call(f"{server.url}/repo/{repo}/simple/", headers={"Cookie": cookie}).status


def key_flag(folder: Path) -> str:
    key = folder / "key"
    key.write_text(KEY)
    return f"--session_secret={key}"


def test_signing_out_ends_the_session_and_no_other(server):
    """It ends even for a client that has kept the cookie."""
    cookie, other = sign_in(server), sign_in(server)
    assert (reads(server, cookie), reads(server, other)) == (200, 200)
    reply = sign_out(server, cookie)
    assert (reply.status, reply.header("Location")) == (303, "./login"), reply
    assert 'pywharf_session="";' in str(reply.header("Set-Cookie"))
    assert (reads(server, cookie), reads(server, other)) == (401, 200)
    assert sign_out(server, cookie).status == 303
    assert reads(server, sign_in(server)) == 200
    start = call(f"{server.url}/", headers={"Cookie": cookie})
    assert b"You are signed in" not in start.body


def test_it_ends_on_every_worker_and_replica_of_the_root(tmp_path):
    flags = [key_flag(tmp_path)]
    with (
        running(tmp_path / "a", [*flags, "--workers=2"], root=tmp_path / "root") as first,
        running(tmp_path / "b", flags, root=tmp_path / "root") as second,
    ):
        cookie, other = sign_in(first), sign_in(second)
        assert {reads(one, cookie) for one in (first, second) for _ in range(8)} == {200}
        assert sign_out(second, cookie).status == 303
        ended = time.monotonic()
        wait_for(lambda: {reads(one, cookie) for one in (first, second) for _ in range(8)} == {401}, "the end")
        assert time.monotonic() - ended < stretched(SEEN_S + 3)
        time.sleep(max(0, ended + SEEN_S - time.monotonic()))
        assert {reads(one, cookie) for one in (first, second) for _ in range(20)} == {401}
        assert {reads(one, other) for one in (first, second) for _ in range(8)} == {200}


def test_it_stays_ended_when_the_server_starts_again(tmp_path):
    flags = [key_flag(tmp_path)]
    with running(tmp_path / "a", flags, root=tmp_path / "root") as server:
        cookie, other = sign_in(server), sign_in(server)
        sign_out(server, cookie)
        server.process.kill()
        server.process.wait()
    with running(tmp_path / "b", flags, root=tmp_path / "root") as server:
        assert (reads(server, cookie), reads(server, other)) == (401, 200)


def test_what_is_recorded_is_bounded(tmp_path):
    """Past the bound, all sessions of that repo end, but no other repo's. Expired records are removed."""
    with running(tmp_path, ["--auth_read_expires=600"]) as server:
        kept, others = sign_in(server), sign_in(server, "other")
        record = server.root / "sessions/demo.json"
        sign_out(server, sign_in(server))
        assert record.stat().st_size < 200
        many = ",".join(f'"{number:022}":{int(time.time()) + 600}' for number in range(999))
        record.write_text(f'{{"before":0,"sessions":{{{many}}}}}')
        wait_for(lambda: reads(server, kept) == 200, "a look at the records")
        time.sleep(1.1)  # so that the sessions that end now were issued in an earlier second than later ones
        sign_out(server, sign_in(server))
        sign_out(server, sign_in(server))
        assert record.stat().st_size < 200
        assert (reads(server, kept), reads(server, others, "other")) == (401, 200)
        time.sleep(1.1)
        assert reads(server, sign_in(server)) == 200
        past = ",".join(f'"{number:022}":1000' for number in range(999))
        record.write_text(f'{{"before":0,"sessions":{{{past}}}}}')
        sign_out(server, sign_in(server))
        assert record.stat().st_size < 200


def test_a_session_is_not_let_in_where_its_end_cannot_be_known(tmp_path):
    with running(tmp_path) as server:
        cookie = sign_in(server)
        (server.root / "sessions").mkdir(exist_ok=True)
        (server.root / "sessions/demo.json").write_text("nonsense")
        wait_for(lambda: reads(server, cookie) == 503, "a look at the records")
        reply = sign_out(server, cookie)
        assert (reply.status, "sessions/demo.json" in reply.json()["detail"]) == (503, True), reply
        assert reply.header("Set-Cookie") is None
        assert call(server.repo(), auth="demo:demo-read").status == 200
        (server.root / "sessions/demo.json").unlink()
        wait_for(lambda: reads(server, cookie) == 200, "a look at the records")


def test_strangers_record_nothing(server):
    before = sorted(path.name for path in (server.root / "sessions").glob("*"))
    for cookie in ("pywharf_session=x.y", "pywharf_session=", "other=1", f"pywharf_session={'a' * 5000}"):
        assert sign_out(server, cookie).status == 303
    assert sorted(path.name for path in (server.root / "sessions").glob("*")) == before


def test_behind_tls_the_cookie_is_this_hosts_alone(server):
    """A cookie set over plain HTTP, or by another host of the domain, is not valid there."""
    cookie = sign_in(server, headers=TLS)
    assert cookie.startswith("__Host-pywharf_session=")
    value = cookie.partition("=")[2]
    table = [
        (cookie, TLS, 200),
        (f"pywharf_session={value}", TLS, 401),
        (cookie, {}, 401),
        (f"a=b; {cookie}; c=d", TLS, 200),
        ("; ".join(f"c{number}=x" for number in range(900)) + f"; {cookie}", TLS, 200),
    ]
    for sent, headers, status in table:
        reply = call(f"{server.url}/repo/demo/simple/", headers={"Cookie": sent, **headers})
        assert reply.status == status, f"{sent[:40]}: {reply}"


@pytest.mark.parametrize("path", ["/", "/login", "/repo/demo/simple/", "/nowhere", "/healthz"])
def test_a_browser_that_speaks_tls_goes_on_to(server, path):
    assert call(server.url + path, headers=TLS).header("Strict-Transport-Security") == "max-age=31536000"
    assert call(server.url + path).header("Strict-Transport-Security") is None
