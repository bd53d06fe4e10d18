"""The JSON API of pins: who may pin what, what is refused, and what is audited."""

import contextlib
import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pywharf.core.access.tokens import digest_of, new_token
from support.distributions.wheels import wheel
from support.server.audit import audit_lines
from support.server.calling import Reply, call
from support.server.index_client import IndexClient
from support.server.policies import PolicyFile, deny
from support.server.pull_through import cache_place, mirror
from support.server.repos import table
from support.server.serving import Server, running
from support.server.upstream import Answer, Upstream, upstream
from support.waiting import wait_for

READER, PREFETCHER = new_token(), new_token()
MAX_BYTES = 1024**2
ACCESS = f"""
[[mirror.access]]
name = "reader"
token_digests = ["{digest_of(READER)}"]
permission = "Read"
projects = ["seen-*"]

[[mirror.access]]
name = "prefetcher"
token_digests = ["{digest_of(PREFETCHER)}"]
permission = "Publish"
projects = ["seen-*"]
"""
_numbers = itertools.count()


@dataclass(frozen=True)
class Mirror:
    """A server that keeps an index, and the policies of its repos."""

    server: Server
    index: Upstream
    policies: PolicyFile
    config: str
    files: Path

    def offer(self, prefix: str = "free", payload: bytes = b"VALUE = 1\n") -> tuple[str, str, str]:
        """Offer a new project with one wheel. Returns project, file name and digest."""
        project = f"{prefix}-{next(_numbers)}"
        file = wheel(self.files, project, payload=payload)
        self.index.offer(project, file, core_metadata=True)
        return project, file.name, hashlib.sha256(file.read_bytes()).hexdigest()

    def call(
        self, method: str, path: str, body: object = None, *, secret: str = "mirror-write", wait_s: int | None = None
    ) -> Reply:
        given = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if given is not None else {}
        headers |= {} if wait_s is None else {"Prefer": f"respond-async, wait={wait_s}"}
        url = f"{self.server.url}/repo/mirror/-/pins/{path}"
        return call(url, method, auth=f"mirror:{secret}", headers=headers, body=given)

    def pin(self, project: str, filename: str, sha256: str, **options: Any) -> Reply:
        return self.call("PUT", f"{project}/{filename}", {"sha256": sha256}, **options)

    def pinned(self, secret: str = "mirror-read") -> set[str]:
        return {pin["filename"] for pin in self.call("GET", "", secret=secret).json()["pins"]}

    def asked_for(self, filename: str) -> int:
        return self.index.fetched().count(filename)


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mirror]:
    folder = tmp_path_factory.mktemp("pins")
    policies = PolicyFile(folder / "policies.json")
    policies.write()
    with upstream() as index, contextlib.ExitStack() as stack:
        tables = mirror("mirror", index.url) + ACCESS + table("plain") + mirror("open", index.url)
        config = policies.config(tables.replace("[open]", "[open]\nanonymous_read = true"))
        place = cache_place(folder / "cache", max_bytes=MAX_BYTES)
        server = stack.enter_context(running(folder / "server", [*place.flags, "--internal_port=0"], config=config))
        yield Mirror(server, index, policies, config, folder)


def code(reply: Reply) -> tuple[int, str]:
    return reply.status, reply.json()["type"].rpartition(":")[2]


def test_a_pin_is_set_listed_and_removed(mirrored: Mirror) -> None:
    project, filename, digest = mirrored.offer()
    first = mirrored.pin(project, filename, digest)
    size = mirrored.index.files[filename].stat().st_size
    expected = {"project": project, "filename": filename, "sha256": digest, "size": size}
    assert (first.status, first.json()) == (201, expected)
    assert first.header("Cache-Control") == "no-store"
    again = mirrored.pin(project, filename, digest)
    assert (again.status, again.json()) == (200, expected)
    assert (mirrored.asked_for(filename), mirrored.asked_for(f"{filename}.metadata")) == (1, 1)
    assert expected in mirrored.call("GET", "").json()["pins"]
    assert [mirrored.call("DELETE", f"{project}/{filename}").status for _ in range(2)] == [204, 204]
    assert filename not in mirrored.pinned()
    lines = [line for line in audit_lines(mirrored.server) if line.get("project") == project]
    assert [(line["action"], line["files"], line["result"]) for line in lines] == [
        ("pin", [filename], "done"),
        ("pin", [filename], "done"),
        ("unpin", [filename], "done"),
    ]


