"""Tests of the limits on what a client can make a server hold or do. Over a limit, only that client is refused."""

import contextlib
import os
import threading
import time
from collections.abc import Iterator

import pytest

from support.distributions.wheels import wheel
from support.server.calling import Reply, basic, call, dial, form, read_to_end, request_head, statuses
from support.server.index_client import IndexClient
from support.server.serving import Server, running
from support.waiting import wait_for

BOUNDARY = "0123456789abcdef"
MULTIPART = f"Content-Type: multipart/form-data; boundary={BOUNDARY}"
END = f"--{BOUNDARY}--\r\n".encode()
WRITER = f"Authorization: {basic('demo:demo-write')}"


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("bounds"), ["--max_uploads=8"]) as server:
        yield server


def part(disposition: str, content: bytes = b"", *headers: str) -> bytes:
    """Return a part of a form with these headers, unescaped."""
    lines = [f"--{BOUNDARY}", f"Content-Disposition: form-data; {disposition}", *headers, "", ""]
    return "\r\n".join(lines).encode() + content + b"\r\n"


def post(server: Server, path: str, body: bytes, auth: str | None = None) -> Reply:
    name, _, value = MULTIPART.partition(": ")
    return call(server.url + path, "POST", auth=auth, headers={name: value}, body=body)


def processor_s(server: Server) -> float:
    """Return the CPU seconds that the server has used."""
    with open(f"/proc/{server.process.pid}/stat") as file:  # noqa: PTH123 - of the kernel
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def resident_mib(server: Server) -> float:
    with open(f"/proc/{server.process.pid}/status") as file:  # noqa: PTH123 - of the kernel
        lines = dict(line.split(":", 1) for line in file)
    return int(lines["VmRSS"].split()[0]) / 1024


STARS = "*=" * 4030
HOSTILE_PARTS = {
    "many signs of coding": part(f'name="{STARS}"'),
    "quotes and stars": part('name="' + "*=\"'" * 2000 + '"'),
    "spaces after stars": part("a*" + " " * 8000 + "x"),
    "many parameters": part(";".join(f"a{number}=b" for number in range(1100))),
    "backslashes": part('name="' + "\\" * 8000 + '"'),
    "a long type": part('name="a"', b"", "Content-Type: text/plain" + "; a=b" * 1500),
    "many headers": part('name="a"', b"", *(f"X{number}: {'a' * 8000}" for number in range(15))),
}


@pytest.mark.parametrize("path", ["/login", "/repo/demo/simple/"])
@pytest.mark.parametrize("what", HOSTILE_PARTS)
def test_the_headers_of_a_part_are_read_in_time_that_grows_with_them(server, what, path):
    """Regression test: 0.8 MB of the first case blocked the server for 13 seconds."""
    before = processor_s(server)
    reply = post(server, path, HOSTILE_PARTS[what] * 90 + END, "demo:demo-write")
    assert reply.status in {400, 413}, reply
    assert processor_s(server) - before < 1.5


CODED = ["name*=punycode''a", "name*0=puny; name*1=code''a", "filename*0*=punycode''a", "name*= \"hex'a'b\"", "A*=x''"]


@pytest.mark.parametrize("disposition", CODED)
def test_no_part_chooses_a_codec(server, disposition):
    for path in ("/login", "/repo/demo/simple/"):
        reply = post(server, path, part(disposition, b"a") + END, "demo:demo-write")
        assert reply.status == 400, reply
        assert "send" in reply.json()["detail"], reply


@pytest.mark.parametrize(
    "disposition", ['name="a"', "name=a", "name*=utf-8''a", "name=a; filename*=UTF-8''b", 'name="a*b"', "name=a*"]
)
def test_what_clients_send_is_read(server, disposition):
    reply = post(server, "/login", part(disposition, b"a") + END)
    assert reply.status == 401, reply


def test_parts_without_content_count(server):
    """Regression test: 18 MB of such parts passed the limit of 256 KiB."""
    headers = [f"X{number}: {'a' * 200}" for number in range(14)]
    reply = post(server, "/login", part('name="a"', b"", *headers) * 99 + END)
    assert (reply.status, "262144 bytes" in reply.reason) == (413, True), reply


def test_a_login_of_a_great_length_is_refused_before_it_is_sent(server):
    head = ["Host: x", MULTIPART, "Content-Length: 300000"]
    with dial(server.url) as connection:
        connection.sendall(request_head("POST", "/login", head))
        assert statuses(connection.recv(1000)) == [413]


