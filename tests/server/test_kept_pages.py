"""Mode Cached over HTTP: pages while their index fails in every way, several indexes, and own names before all."""

import gzip
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.distributions.wheels import wheel
from support.server.calling import Reply, basic, call, form
from support.server.metrics import metric
from support.server.serving import Server, running
from support.server.upstream import HTML, JSON, Answer, Asked, Upstream, upstream
from support.waiting import wait_for

SECRETS = """type = "file_system"
read_secret = "demo-read"
write_secret = "demo-write"
"""
AWAY = "urn:pywharf:problem:upstream-away"
REDIRECT = Answer(status=302, headers={"Location": "http://127.0.0.2:9/simple/x/"})
BOMB = gzip.compress(bytes(100 * 1024 * 1024), 9)


@pytest.fixture(scope="module")
def index() -> Iterator[Upstream]:
    with upstream() as running_index:
        yield running_index


def cached(folder: Path, *sources: str, more: str = "", flags: tuple[str, ...] = ()) -> list[str]:
    """Write the configuration of a repo in mode Cached, and of the server's cache; returns the flags."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = "".join(f"[[demo.upstream.sources]]\n{source}\n" for source in sources)
    (folder / "config.toml").write_text(f'[demo]\n{SECRETS}[demo.upstream]\nmode = "Cached"\n{more}\n{tables}')
    (folder / "cache.toml").write_text('type = "file_system"\n')
    return [f"--cache_config={folder}/cache.toml", *flags]


def page(server: Server, project: str) -> Reply:
    return call(f"{server.repo()}{project}/", auth="demo:demo-read", headers={"Accept": JSON})


def digests(reply: Reply) -> dict[str, str]:
    assert reply.status == 200, reply
    return {file["filename"]: file["hashes"].get("sha256", "") for file in reply.json()["files"]}


def offer(index: Upstream, name: str, *files: Path, serial: int = 7) -> None:
    """Offer files with an entity tag and a serial, as PyPI does."""
    index.offer(name, *files)
    make = index.answers[name]
    assert callable(make)

    def answer(asked: Asked) -> Answer:
        whole = make(asked)
        tag = f'"{hashlib.sha256(whole.body).hexdigest()}"'
        status = 304 if asked.headers.get("If-None-Match") == tag else 200
        body = whole.body if status == 200 else b""
        headers = {"ETag": tag, "X-PyPI-Last-Serial": str(serial)}
        return Answer(body, whole.content_type, status, headers)

    index.answers[name] = answer


FAULTS = {
    "hangs": (Answer(how="hang"), 504),
    "drips": (Answer(content_type=HTML, how="drip"), 504),
    "floods": (Answer(b"<html>", HTML, how="flood"), 502),
    "unpacks-without-end": (Answer(BOMB, HTML, headers={"Content-Encoding": "gzip"}), 502),
    "is-cut": (Answer(b"x" * 100, how="cut"), 502),
    "has-another-type": (Answer(b"{}", "application/octet-stream"), 502),
    "is-no-page": (Answer(b"{}"), 502),
    "redirects-elsewhere": (REDIRECT, 502),
    "is-503": (Answer(status=503), 502),
    "is-401": (Answer(status=401), 502),
}


def test_pages_outlive_every_fault_of_their_index(index, tmp_path):
    """A server that starts has nothing in memory, so it asks the index for each page."""
    flags = cached(tmp_path, f'url = "{index.url}"')
    file = wheel(tmp_path, "foo")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    projects = [*FAULTS, "is-behind", "is-lost", "is-changed", "is-well"]
    for name in projects:
        offer(index, name, file)
    with running(tmp_path, flags) as server:
        for name in projects:
            assert digests(page(server, name)) == {file.name: digest}
    for name, (answer, _) in FAULTS.items():
        index.answers[name] = index.answers[f"new-{name}"] = answer
    (tmp_path / "other").mkdir()
    other = wheel(tmp_path / "other", "foo", payload=b"VALUE = 2\n")
    offer(index, "is-behind", serial=6)
    offer(index, "is-changed", other)
    del index.answers["is-lost"]
    with running(tmp_path, [*flags, "--internal_port=0"]) as server:
        for name in (*FAULTS, "is-behind", "is-changed", "is-well"):
            assert digests(page(server, name)) == {file.name: digest}, name
        assert page(server, "is-lost").status == 404
        assert page(server, "never-was").status == 404
        for name, (_, status) in FAULTS.items():
            if name not in {"hangs", "drips"}:  # their deadline takes 15 seconds
                assert page(server, f"new-{name}").status == status, name
        counted = {
            result: metric(server, "pywharf_cache_pages_total", result, internal=True)
            for result in ("older", "lost", "other-digest")
        }
        assert counted == {"older": 1, "lost": 1, "other-digest": 1}
        assert metric(server, "pywharf_cache_pages_total", "stale", internal=True) >= len(FAULTS)


def test_without_the_index_pages_and_files_stay_and_others_are_away(tmp_path):
    file, unfetched = wheel(tmp_path, "foo"), wheel(tmp_path, "foo", "2.0")
    with upstream() as index:
        flags = cached(tmp_path, f'url = "{index.url}"')
        offer(index, "foo", file, unfetched)
        with running(tmp_path, flags) as server:
            assert len(digests(page(server, "foo"))) == 2
            reply = call(f"{server.repo()}foo/{file.name}", auth="demo:demo-read")
            assert (reply.status, reply.body) == (200, file.read_bytes())
            kept = f"*{hashlib.sha256(reply.body).hexdigest()}*"
            wait_for(lambda: any(server.root.rglob(kept)), "the file to be kept, which clients may have earlier")
    with running(tmp_path, [*flags, "--internal_port=0"]) as server:
        shown = page(server, "foo")
        assert len(digests(shown)) == 2
        assert {f["url"] for f in shown.json()["files"]} == {file.name, unfetched.name}
        reply = call(f"{server.repo()}foo/{file.name}", auth="demo:demo-read")
        assert (reply.status, reply.body) == (200, file.read_bytes())
        assert call(f"{server.repo()}foo/{unfetched.name}", auth="demo:demo-read").status in {502, 504}
        reply = page(server, "bar")
        assert (reply.status, reply.json()["type"]) == (504, AWAY)
        assert "says nothing about whether the project exists" in reply.json()["detail"]
        reply = call(f"{server.repo()}bar/bar-1.0.zip", auth="demo:demo-read")
        assert (reply.status, reply.json()["type"]) == (504, AWAY)
        (failing,) = call(f"{server.internal_url}/config").json()["upstreams"]
        assert failing["url"] == index.url
        assert isinstance(failing["failing_since"], int)
        assert metric(server, "pywharf_upstream_failing", internal=True) == 1


@pytest.mark.parametrize("mode", ["Pages", "Cached"])
def test_sources_in_order_with_their_own_credentials(tmp_path, index, mode):
    theirs, public, both = wheel(tmp_path, "corp-tool"), wheel(tmp_path, "numpy"), wheel(tmp_path, "corp-both")
    with upstream() as corp:
        corp.credentials = "ci:the-password"
        (tmp_path / "password").write_text("the-password\n")
        corp.offer("corp-tool", theirs)
        corp.offer("corp-both", both)
        index.offer("numpy", public)
        index.offer("corp-both", wheel(tmp_path, "corp-both", "9.0"))
        index.offer("corp-missing", wheel(tmp_path, "corp-missing"))
        corp.answers["corp-fails"] = Answer(status=500)
        index.offer("corp-fails", wheel(tmp_path, "corp-fails"))
        corp.answers["corp-moved"] = Answer(status=302, headers={"Location": f"{index.url}numpy/"})
        before = len(index.requests)
        first = f'url = "{corp.url}"\nprojects = ["corp-*"]\nusername = "ci"\n'
        first += f'password = {{file = "{tmp_path}/password"}}'
        flags = cached(tmp_path, first, f'url = "{index.url}"', flags=(f"--allowed_endpoints=127.0.0.1:{port(corp)}",))
        flags[-1] += f",127.0.0.1:{port(index)}"
        config = tmp_path / "config.toml"
        config.write_text(config.read_text().replace("Cached", mode))
        with running(tmp_path, flags) as server:
            server.secrets.add("the-password")
            assert list(digests(page(server, "corp-tool"))) == [theirs.name]
            assert list(digests(page(server, "corp-both"))) == [both.name], "of the first source alone"
            assert list(digests(page(server, "numpy"))) == [public.name]
            assert page(server, "corp-missing").status == 200, "the first source says that it has none"
            assert page(server, "corp-fails").status == 502, "a source that fails is not skipped"
            assert page(server, "corp-moved").status == 200
            assert [asked.path for asked in corp.requests if "numpy" in asked.path] == []
    assert all(asked.headers.get("Authorization") == basic("ci:the-password") for asked in corp.requests)
    asked_second = index.requests[before:]
    assert {asked.path for asked in asked_second} == {"/simple/numpy/", "/simple/corp-missing/"}
    assert all("Authorization" not in asked.headers for asked in asked_second)


def port(index: Upstream) -> str:
    return index.url.split(":")[2].partition("/")[0]


def test_a_name_that_is_published_withdraws_what_is_cached(tmp_path, index):
    """Also on the other replica."""
    theirs, own = wheel(tmp_path, "mine", "9.0"), wheel(tmp_path, "mine")
    index.offer("mine", theirs)
    index.offer("acme-tool", theirs)
    flags = cached(tmp_path, f'url = "{index.url}"', more='reserved = ["acme-*"]')
    root = tmp_path / "root"
    with running(tmp_path, flags, root=root) as first, running(tmp_path, flags, root=root) as second:
        for server in (first, second):
            assert list(digests(page(server, "mine"))) == [theirs.name]
            assert call(f"{server.repo()}mine/{theirs.name}", auth="demo:demo-read").status == 200
            assert page(server, "acme-tool").status == 404
            assert call(f"{server.repo()}acme-tool/{theirs.name}", auth="demo:demo-read").status == 404
        body, content_type = form(("content", own.name, own.read_bytes()))
        headers = {"Content-Type": content_type}
        assert call(first.repo(), "POST", auth="demo:demo-write", headers=headers, body=body).status == 200
        for server in (first, second):
            wait_for(lambda s=server: list(digests(page(s, "mine"))) == [own.name], "the own page", longest_s=2.0)
            assert call(f"{server.repo()}mine/{theirs.name}", auth="demo:demo-read").status == 404
            assert call(f"{server.repo()}mine/{own.name}", auth="demo:demo-read").status == 200


def test_policies_hold_for_what_was_cached_before_them(tmp_path, index):
    file = wheel(tmp_path, "held-back")
    index.offer("held-back", file, core_metadata=True)
    flags = cached(tmp_path, f'url = "{index.url}"')
    config, policies = tmp_path / "config.toml", tmp_path / "policies.json"
    policies.write_text('{"policies": []}')
    config.write_text(f'policies_file = "{policies}"\n{config.read_text()}')
    with running(tmp_path, flags) as server:
        url = f"{server.repo()}held-back/{file.name}"
        for address in (url, f"{url}.metadata"):
            assert call(address, auth="demo:demo-read").status == 200
        deny = {"name": "ns/company", "deny": [{"project": "held-back", "reason": "stolen"}]}
        policies.write_text(json.dumps({"policies": [deny]}))
        wait_for(lambda: digests(page(server, "held-back")) == {}, "the policy")
        for address in (url, f"{url}.metadata"):
            for method in ("GET", "HEAD"):
                assert call(address, method, auth="demo:demo-read").status == 403


def test_a_repo_needs_the_server_s_cache(tmp_path, index):
    cached(tmp_path, f'url = "{index.url}"')
    config = tmp_path / "config.toml"
    config.write_text(f"{config.read_text()}\n[other]\n{SECRETS}")
    with running(tmp_path) as server:
        reply = page(server, "foo")
        assert reply.status == 503
        assert "--cache_config" in reply.json()["detail"]
        assert call(server.repo("other"), auth="other:demo-read").status == 200
