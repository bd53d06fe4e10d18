"""Tests of connections: TLS and its certificates, limits, and shutdown."""

import contextlib
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
import warnings
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from support.certificates import Certificates, certificates
from support.distributions.wheels import wheel
from support.server.calling import ask, basic, call, connect, dial, form, raw, read_to_end, request_head, statuses
from support.server.serving import Server, running
from support.waiting import wait_for

AUTH = "demo:demo-read"
LOGIN = f"Authorization: {basic(AUTH)}"
REFUSED = "The new certificate is refused, the last good one stays"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Certificates, Certificates]:
    folder = tmp_path_factory.mktemp("certificates")
    return certificates(folder / "first"), certificates(folder / "second")


@contextlib.contextmanager
def serving_tls(folder: Path, first: Certificates, *flags: str):
    """Run a server with copies of the certificate and the key, which the test may replace."""
    cert, key = folder / "tls.crt", folder / "tls.key"
    shutil.copy(first.cert, cert)
    shutil.copy(first.key, key)
    with running(folder, [f"--tls_cert={cert}", f"--tls_key={key}", *flags]) as server:
        assert server.url.startswith("https://")
        yield server, cert, key


def shown_certificate(server: Server) -> bytes:
    """Return the certificate that a new connection gets, without verifying it."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with dial(server.url) as connection, context.wrap_socket(connection) as secured:
        shown = secured.getpeercert(binary_form=True)
    assert shown is not None
    return shown


def der(path: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(path.read_text())


@pytest.mark.parametrize("more", [(), ("--max_connections=20",), ("--workers=2",)])
def test_tls(tmp_path, made, more):
    with serving_tls(tmp_path, made[0], *more) as (server, _, _):
        context = made[0].client_context()
        reply = call(f"{server.url}/simple/", auth=AUTH, context=context)
        assert reply.status == 200, reply
        # A large file, whole and as a range: with TLS, the kernel cannot send it.
        file = wheel(tmp_path, "pkg", payload=bytes(range(256)) * 8000)
        body, content_type = form(("content", file.name, file.read_bytes()))
        headers = {"Content-Type": content_type}
        url = f"{server.url}/simple/"
        assert call(url, "POST", auth="demo:demo-write", headers=headers, body=body, context=context).status == 200
        got = call(f"{url}pkg/{file.name}", auth=AUTH, context=context)
        assert got.body == file.read_bytes()
        got = call(f"{url}pkg/{file.name}", auth=AUTH, context=context, headers={"Range": "bytes=5-1000004"})
        assert got.body == file.read_bytes()[5:1000005]
        # Connections without TLS or with an old version are refused; the others are served.
        received = raw(server.url, request_head("GET", "/simple/", ["Host: x", LOGIN]))
        assert 200 not in statuses(received), received
        old = made[0].client_context()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            old.minimum_version = ssl.TLSVersion.TLSv1
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            call(url, auth=AUTH, context=old)
        silent = [dial(server.url) for _ in range(8)]
        assert call(url, auth=AUTH, context=context).status == 200
        for connection in silent:
            connection.close()
        assert call(url, auth=AUTH, context=context).status == 200


@pytest.mark.parametrize("more", [(), ("--max_connections=20",)])
def test_a_new_certificate_is_served_and_open_connections_stay(tmp_path, made, more):
    first, second = made
    with serving_tls(tmp_path, first, *more) as (server, cert, key):
        assert shown_certificate(server) == der(first.cert)
        connection = connect(server.url, context=first.client_context())
        try:
            assert ask(connection, f"{server.url}/simple/", auth=AUTH).status == 200
            replace(key, second.key)
            replace(cert, second.cert)
            wait_for(lambda: shown_certificate(server) == der(second.cert), "the new certificate")
            assert call(f"{server.url}/simple/", auth=AUTH, context=second.client_context()).status == 200
            with pytest.raises(ssl.SSLCertVerificationError):
                call(f"{server.url}/simple/", auth=AUTH, context=first.client_context())
            assert ask(connection, f"{server.url}/simple/", auth=AUTH).status == 200
        finally:
            connection.close()
        assert "A new certificate is served." in server.text()


def replace(path: Path, by: Path | str) -> None:
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(by if isinstance(by, str) else by.read_text())
    temporary.replace(path)


def test_a_broken_certificate_is_kept_out(tmp_path, made):
    first, second = made
    locked = tmp_path / "locked.key"
    command = [
        "openssl",
        "pkcs8",
        "-topk8",
        "-in",
        str(first.key),
        "-out",
        str(locked),
        "-passout",
        "pass:hidden-phrase",
    ]
    subprocess.run(command, check=True, capture_output=True)
    text = first.cert.read_text()
    broken = [
        ("another pair's key", first.cert, second.key),
        ("an empty certificate", "", first.key),
        ("no PEM", "nonsense", first.key),
        ("half a certificate", text[: len(text) // 2], first.key),
        ("an empty key", first.cert, ""),
        ("a key that asks for a password", first.cert, locked),
        ("a certificate for a key", first.cert, first.cert),
    ]
    with serving_tls(tmp_path, first) as (server, cert, key):
        server.secrets |= {"hidden-phrase", "".join(first.key.read_text().split("\n")[1:2])}
        for what, new_cert, new_key in broken:
            refused = server.text().count(REFUSED)
            replace(cert, new_cert)
            replace(key, new_key)
            wait_for(lambda: server.text().count(REFUSED) > refused, f"a refusal of {what}")  # noqa: B023
            reply = call(f"{server.url}/simple/", auth=AUTH, context=first.client_context())
            assert reply.status == 200, what
            assert shown_certificate(server) == der(first.cert), what
        refused = server.text().count(REFUSED)
        cert.unlink()
        wait_for(lambda: server.text().count(REFUSED) > refused, "a refusal of the missing file")
        assert shown_certificate(server) == der(first.cert)
        assert "tls.crt" in server.text().splitlines()[-1]
        replace(key, second.key)
        replace(cert, second.cert)
        wait_for(lambda: shown_certificate(server) == der(second.cert), "the good one after all")


def test_connections_over_the_limit_wait_for_a_slot(tmp_path):
    with running(tmp_path, ["--max_connections=2"]) as server:
        held = [connect(server.url) for _ in range(2)]
        for connection in held:
            assert ask(connection, f"{server.url}/simple/", auth=AUTH).status == 200
        head = request_head("GET", "/simple/", ["Host: x", LOGIN, "Connection: close"])
        with dial(server.url) as third:
            third.sendall(head)
            third.settimeout(0.7)
            with pytest.raises(TimeoutError):
                third.recv(1)
            for connection in held:  # they are still served
                assert ask(connection, f"{server.url}/simple/", auth=AUTH).status == 200
            held[0].close()
            third.settimeout(20)
            assert statuses(read_to_end(third)) == [200]
        held[1].close()
        # Many more than the limit: each is served in the end. Clients that disconnect while waiting block nobody.
        waiting = [dial(server.url) for _ in range(30)]
        for number, client in enumerate(waiting):
            if number % 3 == 0:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
                client.close()
            else:
                client.sendall(head)
        for number, client in enumerate(waiting):
            if number % 3:
                assert statuses(read_to_end(client)) == [200], number
                client.close()


@pytest.mark.parametrize("more", [(), ("--max_connections=500",)])
def test_running_out_of_file_descriptors_passes(tmp_path, more):
    """New connections then wait or are refused. Once descriptors are free again, the server works as before."""
    with running(tmp_path, list(more), log_may_hold_tracebacks=True) as server:
        assert call(f"{server.url}/simple/", auth=AUTH).status == 200
        process = psutil.Process(server.process.pid)
        limits = process.rlimit(resource.RLIMIT_NOFILE)
        process.rlimit(resource.RLIMIT_NOFILE, (process.num_fds() + 5, limits[1]))
        crowd = [dial(server.url) for _ in range(30)]
        try:
            wait_for(
                lambda: process.num_fds() >= process.rlimit(resource.RLIMIT_NOFILE)[0] - 1, "the server to be full"
            )
            time.sleep(0.3)  # it tries to accept more
        finally:
            for connection in crowd:
                connection.close()
        wait_for(lambda: answers(server), "the server to answer again")
        for _ in range(20):
            assert call(f"{server.url}/simple/", auth=AUTH).status == 200


def answers(server: Server) -> bool:
    try:
        return call(f"{server.url}/simple/", auth=AUTH, timeout_s=2).status == 200
    except OSError:
        return False


def test_idle_connections_are_closed_in_time(tmp_path):
    with running(tmp_path, ["--keepalive_timeout=1"]) as server:
        head = request_head("GET", "/simple/", ["Host: x", LOGIN])
        with dial(server.url) as connection:
            for _ in range(4):  # together longer than the timeout
                connection.sendall(head)
                assert statuses(connection.recv(65536)) == [200]
                time.sleep(0.4)
            idle = time.monotonic()
            assert connection.recv(1) == b""
            assert 0.3 < time.monotonic() - idle < 10
        # This includes connections without a request or with an unfinished one.
        with dial(server.url) as silent, dial(server.url) as half:
            half.sendall(head[:-10])
            assert silent.recv(1) == b""
            assert half.recv(1) == b""


@pytest.mark.parametrize(("backlog", "connected"), [(1, 2), (64, 20)])
def test_the_backlog_holds_that_many(tmp_path, backlog, connected):
    """20 clients connect while nothing is accepted. The kernel queues one more than the backlog."""
    with running(tmp_path, [f"--backlog={backlog}"]) as server:
        server.process.send_signal(signal.SIGSTOP)
        opened = []
        try:
            wait_for(lambda: psutil.Process(server.process.pid).status() == psutil.STATUS_STOPPED, "the stop")
            for _ in range(20):
                with contextlib.suppress(TimeoutError):
                    opened.append(dial(server.url, timeout_s=0.1))
            assert len(opened) == connected
        finally:
            server.process.send_signal(signal.SIGCONT)
            for connection in opened:
                connection.close()
        assert call(f"{server.url}/simple/", auth=AUTH).status == 200


BIG = 30_000_000
"""Bytes; more than the kernel's buffers between client and server hold."""


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Path:
    return wheel(tmp_path_factory.mktemp("large"), "large", payload=bytes(BIG))