CHECKED = [":action", "protocol_version", "filetype", "name", "version", "sha256_digest", "md5_digest"]


@pytest.mark.parametrize("field", [*CHECKED, "blake2_256_digest"])
def test_a_field_that_is_checked_is_short(server, field):
    """Regression test: comparing a version of 16 MiB took 0.75 s."""
    before = processor_s(server)
    for size in (1025, 2_000_000):
        reply = post(server, "/repo/demo/simple/", part(f'name="{field}"', b"1" * size) + END, "demo:demo-write")
        assert (reply.status, f"{field!r} is over 1024 bytes" in reply.json()["detail"]) == (400, True), reply
    assert processor_s(server) - before < 0.7


@pytest.mark.parametrize("form_first", [True, False])
def test_a_long_description_is_taken(server, tmp_path, form_first):
    name = f"described-{form_first}".lower()
    file = wheel(tmp_path, name)
    content = ("content", file.name, file.read_bytes())
    fields = [("description", "\N{GRINNING FACE}" * 1_000_000), ("name", name), ("version", "1.0")]
    body, content_type = form(*fields, content) if form_first else form(content, *fields)
    reply = call(server.repo(), "POST", auth="demo:demo-write", headers={"Content-Type": content_type}, body=body)
    assert reply.status == 200, reply
    wrong, content_type = form(content, ("description", "x" * 100_000), ("version", "2.0"))
    reply = call(server.repo(), "POST", auth="demo:demo-write", headers={"Content-Type": content_type}, body=wrong)
    assert (reply.status, "version is '2.0'" in reply.json()["detail"]) == (400, True), reply


@contextlib.contextmanager
def unfinished(server: Server, repo: str, count: int, field: bytes) -> Iterator[list[list[int]]]:
    """Start uploads that send one field and then nothing. Yields the statuses of each, [] if it is still waiting."""
    head = request_head(
        "POST",
        f"/repo/{repo}/simple/",
        ["Host: x", f"Authorization: {basic(f'{repo}:{repo}-write')}", MULTIPART, "Content-Length: 99999999"],
    )
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(dial(server.url)) for _ in range(count)]
        for connection in connections:
            with contextlib.suppress(ConnectionError):  # refused, and disconnected while still sending
                connection.sendall(head + field)
        answers = []
        for connection in connections:
            connection.settimeout(1)
            try:
                answers.append(statuses(connection.recv(1000)))
            except TimeoutError:
                answers.append([])
        yield answers


def test_unfinished_uploads_hold_little(tmp_path):
    """Regression test: eight unfinished uploads held 576 MiB."""
    long = part('name="description"', "\N{GRINNING FACE}".encode() + b"a" * 10_000_000) + part('name="z"', b"a")[:-2]
    with running(tmp_path) as server:
        before = resident_mib(server)
        with unfinished(server, "demo", 8, long) as answers:
            assert answers == [[]] * 8
            assert resident_mib(server) - before < 40


def test_concurrent_uploads_are_bounded_and_shared(server, tmp_path):
    """One repo gets half of the slots. Another repo can still publish, and so can the first once its slots are free."""
    file = wheel(tmp_path, "shared")
    body, content_type = form(("content", file.name, file.read_bytes()))
    headers = {"Content-Type": content_type}
    with unfinished(server, "demo", 6, part('name="a"', b"x" * 100)) as answers:
        assert sorted(answers) == [[]] * 4 + [[503]] * 2
        refused = call(server.repo(), "POST", auth="demo:demo-write", headers=headers, body=body)
        assert (refused.status, refused.header("Retry-After")) == (503, "5"), refused
        assert refused.json()["type"] == "urn:pywharf:problem:busy"
        assert "4 of at most 8 uploads" in refused.reason
        other = call(server.repo("other"), "POST", auth="other:other-write", headers=headers, body=body)
        assert other.status == 200, other
    again: list[int] = []

    def published() -> bool:
        again.append(call(server.repo(), "POST", auth="demo:demo-write", headers=headers, body=body).status)
        return again[-1] == 200

    wait_for(published, "a slot to be free again")


