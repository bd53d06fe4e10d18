"""The server's memory does not grow with the files that pass through it."""

import contextlib
import hashlib
import http.client
import itertools
import secrets
import shutil
import threading
import time
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

import psutil
import pytest

from support.distributions.large_wheel import LargeWheel
from support.parts import missing
from support.server.calling import Reply, basic, connect, reply_of
from support.server.index_client import IndexClient
from support.server.serving import Server, running
from support.waiting import wait_for

MB = 1_000_000
LARGE_BYTES = 2_000 * MB
MAY_GROW_BYTES = 60 * MB
SAMPLE_S = 0.02


class Memory:
    """A process's resident memory, sampled continuously within the context `watched`."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read_page)
        self.first = self.highest = self._process.memory_info().rss

    def _read_page(self) -> None:
        while not self._stop.wait(SAMPLE_S):
            self.highest = max(self.highest, self._process.memory_info().rss)

    @contextlib.contextmanager
    def watched(self, what: str) -> Iterator[None]:
        self._thread.start()
        started = time.monotonic()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join()
        grown = self.highest - self.first
        print(f"{what}: {time.monotonic() - started:.1f} s, {grown / MB:.1f} MB more memory")
        assert grown <= MAY_GROW_BYTES, (
            f"{what}: the process grew by {grown / MB:.0f} MB, from {self.first / MB:.0f} to {self.highest / MB:.0f}"
        )


@contextlib.contextmanager
def sent(client: IndexClient, filename: str, pieces: Iterable[bytes]) -> Iterator[http.client.HTTPConnection]:
    """Send an upload piece by piece and yield its connection. The caller reads the response."""
    boundary = secrets.token_hex(16)
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name=":action"\r\n\r\nfile_upload\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="content"; filename="{filename}"\r\n\r\n'
    )
    with contextlib.closing(connect(client.url, timeout_s=100)) as connection:
        connection.request(
            "POST",
            urlsplit(client.index).path,
            itertools.chain([head.encode()], pieces, [f"\r\n--{boundary}--\r\n".encode()]),
            {
                "Authorization": basic(f"{client.name}:{client.secret}"),
                "Content-Type": f"multipart/form-data; boundary={boundary}",
                "Transfer-Encoding": "chunked",
            },
            encode_chunked=True,
        )
        yield connection


def upload(client: IndexClient, made: LargeWheel) -> Reply:
    with sent(client, made.filename, made.pieces()) as connection:
        return reply_of(connection)


def download(client: IndexClient, made: LargeWheel) -> tuple[int, str]:
    """Download the file and return the size and SHA-256 of what arrived."""
    connection = connect(client.url)
    connection.request(
        "GET",
        f"{urlsplit(client.index).path}{made.name}/{made.filename}",
        headers={"Authorization": basic(f"{client.name}:{client.secret}")},
    )
    response = connection.getresponse()
    digest, size = hashlib.sha256(), 0
    while piece := response.read(1024 * 1024):
        digest.update(piece)
        size += len(piece)
    connection.close()
    return size, digest.hexdigest()


@pytest.fixture
def server(tmp_path) -> Iterator[Server]:
    """Yield a server that has received and served a small file. Everything is removed afterwards."""
    if shutil.disk_usage(tmp_path).free < 2 * LARGE_BYTES:
        missing("4 GB of free disk", "set TMPDIR to a folder with more room")
    try:
        with running(tmp_path / "server", ["--access_log=off"]) as started:
            client = IndexClient.of(started)
            warm = LargeWheel("warm", 20 * MB)
            assert upload(client, warm).status == 200
            assert download(client, warm) == (warm.size, warm.sha256)
            yield started
    finally:
        shutil.rmtree(tmp_path / "server", ignore_errors=True)


def test_two_gigabytes_pass_through_without_being_held(server):
    client = IndexClient.of(server)
    large = LargeWheel("large", LARGE_BYTES)
    with Memory(server.process.pid).watched("upload of 2 GB"):
        reply = upload(client, large)
        assert reply.status == 200, str(reply)
    entry = client.files("large")[large.filename]
    assert (entry["size"], entry["hashes"]["sha256"]) == (large.size, large.sha256)
    with Memory(server.process.pid).watched("download of 2 GB"):
        assert download(client, large) == (large.size, large.sha256)


def test_an_upload_that_breaks_off_leaves_nothing(server):
    """The client disappears in the middle, or ends the form early."""
    client = IndexClient.of(server)
    staging = server.root / "cache" / "demo" / "staging"
    gone = LargeWheel("gone", 300 * MB)

    def half() -> Iterator[bytes]:
        for piece in gone.pieces():
            if gone.size > gone.payload_bytes / 2:
                assert sum(p.stat().st_size for p in staging.iterdir()) > 50 * MB, "it does not arrive on the disk"
                raise ConnectionError
            yield piece

    with Memory(server.process.pid).watched("half an upload"):
        with pytest.raises(ConnectionError), sent(client, gone.filename, half()):
            pass
        wait_for(lambda: list(staging.iterdir()) == [], "the staging folder is empty")
    assert client.files("gone") == {}
    assert not (server.root / "cache" / "demo" / "storage" / "gone").exists()

    short = LargeWheel("gone", 10 * MB)
    with sent(client, short.filename, itertools.islice(short.pieces(), 5)) as connection:
        reply = reply_of(connection)
    assert reply.status == 400, str(reply)
    wait_for(lambda: list(staging.iterdir()) == [], "the staging folder is empty")
    assert client.files("gone") == {}
    whole = LargeWheel("gone", MB)
    assert upload(client, whole).status == 200
    assert download(client, whole) == (whole.size, whole.sha256)
