"""Tests of clients that hold connections: other clients, and probes, are still answered."""

import contextlib
import re
import resource
import socket
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from support.certificates import certificates
from support.server.calling import ask, basic, call, connect, dial, raw, read_to_end, request_head, statuses
from support.server.serving import PYWHARF, Server, running
from support.waiting import wait_for

AUTH = "demo:demo-read"
HEAD = request_head("GET", "/repo/demo/simple/", ["Host: x", f"Authorization: {basic(AUTH)}"])
FEW_FILES = ("sh", "-c", 'ulimit -n 256; exec "$0" "$@"', PYWHARF)
SOFT_FILES = ("sh", "-c", 'ulimit -Sn 256; exec "$0" "$@"', PYWHARF)
FULL = "All connections of"


@contextlib.contextmanager
def crowd(server: Server, count: int, first: bytes = b"", *, wait: bool = True) -> Iterator[list[socket.socket]]:
    """Open connections that send `first` and then nothing."""
    with contextlib.ExitStack() as stack:
        made = []
        for _ in range(count):
            connection = stack.enter_context(dial(server.url))
            with contextlib.suppress(ConnectionError):  # the server closed it to make room for others
                connection.sendall(first)
                if wait and first.endswith(b"\r\n\r\n"):
                    connection.recv(65536)
            made.append(connection)
        yield made


@pytest.mark.parametrize(
    "first", [b"", HEAD[:-10], b"\r\n", HEAD], ids=["nothing", "half a head", "an empty line", "a request each"]
)
def test_idle_connections_keep_nobody_out(tmp_path, first):
    """Regression test: 300 of them, with a limit of 256 open files, blocked both ports and wrote 86,000 log lines."""
    with running(tmp_path, ["--internal_port=0"], program=FEW_FILES) as server:
        with crowd(server, 300, first):
            for url in (server.url, server.internal_url) * 3:
                assert call(f"{url}/healthz").status == 200
            assert call(server.repo(), auth=AUTH).status == 200
        assert 1 <= server.text().count(FULL) <= 3
        assert "cannot be accepted" not in server.text()
        assert psutil.Process(server.process.pid).num_fds() < 256


def test_idle_connections_to_the_internal_port_keep_nobody_out(tmp_path):
    with running(tmp_path, ["--internal_port=0"], program=FEW_FILES) as server, contextlib.ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(dial(server.internal_url))
        for url in (server.url, server.internal_url):
            assert call(f"{url}/healthz").status == 200


def test_unfinished_handshakes_keep_nobody_out(tmp_path):
    made = certificates(tmp_path / "certificates")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with running(tmp_path, made.flags, program=FEW_FILES) as server, crowd(server, 150, b"\x16\x03"):
        for _ in range(3):
            assert call(f"{server.url}/healthz", context=context).status == 200


def test_one_that_works_is_not_closed_for_others(tmp_path):
    """A slow upload and a client that has just been answered keep their connections."""
    head = ["Host: x", f"Authorization: {basic('demo:demo-write')}", "Content-Type: multipart/form-data; boundary=b"]
    with running(tmp_path, ["--max_connections=20"]) as server, dial(server.url) as upload:
        upload.sendall(request_head("POST", "/repo/demo/simple/", [*head, "Content-Length: 5"]))
        client = connect(server.url)
        try:
            for _ in range(3):
                with crowd(server, 40):
                    assert call(f"{server.url}/healthz").status == 200
                    assert ask(client, server.repo(), auth=AUTH).status == 200
        finally:
            client.close()
        upload.sendall(b"--b--")
        assert statuses(upload.recv(65536)) == [400]


def test_the_limit_of_open_files_is_raised(tmp_path):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard < 5000:
        pytest.skip("the system allows too few open files")
    with running(tmp_path, program=SOFT_FILES) as server:
        process = psutil.Process(server.process.pid)
        assert process.rlimit(resource.RLIMIT_NOFILE) == (2048 * 2 + 128, hard)
        with crowd(server, 600, HEAD, wait=False):
            assert call(f"{server.url}/healthz").status == 200
            wait_for(lambda: process.num_fds() > 600, "all of them to be open")
        assert FULL not in server.text()


@pytest.mark.parametrize(("flags", "said"), [((), 0), (["--max_connections=64"], 0), (["--max_connections=65"], 1)])
def test_more_connections_than_files_are_refused_with_the_number(tmp_path, flags: Sequence[str], said):
    with running(tmp_path, flags, program=FEW_FILES) as server:
        assert len(re.findall("--max_connections is 65, but the limit of open files allows 64", server.text())) == said


@pytest.mark.parametrize("size", [60_000, 70_000, 400_000])
def test_the_head_of_a_request_is_bounded(bounded: Server, size):
    """This includes a connection's later requests. Regression test: 128 headers of 8 KiB were accepted from anybody."""
    lines = [f"X-{number}: {'a' * 6000}" for number in range(size // 6000)]
    large = request_head("GET", "/healthz", ["Host: x", "Connection: close", *lines])
    expected = 200 if size < 65536 else 431
    received = send(bounded, large)
    assert statuses(received) == [expected], received[:500]
    received = send(bounded, request_head("GET", "/healthz", ["Host: x"]), large)
    assert statuses(received) == [200, expected], received[:500]
    if expected == 431:
        assert b"65536 bytes; send shorter headers" in received


@pytest.fixture(scope="module")
def bounded(tmp_path_factory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("bounded")) as server:
        yield server


def send(server: Server, *requests: bytes) -> bytes:
    """Send requests in small pieces, each after the response to the one before. Returns all that was received."""
    received = b""
    with dial(server.url) as connection:
        for number, request in enumerate(requests):
            with contextlib.suppress(ConnectionError):  # refused while it is sent
                for start in range(0, len(request), 3000):
                    connection.sendall(request[start : start + 3000])
            if number < len(requests) - 1:
                received += connection.recv(65536)
        return received + read_to_end(connection)


def test_a_body_is_no_head(bounded):
    """The limit does not apply to a body, however its head is split and whether or not the body is accepted."""
    body = b"x" * 1_000_000
    length = f"Content-Length: {len(body)}"
    for path, status in (("/login", 413), ("/repo/demo/simple/", 401), ("/healthz", 405)):
        head = request_head("POST", path, ["Host: x", "Content-Type: multipart/form-data; boundary=b", length])
        for cut in (len(head), len(head) - 1, len(head) - 3):
            received = raw(bounded.url, head[:cut], head[cut:] + body[:300_000], body[300_000:])
            assert statuses(received) == [status], f"{path} {cut}: {received[:300]!r}"


# Both families


def has_ipv6() -> bool:
    path = Path("/proc/net/if_inet6")
    return path.exists() and bool(path.read_text())


@pytest.mark.parametrize("flags", [["--host=::"], ["--host=::", "--workers=2"]])
def test_both_families_are_answered(tmp_path, flags, source):
    """This is the default host; the flag overrides the address that the tests give their servers."""
    if not has_ipv6():
        pytest.skip("needs IPv6 on loopback")
    with running(tmp_path, [*flags, "--internal_port=0"]) as server:
        ports = [url.rpartition(":")[2] for url in (server.url, server.internal_url)]
        for port in ports:
            for host in ("127.0.0.1", "[::1]"):
                assert call(f"http://{host}:{port}/healthz").status == 200
        call(f"http://127.0.0.1:{ports[0]}/from-ipv4")
        call(f"http://[::1]:{ports[0]}/from-ipv6")
        logged = (f" {source} GET /from-ipv4 ", " ::1 GET /from-ipv6 ")
        wait_for(lambda: all(line in server.text() for line in logged), "the lines of the log")
