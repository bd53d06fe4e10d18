"""Downloads through a whole server in mode Cached: what clients see, and what a server that is killed leaves."""

import contextlib
import hashlib
import http.client
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.background import in_background
from support.server.calling import basic, call
from support.server.file_upstream import FileUpstream, Offered
from support.server.metrics import metric
from support.server.serving import Server, running
from support.waiting import wait_for

CONFIG = """
[demo]
type = "file_system"
read_secret = "demo-read"
write_secret = "demo-write"
upstream = {{ mode = "Cached", url = "{url}" }}
"""
JSON = "application/vnd.pypi.simple.v1+json"
SIGNED = {"Authorization": basic("demo:demo-read")}
NAME = "acme-1.0-py3-none-any.whl"
CONTENT = os.urandom(4 * 1024 * 1024)


@pytest.fixture(scope="module")
def upstream() -> Iterator[FileUpstream]:
    index = FileUpstream()
    with in_background(index.serving(), "upstream"):
        yield index


@contextlib.contextmanager
def serving(folder: Path, index: FileUpstream, *flags: str) -> Iterator[Server]:
    cache = folder / "cache.toml"
    cache.write_text('type = "file_system"\n')
    with running(folder, [f"--cache_config={cache}", *flags], config=CONFIG.format(url=index.url)) as server:
        yield server


@pytest.fixture(scope="module")
def server(tmp_path_factory, upstream) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("cached"), upstream) as running_server:
        yield running_server


def file_url(server: Server, project: str, name: str) -> str:
    return f"{server.url}/repo/demo/simple/{project}/{name}"


def test_a_cached_file_is_answered_like_an_own_one(server, upstream):
    upstream.offer("acme", NAME, Offered(CONTENT))
    url = file_url(server, "acme", NAME)
    tag = f'"{hashlib.sha256(CONTENT).hexdigest()}"'
    head = call(url, method="HEAD", headers=SIGNED)
    assert (head.status, head.headers["Content-Length"], head.headers["ETag"]) == (200, str(len(CONTENT)), tag)
    assert call(url, headers={**SIGNED, "If-None-Match": tag}).status == 304
    assert upstream.asked[NAME] == 0, "neither needs the content"
    first = call(url, headers=SIGNED)
    wait_for(lambda: metric(server, "pywharf_cache_file_requests_total", "miss") == 1, "the miss is counted")
    again = call(url, headers=SIGNED)
    assert first.body == again.body == CONTENT
    for name in ("ETag", "Content-Length", "Content-Type", "Cache-Control", "Vary", "Accept-Ranges"):
        assert first.headers[name] == again.headers[name], name
    part = call(url, headers={**SIGNED, "Range": "bytes=-5", "If-Range": tag})
    assert (part.status, part.body) == (206, CONTENT[-5:])
    assert call(url, headers={**SIGNED, "Range": f"bytes={len(CONTENT)}-"}).status == 416
    assert call(url).status == 401
    assert upstream.asked[NAME] == 1
    assert metric(server, "pywharf_upstream_file_fetches_total", "fetched") == 1
    assert metric(server, "pywharf_cache_file_bytes_total", "upstream") == len(CONTENT)


def test_a_wrong_small_file_is_a_problem_and_a_wrong_large_one_breaks_off(server, upstream):
    for project, content in ("small", b"few bytes"), ("large", CONTENT[::-1]):
        name = NAME.replace("acme", project)
        upstream.offer(project, name, Offered(content))
        upstream.offered[name] = Offered(b"x" * len(content))
        url = file_url(server, project, name)
        if project == "small":
            reply = call(url, headers={**SIGNED, "Accept": JSON})
            assert (reply.status, reply.json()["type"]) == (502, "urn:pywharf:problem:upstream-wrong-content")
        else:
            with pytest.raises(http.client.IncompleteRead):
                call(url, headers=SIGNED)
        wait_for(lambda: not spooled(server), "nothing is left")


def spooled(server: Server) -> list[Path]:
    return list(server.root.glob("upstream-cache/spool/*/*.tmp"))


def test_what_is_not_kept_is_no_missing_file_while_upstream_is_away(tmp_path):
    index = FileUpstream()
    with in_background(index.serving(), "short-lived"):
        stack = contextlib.ExitStack()
        server = stack.enter_context(serving(tmp_path, index))
        index.offer("acme", NAME, Offered(CONTENT))
        assert call(f"{server.url}/repo/demo/simple/acme/", headers={**SIGNED, "Accept": JSON}).status == 200
    with stack:
        reply = call(file_url(server, "acme", NAME), headers=SIGNED)
        assert (reply.status, reply.json()["type"]) == (504, "urn:pywharf:problem:upstream-away")
        assert NAME in reply.json()["detail"]


def test_a_killed_server_leaves_nothing_that_is_wrong(tmp_path, upstream):
    """Another one fetches the file although the lock is still there, and removes what was left of it."""
    content = CONTENT[::-1]
    upstream.offer("killed", "killed-1.0-py3-none-any.whl", Offered(content, "gated"))
    with serving(tmp_path, upstream) as server:
        url = file_url(server, "killed", "killed-1.0-py3-none-any.whl")
        broken: list[Exception] = []

        def download() -> None:
            try:
                call(url, headers=SIGNED)
            except Exception as error:  # noqa: BLE001 - any kind of a broken connection
                broken.append(error)

        client = threading.Thread(target=download)
        client.start()
        wait_for(lambda: any(path.stat().st_size for path in spooled(server)), "the file is being fetched")
        server.stop(signal.SIGKILL)
        client.join()
        assert broken, "the client got a part as the whole file"
        assert spooled(server)
    upstream.offered["killed-1.0-py3-none-any.whl"] = Offered(content)
    with serving(tmp_path, upstream) as server:
        reply = call(file_url(server, "killed", "killed-1.0-py3-none-any.whl"), headers=SIGNED, timeout_s=60)
        assert reply.body == content
        wait_for(lambda: not spooled(server), "what the killed server left is removed")
