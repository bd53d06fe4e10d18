"""The internal port: what a server reports to the cluster, and that it does so until it ends."""

import contextlib
import signal
import threading
import time

import psutil
import pytest

from pywharf.config.repo_config import config_digest
from support.distributions.wheels import wheel
from support.server.calling import basic, call, connect, dial, form, read_to_end, request_head, statuses
from support.server.serving import CONFIG, Server, running
from support.waiting import wait_for

THIRD = '\n[third]\ntype = "file_system"\nread_secret = "third-read"\n'

NOTHING_WRONG = {
    "broken": {},
    "policies": {},
    "access": True,
    "upstreams": [],
    "sources": True,
    "refused": "",
    "reviews_forbidden": False,
}


def report(server: Server) -> dict[str, object]:
    reply = call(f"{server.internal_url}/config")
    assert (reply.status, reply.header("Content-Type")) == (200, "application/json"), reply
    found: dict[str, object] = reply.json()
    return found


def test_each_port_has_its_own(tmp_path):
    with running(tmp_path, ["--internal_port=0"]) as server:
        answered = {
            path: (call(server.url + path).status, call(server.internal_url + path).status)
            for path in ("/healthz", "/readyz", "/metrics", "/config", "/simple/", "/login")
        }
        assert answered == {
            "/healthz": (200, 200),
            "/readyz": (200, 200),
            "/metrics": (404, 200),
            "/config": (404, 200),
            "/simple/": (401, 404),
            "/login": (200, 404),
        }
        assert report(server) == {"digest": config_digest(CONFIG, ""), **NOTHING_WRONG}
        reply = call(f"{server.internal_url}/metrics")
        assert b"pywharf_config_valid 1.0" in reply.body
        assert (reply.header("Server") or "").startswith("pywharf/")


def test_the_report_follows_what_is_served(tmp_path):
    config, revision = tmp_path / "config.toml", tmp_path / "revision"
    waiting = f'credentials_revision = "two"\ncredentials_revision_file = ["{revision}"]\n{CONFIG}'
    with running(tmp_path, ["--internal_port=0"], config=waiting) as server:
        # A part that has yet to arrive is not a refusal.
        assert report(server) == {"digest": "", **NOTHING_WRONG}
        assert call(f"{server.internal_url}/readyz").status == 503
        assert call(f"{server.internal_url}/healthz").status == 200
        revision.write_text("two")
        wait_for(lambda: report(server)["digest"] == config_digest(waiting, ""), "the first one to be reported")
        config.write_text("[demo")
        wait_for(lambda: "is refused" in server.text(), "the refusal")
        assert report(server)["digest"] == config_digest(waiting, "")
        wait_for(lambda: "config.toml" in str(report(server)["refused"]), "the reason")
        config.write_text(CONFIG + THIRD)
        wait_for(lambda: report(server)["digest"] == config_digest(CONFIG + THIRD, ""), "the second one to be reported")
        wait_for(lambda: not report(server)["refused"], "the reason to go")
        assert call(server.repo("third"), auth="third:third-read").status == 200


def test_the_report_names_broken_repos(tmp_path):
    """A repo is broken if its storage fails or it cannot be opened. The other repos are served."""
    blocked = tmp_path / "root" / "cache" / "other"
    blocked.parent.mkdir(parents=True)
    blocked.write_text("a file where the repo's folder should be")
    with running(tmp_path, ["--internal_port=0"]) as server:
        broken = report(server)["broken"]
        assert isinstance(broken, dict)
        assert broken.keys() == {"other"}
        assert broken["other"]["code"] == "backend-unavailable"
        assert str(tmp_path) not in broken["other"]["message"]
        blocked.unlink()
        wait_for(lambda: report(server)["broken"] == {}, "the repo to recover")


