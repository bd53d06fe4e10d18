"""Wrong secrets of an address are braked at a repo; right ones never are, whoever shares the address."""

import itertools
import threading
import time
from urllib.parse import urlencode

from support.server.audit import audit_lines
from support.server.calling import ask, call, connect
from support.server.guessing import FREE, exhaust
from support.server.serving import running


def guess(server, path="/repo/demo/simple/", name="demo"):
    return call(server.url + path, auth=f"{name}:hidden")


def test_one_address_at_one_repo_is_braked(tmp_path):
    """Several workers count together."""
    with running(tmp_path, ["--workers=2", "--access_log=off"]) as server:
        exhaust(lambda: guess(server).status)
        reply = guess(server)
        assert (reply.status, reply.reason[:19]) == (429, "The secret is wrong")
        assert 1 <= int(reply.header("Retry-After") or "") <= 10
        assert reply.header("Connection") == "close"
        assert reply.json()["type"] == "urn:pywharf:problem:too-many-wrong-secrets"
        # Nobody is locked out: a right secret, another repo, a first request of pip, one without a secret.
        for secret in ("demo-read", "demo-write"):
            assert call(server.repo(), auth=f"demo:{secret}").status == 200
        assert guess(server, "/repo/other/simple/", "other").status == 401
        assert call(server.repo(), auth="demo:").status == 401
        assert call(server.repo()).status == 401
        # The same repo by another way.
        assert guess(server, "/simple/", "DEMO").status == 429


def test_an_unknown_repo_is_braked_alike(tmp_path):
    with running(tmp_path, ["--access_log=off"]) as server:
        exhaust(lambda: guess(server, "/repo/unknown/simple/", "unknown").status)
        assert guess(server, "/repo/unknown/simple/", "unknown").status == 429
        assert guess(server, "/repo/demo/simple/").status == 401


def test_no_number_of_empty_passwords_counts(tmp_path):
    with running(tmp_path, ["--access_log=off"]) as server:
        connection = connect(server.url)
        for user in ("demo:", "__token__:", "other:") * FREE:
            assert ask(connection, server.repo(), auth=user).status == 401
        connection.close()
        assert guess(server).status == 401
        assert len(audit_lines(server)) == 1


def test_a_right_secret_is_not_slowed_while_others_guess(tmp_path):
    """More guesses at a time than may wait; the right ones are answered meanwhile, on their own connection."""
    with running(tmp_path, ["--access_log=off"]) as server:
        exhaust(lambda: guess(server).status)
        waits: list[float] = []

        def guesses() -> None:
            began = time.monotonic()
            assert guess(server).status == 429
            waits.append(time.monotonic() - began)

        threads = [threading.Thread(target=guesses) for _ in range(16)]
        for thread in threads:
            thread.start()
        connection = connect(server.url)
        answered = 0
        while any(thread.is_alive() for thread in threads):
            assert ask(connection, server.repo(), auth="demo:demo-read").status == 200
            answered += 1
        connection.close()
        for thread in threads:
            thread.join()
        assert answered > 20
        assert sum(wait >= 1 for wait in waits) >= 8


def test_the_login_form_and_initialize_are_braked(tmp_path):
    secret = tmp_path / "initialize"
    secret.write_text("initialize-secret")
    with running(tmp_path, ["--access_log=off", f"--initialize_secret={secret}"]) as server:

        def login(password):
            body = urlencode({"pkg_repo_name": "demo", "pkg_repo_secret_raw": password}).encode()
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            return call(f"{server.url}/login", "POST", headers=headers, body=body)

        def initialize(auth):
            return call(f"{server.url}/initialize/", "POST", auth=auth, body=b"").status

        exhaust(lambda: login("hidden").status)
        reply = login("hidden")
        assert (reply.status, reply.header("Connection")) == (429, "close")
        assert int(reply.header("Retry-After") or "") >= 1
        assert "too many wrong ones" in reply.body.decode()
        assert login("").status == 401
        assert login("demo-read").status == 303
        names = itertools.count()
        exhaust(lambda: initialize(f"x{next(names)}:hidden"))  # the user name means nothing here
        assert initialize("x:initialize-secret") in {400, 403}
