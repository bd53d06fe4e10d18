"""Policies of a running server: what clients get over HTTP, when it changes, and what is reported."""

import hashlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pywharf.config.repo_config import config_digest
from pywharf.core.model import rfc3339
from support.distributions.wheels import wheel
from support.server.calling import basic, call, raw, request_head
from support.server.index_client import IndexClient
from support.server.metrics import metric
from support.server.policies import PolicyFile, cooldown, deny
from support.server.repos import table
from support.server.serving import Server, running
from support.server.updating import finished, update_index
from support.server.upstream import Upstream, upstream
from support.waiting import wait_for

NAMES = [f"repo-{number}" for number in range(20)]


@pytest.fixture(scope="module")
def other() -> Iterator[Upstream]:
    with upstream() as index:
        yield index


@dataclass
class Place:
    """An empty repo of the server, and the server's policies."""

    server: Server
    policies: PolicyFile
    config: str
    name: str

    @property
    def client(self) -> IndexClient:
        return IndexClient.of(self.server, self.name)

    @property
    def storage(self) -> Path:
        return self.server.root / "cache" / self.name / "storage"

    def apply(self, *policies: dict[str, object]) -> None:
        """Have the server apply these policies to this repo alone."""
        self.policies.serve(self.server, self.config, *({**policy, "repos": [self.name]} for policy in policies))

    def page(self, project: str) -> dict[str, Any]:
        reply = self.client.get(f"{project}/")
        assert reply.status == 200, reply
        found: dict[str, Any] = reply.json()
        return found

    def versions(self, project: str) -> list[str]:
        found: list[str] = self.page(project)["versions"]
        return found

    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = call(f"{self.server.internal_url}/config").json()
        return found


@pytest.fixture(scope="module")
def places(tmp_path_factory, other: Upstream) -> Iterator[Iterator[Place]]:
    folder = tmp_path_factory.mktemp("policies")
    policies = PolicyFile(folder / "policies.json")
    policies.write()
    config = policies.config("\n".join(table(name) for name in NAMES))
    with running(folder, ["--internal_port=0", f"--extra_index_url={other.url}"], config=config) as server:
        yield iter([Place(server, policies, config, name) for name in NAMES])


@pytest.fixture
def place(places: Iterator[Place]) -> Place:
    return next(places)


