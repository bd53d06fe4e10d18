"""No request and no change delays the other clients: the event loop is free within 200 ms."""

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pywharf.core.model import File, Project
from pywharf.core.names import normalize
from pywharf.index.codecs import encode_index
from support.distributions.wheels import wheel
from support.server.calling import call
from support.server.index_client import IndexClient
from support.server.serving import Server, running
from support.waiting import stretched, wait_for

FILES = 100_000
AT_MOST_S = 0.2
ATTEMPTS = 4
"""Attempts per action. Other tests share the machine; a delay by the server itself occurs in every attempt."""

HEARTBEAT = """
import http.client, json, sys, threading, time
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=60)
stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
longest, beats = 0.0, 0
while not stop.is_set() or beats < 3:
    before = time.perf_counter()
    connection.request("GET", "/healthz")
    connection.getresponse().read()
    longest = max(longest, time.perf_counter() - before)
    beats += 1
    if beats == 1:
        print("beating", flush=True)
        longest = 0.0
    time.sleep(0.003)
print(json.dumps([longest, beats]))
"""


@dataclass(frozen=True)
class Shape:
    projects: int
    files_each: int

    def index(self, mtime: int) -> bytes:
        """Return an index of this shape. Another `mtime` gives other files."""
        projects = (
            Project(
                name=normalize(f"project-{p:06d}"),
                files=tuple(
                    File(
                        filename=f"project_{p:06d}-{f}.{mtime}-py3-none-any.whl",
                        sha256=f"{p:032x}{f:016x}{mtime:016x}",
                        size=12345,
                        upload_time="2026-01-01T00:00:00.000000Z",
                        requires_python=">=3.8",
                        metadata_sha256=f"{f:064x}",
                    )
                    for f in range(self.files_each)
                ),
            )
            for p in range(self.projects)
        )
        return encode_index("index.json", mtime, projects, backend_type="file_system", location=lambda _p, _f: None)


SHAPES = {
    "many projects": Shape(FILES, 1),
    "many files": Shape(FILES // 20, 20),
    "large projects": Shape(5, FILES // 5),
}


class Large:
    """A server whose repo `other` has an index of 100,000 files."""

    def __init__(self, server: Server, shape: Shape) -> None:
        self.server = server
        self.client = IndexClient.of(server, "other")
        self.shape = shape
        self.mtime = 0

    def replace_index(self) -> None:
        """Put another index in place, as update_index does, and wait until it is served."""
        self.mtime += 1
        storage = self.server.root / "cache" / "other" / "storage"
        new = storage / "new"
        new.write_bytes(self.shape.index(self.mtime))
        new.replace(storage / "index.json")
        wait_for(lambda: self.index_mtime() == str(self.mtime), "the new index is served", longest_s=60)

    def index_mtime(self) -> str:
        reply = call(f"{self.server.url}/index_mtime/", auth=f"{self.client.name}:{self.client.secret}")
        return reply.body.decode()

    def longest_wait(self, action: Callable[[], object]) -> float:
        """Run `action` and return the seconds that the slowest of many small requests took meanwhile."""
        beat = subprocess.Popen(
            [sys.executable, "-c", HEARTBEAT, str(urlsplit(self.server.url).port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert beat.stdout is not None
        try:
            assert beat.stdout.readline() == "beating\n"
            action()
            out, _ = beat.communicate(timeout=60)
        finally:
            beat.kill()
        longest, beats = json.loads(out)
        assert beats >= 3
        return float(longest)


@contextlib.contextmanager
def serving(folder: Path, shape: Shape) -> Iterator[Large]:
    storage = folder / "root" / "cache" / "other" / "storage"
    storage.mkdir(parents=True)
    (storage / "index.json").write_bytes(shape.index(0))
    try:
        with running(folder, root=folder / "root") as server:
            large = Large(server, shape)
            wait_for(lambda: large.client.get("").status == 200, "the index is loaded", longest_s=60)
            yield large
    finally:
        shutil.rmtree(folder / "root")


@pytest.mark.parametrize("shape", SHAPES)
def test_a_large_index_and_its_pages_hold_up_nobody(tmp_path, shape):
    html = {"Accept": "text/html"}
    gzip = {"Accept-Encoding": "gzip"}
    with serving(tmp_path, SHAPES[shape]) as large:
        client = large.client
        uploads = (wheel(tmp_path, "project-000000", f"9{n}") for n in range(100))

        def get(path: str, headers: dict[str, str]) -> None:
            reply = client.get(path, timeout_s=60, **headers)
            assert reply.status == 200, str(reply)

        actions: dict[str, Callable[[], object]] = {
            "the index is read again": large.replace_index,
            "root page, JSON": lambda: get("", {}),
            "root page, HTML, gzip": lambda: get("", html | gzip),
            "project page, JSON": lambda: get("project-000000/", {}),
            "project page, HTML, gzip": lambda: get("project-000000/", html | gzip),
            "an upload": lambda: client.upload(next(uploads)),
            "project page after it": lambda: get("project-000000/", html),
            "a file that is not there": lambda: client.download("project-000000", "project_000000-7-py3-none-any.whl"),
        }
        slow = set(actions)
        measured: dict[str, list[float]] = {what: [] for what in actions}
        for _ in range(ATTEMPTS):
            for what, action in actions.items():
                measured[what].append(large.longest_wait(action))
            slow -= {what for what, times in measured.items() if min(times) <= stretched(AT_MOST_S)}
            if not slow:
                break
    for what, times in measured.items():
        print(f"{shape}, {what}: a small request waited {min(times) * 1000:.0f} ms at most")
    assert not slow, {what: measured[what] for what in slow}