def test_the_room_for_uploads_is_bounded_and_shared(tmp_path):
    """An unfinished upload holds what has arrived; another repo still gets its part, and the first once it is free."""
    large, room = (wheel(tmp_path, f"file-{size}", payload=os.urandom(size)) for size in (2_100_000, 600_000))
    # What arrives last is not counted yet: it may be the beginning of the form's end.
    held = part(f'name="content"; filename="{room.name}"', b"x" * 1_950_000)[:-2]
    with running(tmp_path / "work", ["--max_staged_bytes=4000000"]) as server:
        demo, other = IndexClient.of(server), IndexClient.of(server, "other")
        refused = demo.upload(large)
        assert refused.status == 413, refused
        assert "over 2000000 bytes, and the server has no room to receive a larger one" in refused.reason
        with unfinished(server, "demo", 1, held):
            wait_for(lambda: demo.upload(room).status == 503, "the unfinished upload to have arrived")
            assert "that the server keeps for them" in demo.upload(room).reason
            assert other.upload(room).status == 200
        wait_for(lambda: demo.upload(room).status == 200, "the room to be free again")


def test_concurrent_logins_are_bounded(server):
    """Unfinished login forms use up the limit; pages are still served."""
    head = request_head("POST", "/login", ["Host: x", MULTIPART, "Content-Length: 1000"])
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(dial(server.url)) for _ in range(40)]
        for connection in connections:
            connection.sendall(head + part('name="a"')[:-4])
        time.sleep(0.5)
        reply = post(server, "/login", part('name="a"', b"a") + END)
        assert (reply.status, reply.header("Retry-After")) == (503, "5"), reply
        assert call(server.repo(), auth="demo:demo-read").status == 200
    wait_for(lambda: post(server, "/login", part('name="a"', b"a") + END).status == 401, "logins to be taken again")


def test_hostile_logins_hold_nobody_up(server):
    """Whatever a login form contains, other requests are answered between its parts."""
    stop = threading.Event()

    def attack() -> None:
        while not stop.is_set():
            post(server, "/login", HOSTILE_PARTS["many signs of coding"] * 29 + END)

    attackers = [threading.Thread(target=attack) for _ in range(3)]
    for attacker in attackers:
        attacker.start()
    try:
        longest = 0.0
        for _ in range(50):
            began = time.monotonic()
            assert call(f"{server.url}/healthz").status == 200
            longest = max(longest, time.monotonic() - began)
    finally:
        stop.set()
        for attacker in attackers:
            attacker.join()
    assert longest < 2.0


# Clients that send `Expect: 100-continue`


@pytest.mark.parametrize(
    ("method", "path", "authorization", "status"),
    [
        ("POST", "/repo/demo/simple/", None, 401),
        ("POST", "/repo/demo/simple/", "demo:demo-read", 403),
        ("POST", "/repo/demo/simple/", "demo:wrong", 401),
        ("POST", "/simple/", None, 401),
        ("POST", "/repo/demo/", None, 405),
        ("POST", "/nowhere", None, 404),
        ("PUT", "/repo/demo/simple/", None, 405),
        ("POST", "/initialize/", None, 404),
    ],
)
def test_nobody_is_asked_for_a_body_that_is_refused(server, method, path, authorization, status):
    head = ["Host: x", MULTIPART, "Content-Length: 5000000", "Expect: 100-continue"]
    if authorization:
        head.append(f"Authorization: {basic(authorization)}")
    with dial(server.url) as connection:
        connection.sendall(request_head(method, path, head))
        received = connection.recv(5000)
        assert statuses(received) == [status], received
        assert b"Connection: close" in received


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
def test_who_may_publish_is_asked_for_the_body(server, tmp_path, version):
    """An HTTP/1.0 client gets no 100 (Continue) (RFC 9110, section 10.1.1)."""
    file = wheel(tmp_path, f"asked-{version[-1]}")
    body, content_type = form(("content", file.name, file.read_bytes()))
    length = f"Content-Length: {len(body)}"
    head = ["Host: x", WRITER, f"Content-Type: {content_type}", length, "Expect: 100-Continue", "Connection: close"]
    with dial(server.url) as connection:
        connection.sendall(request_head("POST", "/repo/demo/simple/", head).replace(b"HTTP/1.1", version.encode()))
        if version == "HTTP/1.1":
            assert statuses(connection.recv(1000)) == [100]
        connection.sendall(body)
        assert statuses(read_to_end(connection)) == [200]