def tree(folder: Path) -> dict[str, str]:
    """Return the digests of a folder's files by path."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_withheld_file_is_refused_in_our_words(place, tmp_path):
    client = place.client
    for version in ("1.0", "2.0"):
        assert client.upload(wheel(tmp_path, "foo", version)).status == 200
    until = time.time() + 86_400
    loosened = {"project": "foo", "versions": "==1.0", "of": ["Deny"], "until": until, "reason": "in use"}
    place.apply(deny("foo", exceptions=[loosened]))
    assert place.versions("foo") == ["1.0"]
    assert client.download("foo", "foo-1.0-py3-none-any.whl").status == 200
    detail = "Withheld by Deny of the policy security/deny: stolen release"
    for suffix in ("", ".metadata"):
        reply = client.get(f"foo/foo-2.0-py3-none-any.whl{suffix}")
        assert (reply.status, reply.reason) == (403, detail)
        assert reply.json() == {
            "type": "urn:pywharf:problem:withheld",
            "title": "Refused by policy",
            "status": 403,
            "detail": detail,
            "policy": "security/deny",
            "rule": "Deny",
            "reason": "stolen release",
            "until": None,
        }
        assert reply.header("Cache-Control") == "no-store"
    reply = client.get("foo/foo-2.0-py3-none-any.whl", Accept="text/html")
    assert (reply.status, detail in reply.body.decode()) == (403, True)
    etag = f'"{hashlib.sha256(wheel(tmp_path, "foo", "2.0").read_bytes()).hexdigest()}"'
    for headers in ({"If-None-Match": etag}, {"If-None-Match": "*"}, {"Range": "bytes=0-1"}):
        assert client.get("foo/foo-2.0-py3-none-any.whl", **headers).status == 403


def test_a_hostile_reason_cannot_split_the_answer(place, tmp_path):
    path = wheel(tmp_path, "foo")
    assert place.client.upload(path).status == 200
    reason = 'x\r\nSet-Cookie: a=b\r\n\r\n<script>alert("ä")</script>\x00\x1b[31m' + "y" * 400
    place.apply(deny("foo", reason=reason))
    target = f"/repo/{place.name}/simple/foo/{path.name}"
    authorization = f"Authorization: {basic(f'{place.name}:{place.name}-read')}"
    for accept in ("*/*", "text/html"):
        lines = ["Host: x", authorization, f"Accept: {accept}", "Connection: close"]
        received = raw(place.server.url, request_head("GET", target, lines))
        head, _, body = received.partition(b"\r\n\r\n")
        status, *headers = head.decode("ascii").split("\r\n")
        assert status.startswith("HTTP/1.1 403 Withheld by Deny of the policy security/deny: x  Set-Cookie: a=b")
        assert len(status) <= 220
        assert status.isprintable()
        assert not [line for line in headers if line.lower().startswith("set-cookie")]
        assert b"<script>" not in body or accept == "*/*"
    page = place.page("foo")
    assert page["_pywharf"]["withheld"][0]["reason"] == reason
    assert b"script" not in place.client.get("foo/", Accept="text/html").body


def test_a_release_matures_while_clients_poll_without_any_write(place, other, tmp_path):
    old, new = (wheel(tmp_path, "ripe", version) for version in ("1.0", "2.0"))
    age, left = 100, 3.0
    began = time.time()
    other.offer("ripe", old, new, uploaded={new.name: rfc3339(began - age + left)})
    place.apply(cooldown(age))
    before, seen = tree(place.storage), []

    def is_shown() -> bool:
        asked = time.time()
        shown = "2.0" in place.versions("ripe")
        seen.append((asked, time.time(), shown))
        return shown

    wait_for(is_shown, "the release to mature")
    assert all(ended >= began + left for _, ended, shown in seen if shown), "never too early"
    assert not [asked for asked, _, shown in seen if asked >= began + left and not shown], "at the first request after"
    assert other.asked("ripe") == 1
    assert tree(place.storage) == before


def test_an_exception_ends_on_time(place, tmp_path):
    path = wheel(tmp_path, "foo")
    assert place.client.upload(path).status == 200
    until = time.time() + 3.0
    exception = {"project": "foo", "of": ["Deny"], "until": until, "reason": "one more hour"}
    place.apply(deny("foo", exceptions=[exception]))
    seen = []

    def is_over() -> bool:
        asked = time.time()
        is_shown = place.versions("foo") == ["1.0"]
        is_refused: bool = place.client.download("foo", path.name).status == 403
        seen.append((asked, time.time(), is_shown, is_refused))
        return is_refused

    wait_for(is_over, "the exception to end")
    assert [s for s in seen if s[1] < until and s[2:] != (True, False)] == []
    assert [s for s in seen if s[0] >= until and s[2:] != (False, True)] == []
    assert place.client.projects() == []


def test_upstream_pages_change_at_once_with_the_policies(place, other, tmp_path):
    other.offer("taken", *(wheel(tmp_path, "taken", version) for version in ("1.0", "2.0")))
    assert place.versions("taken") == ["1.0", "2.0"]
    place.apply(deny("taken", "==2.0"))
    assert place.versions("taken") == ["1.0"]
    place.apply({"name": "security/list", "allow_only": ["torch*"]})
    assert (place.versions("taken"), place.page("taken")["files"]) == ([], [])
    place.apply()
    assert place.versions("taken") == ["1.0", "2.0"]
    assert other.asked("taken") == 1


def test_nothing_of_a_policy_is_written(place, tmp_path):
    client = place.client
    for version in ("1.0", "2.0"):
        assert client.upload(wheel(tmp_path, "foo", version)).status == 200
    finished(update_index(place.server.root, name=place.name))
    wait_for(lambda: place.versions("foo") == ["1.0", "2.0"], "the index")
    plain, before = place.page("foo"), tree(place.storage)
    overlay = {
        "name": "team/overlay",
        "yank": [{"project": "foo", "versions": "<2", "reason": "broken"}],
        "status": [{"project": "foo", "status": "archived", "reason": "use bar"}],
    }
    place.apply(overlay, deny("foo", "==2.0"))
    page = place.page("foo")
    assert [file["yanked"] for file in page["files"]] == ["broken"]
    assert page["project-status"] == {"status": "archived", "reason": "use bar"}
    assert [one["filename"] for one in page["_pywharf"]["withheld"]] == ["foo-2.0-py3-none-any.whl"]
    reply = client.upload(wheel(tmp_path, "foo", "3.0"))
    assert (reply.status, reply.reason) == (403, "The project 'foo' is archived and takes no uploads: use bar")
    assert '"changed":false' in finished(update_index(place.server.root, name=place.name))
    assert tree(place.storage) == before
    place.apply()
    assert place.page("foo") == plain


def test_a_change_of_the_storage_is_the_storage_s_own(place, tmp_path):
    """The changes API works on files that a policy withholds, and its yank keeps its own reason."""
    assert place.client.upload(wheel(tmp_path, "foo")).status == 200
    place.apply(deny("foo"))
    assert place.client.change("foo", "yank", version="1.0", reason="ours").status == 200
    assert place.versions("foo") == []
    place.apply({"name": "team/yank", "yank": [{"project": "foo", "reason": "theirs"}]})
    assert [file["yanked"] for file in place.page("foo")["files"]] == ["ours"]


def test_what_is_withheld_is_reported_and_measured(place, other, tmp_path):
    other.offer("wide", *(wheel(tmp_path, "wide", f"{n}.0") for n in range(3)))
    assert place.client.upload(wheel(tmp_path, "own")).status == 200
    place.apply(deny("own"), cooldown(3600 * 24 * 3650))
    place.versions("wide")
    place.versions("own")
    assert place.report()["policies"] == {
        "security/deny": {"files": 1, "projects": 1},
        "security/slow": {"files": 3, "projects": 1},
    }
    assert metric(place.server, "pywharf_withheld_files", "Cooldown", internal=True) == 3
    before = metric(place.server, "pywharf_refused_downloads_total", "Deny", internal=True)
    assert place.client.download("own", "own-1.0-py3-none-any.whl").status == 403
    assert metric(place.server, "pywharf_refused_downloads_total", "Deny", internal=True) == before + 1
    place.apply(deny("own"))
    assert place.report()["policies"] == {"security/deny": {"files": 1, "projects": 1}}
    place.apply()
    assert place.report()["policies"] == {}
    assert metric(place.server, "pywharf_withheld_files", "Deny", internal=True) == 0


def test_until_a_server_has_its_policies_it_serves_nothing(tmp_path):
    policies = PolicyFile(tmp_path / "policies.json")
    digest = policies.write(deny("foo"))
    tables = f'policies_digest = "{digest}"\n{table("team")}'
    config = policies.config(tables)
    policies.path.unlink()
    with running(tmp_path, ["--internal_port=0"], config=config) as server:
        for _ in range(2):
            assert call(f"{server.internal_url}/readyz").status == 503
            assert IndexClient.of(server, "team").get().status in {401, 503}
            policies.write(deny("other"))
            wait_for(lambda: re.search(r"The policies of \S+ have the digest", server.text()), "the refusal")
        policies.write(deny("foo"))
        wait_for(lambda: call(f"{server.internal_url}/readyz").status == 200, "the policies")
        client = IndexClient.of(server, "team")
        assert client.upload(wheel(tmp_path, "foo")).status == 200
        assert client.projects() == []
        assert call(f"{server.internal_url}/config").json()["digest"] == config_digest(config, "")
        refused = metric(server, "pywharf_config_reloads_total", "refused", internal=True)
        policies.path.write_text("{")
        wait_for(
            lambda: metric(server, "pywharf_config_reloads_total", "refused", internal=True) > refused, "the refusal"
        )
        assert client.projects() == []