def test_workers_report_what_all_of_them_serve(tmp_path):
    """The worker that answers reports for all, not for itself: one stopped worker is enough to withhold the digest."""
    config = tmp_path / "config.toml"
    with running(tmp_path, ["--internal_port=0", "--workers=2"], log_may_hold_tracebacks=True) as server:
        wait_for(lambda: server.text().count("Serving on") == 2, "two workers")
        first, second = config_digest(CONFIG, ""), config_digest(CONFIG + THIRD, "")
        assert {str(report(server)["digest"]) for _ in range(8)} == {first}
        stopped = psutil.Process(server.process.pid).children()[0]
        stopped.suspend()
        try:
            config.write_text(CONFIG + THIRD)
            wait_for(lambda: "A new configuration is served" in server.text(), "the other worker to take it")
            digests = set()
            for _ in range(8):
                # Requests that the stopped worker accepts are never answered.
                with contextlib.suppress(TimeoutError):
                    digests.add(call(f"{server.internal_url}/config", timeout_s=2).json()["digest"])
        finally:
            stopped.resume()
        assert digests <= {""}
        wait_for(lambda: report(server)["digest"] == second, "both to take it")


@pytest.mark.parametrize("workers", [1, 2])
def test_it_answers_until_the_last_transfer_is_done(tmp_path, workers):
    with running(tmp_path, ["--internal_port=0", f"--workers={workers}"]) as server:
        wait_for(lambda: server.text().count("Serving on") == workers, "all workers")
        internal = server.internal_url
        file = wheel(tmp_path, "pkg")
        body, content_type = form(("content", file.name, file.read_bytes()))
        head = [
            "Host: x",
            f"Authorization: {basic('demo:demo-write')}",
            f"Content-Type: {content_type}",
            f"Content-Length: {len(body)}",
        ]
        with dial(server.url) as upload:
            upload.sendall(request_head("POST", "/repo/demo/simple/", [*head, "Expect: 100-continue"]))
            assert upload.recv(1000).startswith(b"HTTP/1.1 100 ")  # the upload has begun
            upload.sendall(body[:100])
            server.process.send_signal(signal.SIGTERM)
            if workers > 1:  # the idle worker ends, and with it a connection that it has just accepted
                parent = psutil.Process(server.process.pid)
                wait_for(lambda: len(parent.children()) == 1, "the idle worker's end")
            wait_for(lambda: call(f"{internal}/readyz").status == 503, "the server not to be ready")
            for _ in range(5):
                assert call(f"{internal}/healthz").status == 200
                assert call(f"{internal}/config").json()["digest"] == config_digest(CONFIG, "")
            upload.sendall(body[100:])
            assert statuses(read_to_end(upload)) == [200]
        assert server.process.wait(30) == 0
        with pytest.raises(OSError, match="refused"):
            call(f"{internal}/healthz")


@pytest.mark.parametrize("workers", [1, 2])
def test_connections_are_taken_for_a_while_after_the_signal(tmp_path, workers):
    """Others may not know yet that this server is stopping, so no request fails meanwhile."""
    with running(tmp_path, ["--shutdown_delay=2", f"--workers={workers}"]) as server:
        wait_for(lambda: server.text().count("Serving on") == workers, "all workers")
        kept = connect(server.url)
        kept.request("GET", "/healthz")
        assert kept.getresponse().read() == b"ok\n"
        server.process.send_signal(signal.SIGTERM)
        stopping_at = time.monotonic()
        wait_for(lambda: server.text().count("Stopping: new connections") == workers, "all workers to be stopping")
        assert call(f"{server.url}/readyz").status == 503
        while time.monotonic() < stopping_at + 1:
            reply = call(server.repo(), auth="demo:demo-read")
            assert (reply.status, reply.header("Connection")) == (200, "close"), reply
        kept.request("GET", "/healthz")
        assert kept.getresponse().getheader("Connection") == "close"
        kept.close()
        assert server.process.wait(30) == 0
        assert time.monotonic() - stopping_at >= 1.9


def test_a_port_that_is_taken(tmp_path):
    with running(tmp_path) as server:
        port = server.url.rpartition(":")[2]
        with (
            pytest.raises(AssertionError, match=rf"port {port}: .*Choose another --host or --internal_port\."),
            running(tmp_path / "second", [f"--internal_port={port}"]),
        ):
            pass


def test_many_ask_concurrently(tmp_path):
    """They are answered even while clients occupy all connections of the other port."""
    with running(tmp_path, ["--internal_port=0", "--max_connections=1"]) as server:
        internal = server.internal_url
        kept = connect(server.url)
        kept.request("GET", "/healthz")
        kept.getresponse().read()
        answers: list[int] = []
        threads = [
            threading.Thread(target=lambda: answers.append(call(f"{internal}/healthz").status)) for _ in range(10)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [200] * 10
        kept.close()
