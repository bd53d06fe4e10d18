"""Tests of one tenant's storage that dribbles, hangs or floods: others are served, the server stays ready and stops."""

import contextlib
import gzip
import http.server
import os
import threading
import time
from pathlib import Path

import pytest

from support.server.calling import call
from support.server.serving import running
from support.waiting import wait_for

GOOD = """
[demo]
type = "file_system"
read_secret = "demo-read"
write_secret = "demo-write"
"""
EVIL = """
[evil]
type = "github"
owner = "o"
repo = "r"
read_secret = "evil-read"
api_url = "{}"
"""
BOMB = gzip.compress(b" " * 600_000_000 + b"[]", 9)


class HostileApi(http.server.ThreadingHTTPServer):
    """An API that answers every call in one hostile way until it is closed."""

    daemon_threads = True

    def __init__(self, way: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.way = way
        self.over = threading.Event()
        self.asked = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: HostileApi

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.server.asked += 1
        with contextlib.suppress(OSError):
            getattr(self, f"_{self.server.way.replace(' ', '_')}")()

    def _dribble(self) -> None:
        self._begin(200, 1_000_000)
        self._repeat(b" ")

    def _dribble_head(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        self._repeat(b"x")

    def _hang(self) -> None:
        self.server.over.wait()

    def _accepted(self) -> None:
        self._begin(202, 0)

    def _bomb(self) -> None:
        self._begin(200, len(BOMB), "gzip")
        self.wfile.write(BOMB)

    def _flood(self) -> None:
        self._begin(200, 1 << 40)
        while not self.server.over.is_set():
            self.wfile.write(b" " * 1_000_000)

    def _begin(self, status: int, length: int, encoding: str = "identity") -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(length))
        self.send_header("Content-Encoding", encoding)
        self.end_headers()

    def _repeat(self, piece: bytes) -> None:
        while not self.server.over.wait(1.0):
            self.wfile.write(piece)
            self.wfile.flush()


@contextlib.contextmanager
def hostile(way):
    with HostileApi(way) as api:
        thread = threading.Thread(target=api.serve_forever)
        thread.start()
        try:
            yield api
        finally:
            api.over.set()
            api.shutdown()
            thread.join()


@pytest.fixture
def secrets(tmp_path):
    path = tmp_path / "admin_secret.toml"
    path.write_text('[evil]\ntype = "github"\nraw = "server-token"\n')
    return f"--admin_secret={path}"


def is_ready(server):
    return call(f"{server.url}/readyz").status == 200


def is_served(server):
    return call(server.repo(), auth="demo:demo-read").status == 200


def reason(server, repo):
    return call(f"{server.url}/repo/{repo}/simple/", auth=f"{repo}:{repo}-read").body.decode()


def memory_kb(server):
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


@pytest.mark.parametrize("way", ["dribble", "dribble head", "hang", "accepted"])
def test_a_repo_that_comes_later_takes_nothing_from_a_server_that_is_ready(tmp_path, secrets, way):
    with hostile(way) as api, running(tmp_path, [secrets, "--shutdown_timeout=1"], config=GOOD) as server:
        assert is_ready(server)
        (tmp_path / "config.toml").write_text(GOOD + EVIL.format(api.url))
        wait_for(lambda: api.asked, "the storage to be read", longest_s=20)
        wait_for(lambda: call(f"{server.url}/readyz").json()["repos"] == 2, "the configuration", longest_s=20)
        for _ in range(5):
            assert is_ready(server)
            assert is_served(server)
            time.sleep(0.2)
        reply = call(f"{server.url}/repo/evil/simple/", auth="evil:evil-read")
        assert reply.status == 503
        assert server.stop() == 0  # well in time; otherwise the storage could hold a thread forever


@pytest.mark.parametrize("way", ["dribble", "hang"])
def test_a_first_read_counts_for_a_bounded_time_after_the_start(tmp_path, secrets, way):
    with hostile(way) as api, running(tmp_path, [secrets], config=GOOD + EVIL.format(api.url)) as server:
        assert is_served(server)
        reply = call(f"{server.url}/readyz")
        assert reply.status == 503
        assert reply.json()["loading"] == 1
        wait_for(lambda: is_ready(server), "the server to be ready", longest_s=60)
        wait_for(lambda: call(f"{server.url}/readyz").json()["failing"] == 1, "the look to end", longest_s=240)
        assert {"dribble": "did not answer within 30 seconds", "hang": "ReadTimeout"}[way] in reason(server, "evil")


@pytest.mark.parametrize(("way", "says"), [("bomb", "over 16777216 bytes"), ("flood", "over 16777216 bytes")])
def test_an_answer_is_read_up_to_a_bound(tmp_path, secrets, way, says):
    with hostile(way) as api, running(tmp_path, [secrets], config=GOOD + EVIL.format(api.url)) as server:
        before = memory_kb(server)
        wait_for(lambda: says in reason(server, "evil"), says, longest_s=60)
        asked = api.asked
        wait_for(lambda: api.asked >= asked + 3, "further looks", longest_s=60)
        grown = memory_kb(server) - before
        print(f"{way}: {grown // 1024} MiB more memory")
        assert grown < 150 * 1024, f"grew by {grown // 1024} MiB"


def test_a_file_system_that_hangs_takes_its_own_repo_alone(tmp_path):
    """A pipe without a writer simulates a network volume whose server is gone: opening it never returns."""
    config = GOOD + '[stuck]\ntype = "file_system"\nread_secret = "stuck-read"\nwrite_secret = "stuck-write"\n'
    folder = tmp_path / "root" / "cache" / "stuck"
    (folder / "storage").mkdir(parents=True)
    (folder / "staging").mkdir()
    os.mkfifo(folder / "journal")
    with running(tmp_path, ["--shutdown_timeout=1"], config=config) as server:
        wait_for(lambda: is_ready(server), "the server to be ready", longest_s=60)
        assert is_served(server)
        wait_for(lambda: "did not answer" in reason(server, "stuck"), "the look to end", longest_s=200)
        assert is_served(server)
        assert server.stop() == 0