def upload_of(server: Server, file: Path, auth="demo:demo-write") -> tuple[bytes, bytes]:
    """Return the head and the body of an upload."""
    body, content_type = form((":action", "file_upload"), ("content", file.name, file.read_bytes()))
    head = [
        "Host: x",
        f"Authorization: {basic(auth)}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    assert server.url
    return request_head("POST", "/simple/", head), body


def is_refused(server: Server) -> bool:
    parts = urlsplit(server.url)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 0), 1):
            return False
    except ConnectionRefusedError:
        return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("more", [(), ("--workers=2",), ("--max_connections=10",)])
def test_a_server_that_ends_finishes_what_it_began(tmp_path, large, number, more):
    """A slow download and a slow upload finish, new connections are refused, and the exit status is 0."""
    with running(tmp_path, list(more)) as server:
        assert statuses(raw(server.url, *upload_of(server, large))) == [200]
        late = wheel(tmp_path, "late", payload=b"x" * 4_000_000)  # half of it is written before the rest arrives
        head, body = upload_of(server, late)
        target = f"/simple/large/{large.name}"
        with dial(server.url) as download, dial(server.url) as upload, dial(server.url) as idle:
            idle.sendall(request_head("GET", "/simple/", ["Host: x", LOGIN]))
            assert statuses(idle.recv(65536)) == [200]
            download.sendall(request_head("GET", target, ["Host: x", LOGIN, "Connection: close"]))
            received = download.recv(1000)
            upload.sendall(head + body[: len(body) // 2])
            staging = server.root / "cache" / "demo" / "staging"
            wait_for(lambda: list(staging.iterdir()), "the upload to begin")
            server.process.send_signal(number)
            wait_for(lambda: is_refused(server), "new connections to be refused", longest_s=10)
            assert server.process.poll() is None
            rest: list[bytes] = []
            reading = threading.Thread(target=lambda: rest.append(read_to_end(download)))
            reading.start()
            time.sleep(0.3)
            upload.sendall(body[len(body) // 2 :])
            assert statuses(read_to_end(upload)) == [200]
            reading.join(30)
            assert len((received + rest[0]).partition(b"\r\n\r\n")[2]) == large.stat().st_size
            assert server.process.wait(20) == 0
        stored = server.root / "cache" / "demo" / "storage" / "late" / late.name
        assert stored.read_bytes() == late.read_bytes()
        assert list(staging.iterdir()) == []


@pytest.mark.parametrize("more", [(), ("--workers=2",)])
def test_connections_that_only_wait_do_not_hold_up_the_end(tmp_path, more):
    with running(tmp_path, list(more)) as server, contextlib.ExitStack() as stack:
        for sent in (b"", b"GET /simple/ HTTP/1.1\r\n", request_head("GET", "/simple/", ["Host: x", LOGIN])):
            stack.enter_context(dial(server.url)).sendall(sent)
        assert call(f"{server.url}/simple/", auth=AUTH).status == 200
        begun = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - begun < 10


def test_a_transfer_that_never_ends_is_cut_off_in_time(tmp_path):
    with running(tmp_path, ["--shutdown_timeout=1"]) as server:
        head, body = upload_of(server, wheel(tmp_path, "endless", payload=b"x" * 4_000_000))
        with dial(server.url) as upload:
            upload.sendall(head + body[: len(body) // 2])
            staging = server.root / "cache" / "demo" / "staging"
            wait_for(lambda: list(staging.iterdir()), "the upload to begin")
            begun = time.monotonic()
            assert server.stop() == 0
            assert time.monotonic() - begun < 10
        assert list(staging.iterdir()) == []