def test_other_spellings_of_a_project(mirrored: Mirror) -> None:
    project, filename, digest = mirrored.offer()
    spelled = project.upper().replace("-", "_")
    assert mirrored.pin(spelled, filename, digest).json()["project"] == project


def test_who_may_pin(mirrored: Mirror) -> None:
    seen, hidden = mirrored.offer("seen"), mirrored.offer("hidden")
    assert mirrored.pin(*seen, secret="wrong").status == 401
    assert code(mirrored.pin(*seen, secret="mirror-read")) == (403, "forbidden")
    assert code(mirrored.pin(*seen, secret=READER)) == (403, "forbidden")
    assert code(mirrored.pin(*hidden, secret=PREFETCHER)) == (403, "forbidden")
    assert mirrored.asked_for(seen[1]) == mirrored.asked_for(hidden[1]) == 0
    assert mirrored.pin(*seen, secret=PREFETCHER).status == 201
    assert mirrored.pin(*hidden).status == 201
    for secret in ("mirror-read", READER):
        assert mirrored.call("DELETE", f"{seen[0]}/{seen[1]}", secret=secret).status == 403
    assert mirrored.call("DELETE", f"{hidden[0]}/{hidden[1]}", secret=PREFETCHER).status == 403
    assert {seen[1], hidden[1]} <= mirrored.pinned()
    assert seen[1] in mirrored.pinned(READER)
    assert hidden[1] not in mirrored.pinned(READER)
    lines = [line for line in audit_lines(mirrored.server) if line.get("project") == seen[0]]
    assert [line["entry"] for line in lines if line["event"] == "change"] == ["prefetcher"]


def test_nobody_pins_without_credentials(mirrored: Mirror) -> None:
    _, filename, digest = mirrored.offer()
    body = json.dumps({"sha256": digest}).encode()
    headers = {"Content-Type": "application/json"}
    for repo, status in (("mirror", 401), ("open", 401), ("unknown", 401)):
        url = f"{mirrored.server.url}/repo/{repo}/-/pins/"
        assert call(f"{url}free-1/{filename}", "PUT", headers=headers, body=body).status == status
        assert call(f"{url}free-1/{filename}", "DELETE").status == status
    assert call(f"{mirrored.server.url}/repo/open/-/pins/").status == 200
    assert call(f"{mirrored.server.url}/repo/unknown/-/pins/").status == 401


def test_what_a_policy_withholds_is_not_pinned_and_a_pin_does_not_outlive_it(mirrored: Mirror) -> None:
    project, filename, digest = mirrored.offer()
    before, kept, kept_digest = mirrored.offer()
    assert mirrored.pin(before, kept, kept_digest).status == 201
    mirrored.policies.serve(mirrored.server, mirrored.config, deny(project), {**deny(before), "name": "security/2"})
    try:
        refused = mirrored.pin(project, filename, digest)
        assert (*code(refused), refused.json()["policy"]) == (403, "withheld", "security/deny")
        assert mirrored.asked_for(filename) == 0
        assert code(mirrored.pin(before, kept, kept_digest)) == (403, "withheld")
        url = f"{mirrored.server.url}/repo/mirror/simple/{before}/{kept}"
        assert call(url, auth="mirror:mirror-read").status == 403
    finally:
        mirrored.policies.serve(mirrored.server, mirrored.config)


def test_what_is_not_there(mirrored: Mirror) -> None:
    project, filename, digest = mirrored.offer()
    assert code(mirrored.pin(project, filename.replace("1.0", "2.0"), digest)) == (404, "not-found")
    assert code(mirrored.pin("never-heard-of", filename, digest)) == (404, "not-found")
    for name in ("x.txt", ".hidden.whl", "..%2f..%2fetc.whl", "%00.whl", "y" * 300 + ".whl"):
        assert code(mirrored.pin(project, name, digest)) == (404, "not-found"), name
    url = f"{mirrored.server.url}/repo/plain/-/pins/"
    reply = call(url, auth="plain:plain-read")
    assert (reply.status, "keeps no files of other indexes" in reply.json()["detail"]) == (404, True)


def test_another_digest(mirrored: Mirror) -> None:
    project, filename, digest = mirrored.offer()
    reply = mirrored.pin(project, filename, "0" * 64)
    assert code(reply) == (409, "digest-differs")
    assert digest in reply.json()["detail"]
    assert mirrored.asked_for(filename) == 0


def test_an_index_that_gives_something_else(mirrored: Mirror) -> None:
    project, filename, digest = mirrored.offer()
    mirrored.index.file_answers[filename] = Answer(b"something else", "application/octet-stream")
    assert mirrored.pin(project, filename, digest).status in {502, 504}
    assert filename not in mirrored.pinned()
    del mirrored.index.file_answers[filename]
    assert mirrored.pin(project, filename, digest).status == 201


def test_one_repo_may_not_pin_most_of_the_cache(mirrored: Mirror) -> None:
    half = b"VALUE = 1\n" + b"#" * (MAX_BYTES // 2)
    large = mirrored.offer(payload=half)
    assert code(mirrored.pin(*large)) == (507, "too-much-pinned")
    assert mirrored.asked_for(large[1]) == 0
    assert mirrored.pin(*mirrored.offer()).status == 201


def test_the_repo_s_own_file(mirrored: Mirror) -> None:
    project = f"own-{next(_numbers)}"
    file = wheel(mirrored.files, project)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert IndexClient.of(mirrored.server, "mirror").upload(file).status == 200
    reply = mirrored.pin(project, file.name, digest)
    assert (reply.status, reply.json()["own"]) == (200, True)
    assert code(mirrored.pin(project, file.name, "0" * 64)) == (409, "digest-differs")
    assert file.name not in mirrored.pinned()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"[" * 1000,
        b'{"sha256": 1}',
        b'{"sha256": "' + b"A" * 64 + b'"}',
        b'{"sha256": "' + b"a" * 63 + b'"}',
        b'{"sha256": "' + b"a" * 64 + b'\\n"}',
        b'{"sha256": "' + b"a" * 64 + b'", "more": 1}',
    ],
)
def test_bodies_that_are_refused(mirrored: Mirror, body: bytes) -> None:
    assert code(mirrored.call("PUT", "free-0/free_0-1.0-py3-none-any.whl", body)) == (400, "invalid-input")


def test_requests_that_are_refused(mirrored: Mirror) -> None:
    project, filename, digest = mirrored.offer()
    path = f"{project}/{filename}"
    assert code(mirrored.call("PUT", path, b" " * 2000)) == (413, "too-large")
    url = f"{mirrored.server.url}/repo/mirror/-/pins/{path}"
    body = json.dumps({"sha256": digest}).encode()
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        assert call(url, "PUT", auth="mirror:mirror-write", headers={"Content-Type": kind}, body=body).status == 400
    for method in ("GET", "POST"):
        reply = mirrored.call(method, path)
        assert (reply.status, set((reply.header("Allow") or "").split(", ")) >= {"PUT", "DELETE"}) == (405, True)
    assert mirrored.call("GET", path, secret="wrong").status == 401


def test_a_fetch_that_takes_long_is_asked_for_again(mirrored: Mirror) -> None:
    project, filename, digest = mirrored.offer()
    content = mirrored.index.files[filename].read_bytes()
    mirrored.index.file_answers[filename] = Answer(content, "application/octet-stream", how="held")
    mirrored.index.go_on.clear()
    reply = mirrored.pin(project, filename, digest, wait_s=0)
    assert (reply.status, reply.json(), reply.header("Retry-After")) == (202, {"pending": True}, "1")
    mirrored.index.go_on.set()
    wait_for(lambda: filename in mirrored.pinned(), "the file to be pinned")
    assert mirrored.pin(project, filename, digest).status == 201, "the outcome waits for who asked"
    assert mirrored.asked_for(filename) == 1
    lines = [line for line in audit_lines(mirrored.server) if line.get("project") == project]
    assert [(line["action"], line["result"]) for line in lines] == [("pin", "incomplete"), ("pin", "done")]


def test_pins_are_counted(mirrored: Mirror) -> None:
    assert mirrored.pin(*mirrored.offer()).status == 201
    text = call(f"{mirrored.server.internal_url}/metrics").body.decode()
    assert 'pywharf_changes_total{action="pin",repo="mirror",result="changed"}' in text
